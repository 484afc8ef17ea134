"""How bitsandbytes stores a frozen base in 8 or 4 bits: what it is told, and what has to be set right afterwards."""

from typing import TYPE_CHECKING

from torch import nn

from lemma.policy.args import QuantizationArgs

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel


def bitsandbytes_config(args: QuantizationArgs) -> "BitsAndBytesConfig":
    """Return what ``from_pretrained`` needs to quantise while it loads.

    Args:
        args: Of method int8 or nf4.
    """
    from transformers import BitsAndBytesConfig

    if args.method == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=args.double,
        bnb_4bit_compute_dtype=None if args.compute_dtype == "auto" else args.compute_dtype,
        bnb_4bit_quant_storage=args.storage_dtype,
    )


def set_up_4bit_layers(model: "PreTrainedModel", args: QuantizationArgs) -> None:
    """Let 4-bit layers compute in the base's data type under ``auto``, and train right after they were evaluated.

    On a CPU with AVX512-BF16 bitsandbytes repacks the weights in place at the first forward pass in evaluation mode;
    from then on a training pass raises, or gives gradients that miss what flows through the base. The faster layout is
    given up for that.

    Args:
        model: As loaded; changed in place.
        args: How it was quantised.
    """
    for module in model.modules():
        if type(module).__name__ != "Linear4bit":
            continue
        module.support_avx512bf16_for_cpu = False
        if args.method == "nf4" and args.compute_dtype == "auto":
            module.compute_dtype = model.config.dtype


def is_quantized(parameter: nn.Parameter) -> bool:
    """Return whether a parameter holds the bits of quantised weights, whatever data type it is labelled with."""
    return type(parameter).__name__ in ("Params4bit", "Int8Params")


def has_quantized(model: nn.Module) -> bool:
    """Return whether a layer's weight is quantised, registered as a parameter or, beside partitioned ones, not."""
    return any(is_quantized(getattr(module, "weight", None)) for module in model.modules())


def is_int8_on_cpu(model: nn.Module) -> bool:
    """Return whether the model has 8-bit layers on a CPU.

    Args:
        model: As loaded.
    """
    return any(type(p).__name__ == "Int8Params" and p.device.type == "cpu" for p in model.parameters())
