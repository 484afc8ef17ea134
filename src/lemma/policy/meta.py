"""The policy without its weights: its true shape on the meta device, where a tensor has a size and takes no memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from lemma.policy.architecture import cached_elements, load_config
from lemma.policy.args import PolicyArgs
from lemma.policy.fused_swiglu import is_swiglu
from lemma.policy.load import wrap_fresh, wrap_lora
from lemma.policy.merging import merged_bytes
from lemma.policy.multimodal import modules_beside_text

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class PolicySizes:
    """What a policy consists of, in elements.

    Attributes:
        frozen: Elements and bytes an element of each frozen tensor that is stored as it is.
        quantized: (outputs, inputs) of each frozen matrix that is stored in 8 or 4 bits.
        trained: Elements and bytes an element of each trained tensor.
        linear: (outputs, inputs) of each linear layer of the base, the head left out.
        adapted: (inputs, rank) of each layer with an adapter.
        layers: Decoder layers.
        norms: Normalisations over the whole hidden state in the decoder.
        hidden: Width of the hidden state.
        queries: Width of all query heads together, as of keys and values once they are repeated.
        mlp: Width inside the feed-forward network.
        gated: Whether that is a gated one that keeps its gate before and after the activation: all but a fused SwiGLU.
        vocab: Tokens of the head.
        cached: Keys and values that a token leaves in the cache, of all layers together.
        merged: Bytes of the weights that are copied while the adapter is merged (``policy.merging``), 0 if it is not.
    """

    frozen: list[tuple[int, int]]
    quantized: list[tuple[int, int]]
    trained: list[tuple[int, int]]
    linear: list[tuple[int, int]]
    adapted: list[tuple[int, int]]
    layers: int
    norms: int
    hidden: int
    queries: int
    mlp: int
    gated: bool
    vocab: int
    cached: int
    merged: int

    @property
    def num_trained(self) -> int:
        """Return the trained parameters."""
        return sum(count for count, _ in self.trained)

    @property
    def num_frozen(self) -> int:
        """Return the frozen parameters, quantised or not."""
        return sum(count for count, _ in self.frozen) + sum(rows * columns for rows, columns in self.quantized)


def meta_model(args: PolicyArgs, config: "PreTrainedConfig | None" = None) -> nn.Module:
    """Return the model that ``load.load_model`` would train, without weights and unquantised.

    Args:
        args: What to load and what to train.
        config: The base's configuration; None reads it from the hub, its cache or a folder.

    Raises:
        InputError: If there is no configuration, or the adapter does not fit.
    """
    from peft import PeftConfig
    from transformers import AutoModelForCausalLM

    config = config or load_config(args.base, args.revision, args.trust_remote_code)
    dtype = (config.dtype or torch.float32) if args.dtype == "auto" else getattr(torch, args.dtype)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=args.trust_remote_code)
        for name in modules_beside_text(model):
            model.get_submodule(name).requires_grad_(False)
        if args.adapter is not None:
            adapter = PeftConfig.from_pretrained(args.adapter)
            adapter.inference_mode = False
            return wrap_lora(model, adapter, f"{Path(args.adapter) / 'adapter_config.json'}: target_modules")
        return wrap_fresh(model, args.lora) if args.method == "lora" else model


def policy_sizes(model: nn.Module, args: PolicyArgs) -> PolicySizes:
    """Return what the model consists of.

    Args:
        model: From ``meta_model``.
        args: What it was made from; says whether frozen matrices are quantised: all linear layers but the head, as
            transformers does.
    """
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    base = model.get_base_model() if isinstance(model, PeftModel) else model
    adapters = [module for module in base.modules() if isinstance(module, LoraLayer)]
    linear = _linear_layers(base)
    matrices = {id(module.weight): shape for module, shape in linear.items()}
    stored_in_bits = set(matrices) if args.quantization.method != "none" else set()
    frozen = [p for p in model.parameters() if not p.requires_grad]
    decoder = base.get_decoder()
    shapes = [shape for module, shape in _linear_layers(decoder).items()]
    config = base.config.get_text_config()
    mlp = max((rows for rows, _ in shapes), default=config.hidden_size)
    heads = config.num_attention_heads
    return PolicySizes(
        frozen=[(p.numel(), p.element_size()) for p in frozen if id(p) not in stored_in_bits],
        quantized=[matrices[id(p)] for p in frozen if id(p) in stored_in_bits],
        trained=[(p.numel(), p.element_size()) for p in model.parameters() if p.requires_grad],
        linear=list(matrices.values()),
        adapted=[(layer.in_features, layer.r["default"]) for layer in adapters],
        layers=config.num_hidden_layers,
        norms=sum(_is_norm(module, config.hidden_size) for module in decoder.modules()),
        hidden=config.hidden_size,
        queries=heads * (getattr(config, "head_dim", None) or config.hidden_size // heads),
        mlp=mlp,
        gated=sum(rows == mlp for rows, _ in shapes) >= 2 * config.num_hidden_layers
        and not any(map(is_swiglu, decoder.modules())),
        vocab=config.vocab_size,
        cached=cached_elements(base.config),
        merged=0 if stored_in_bits else merged_bytes(model),
    )


def _linear_layers(model: "PreTrainedModel") -> dict[nn.Module, tuple[int, int]]:
    """Return (outputs, inputs) of the linear layers beneath the adapters, without the head."""
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    found = {}
    for name, module in model.named_modules():
        if module is head or ".lora_" in name:
            continue
        if type(module) is nn.Linear:
            found[module] = (module.out_features, module.in_features)
        elif isinstance(module, Conv1D):  # GPT-2's, stored the other way round
            found[module] = (module.weight.shape[1], module.weight.shape[0])
    return found


def _is_norm(module: nn.Module, hidden: int) -> bool:
    weight = getattr(module, "weight", None)
    return type(module).__name__.endswith("Norm") and weight is not None and weight.numel() == hidden
