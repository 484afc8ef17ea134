"""Loads a base model, quantised or not, and wraps it: LoRA from scratch, from an existing adapter, or all weights."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from lemma.assets import resolve_base
from lemma.policy.architecture import load_config
from lemma.policy.args import LoraArgs, PolicyArgs
from lemma.policy.fused_swiglu import fuse_swiglu
from lemma.policy.multimodal import modules_beside_text
from lemma.policy.quantization import bitsandbytes_config, is_int8_on_cpu, set_up_4bit_layers
from lemma.types import InputError

if TYPE_CHECKING:  # both take a second to import, and the command line's help needs neither
    from peft import LoraConfig
    from transformers import PreTrainedModel

_CPU = torch.device("cpu")
DORA_ON_INT8 = (
    "model.policy.lora.use_dora: DoRA cannot be trained on int8 weights on a CPU, where PEFT loses their scales. Use "
    "--model.policy.quantization.method nf4 or none, or a GPU, or LoRA without DoRA."
)
_LOGIT_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier", "mup_width_multiplier", "output_multiplier")


def load_base(args: PolicyArgs, device: torch.device = _CPU) -> "PreTrainedModel":
    """Return the base model, in evaluation mode.

    Args:
        args: Which base, in which precision.
        device: Where a quantised base is quantised and stays; another one loads where torch puts new tensors.

    Raises:
        InputError: If it cannot be found or read, lacks weights that transformers would fill with random numbers,
            scales its logits in a way that the chunked head does not know, or is to be quantised twice.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    name = resolve_base(args.base)
    quantized = {}
    if args.quantization.method != "none":
        if getattr(load_config(args.base, args.revision, args.trust_remote_code), "quantization_config", None):
            raise InputError(
                f"model.policy.quantization.method: {args.base!r} is stored quantised already; set method none."
            )
        quantized = {"quantization_config": bitsandbytes_config(args.quantization), "device_map": {"": device}}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            name,
            revision=args.revision,
            dtype=args.dtype if args.dtype == "auto" else getattr(torch, args.dtype),
            attn_implementation=args.attn_implementation,
            trust_remote_code=args.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **quantized,
        )
    except ImportError as error:
        if args.attn_implementation is None:
            raise InputError(f"model.policy.base: no model could be loaded from {args.base!r}: {error}") from error
        raise InputError(
            f"model.policy.attn_implementation: {args.attn_implementation} cannot be used here: {error} Use sdpa."
        ) from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"model.policy.base: no model could be loaded from {args.base!r}: {error}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise InputError(f"model.policy.base: {args.base!r} lacks {len(missing)} weights, first {missing[0]}.")
    text_config = model.config.get_text_config()
    for key in _LOGIT_SCALES:
        if getattr(text_config, key, None) not in (None, 1, 1.0):
            raise InputError(f"model.policy.base: {args.base!r} sets {key}, which Lemma's head does not apply.")
    if args.method == "full" and getattr(model.config, "quantization_config", None):
        raise InputError(f"model.policy.base: {args.base!r} is stored quantised; only method lora trains on it.")
    set_up_4bit_layers(model, args.quantization)
    fuse_swiglu(model)
    return model


def load_model(args: PolicyArgs, device: torch.device = _CPU) -> nn.Module:
    """Return the trainable model, in training mode: a PEFT model, or the base itself for full fine-tuning.

    Under LoRA the base keeps its data types: nothing of it is cast to float32 (PEFT's preparation for k-bit training
    would cast embeddings, norms and head), the adapter's own weights are float32, and checkpointing is the
    non-reentrant kind, which asks for no gradient of the embeddings.

    Args:
        args: What to load and what to train.
        device: Where a quantised base is put.

    Raises:
        InputError: As ``load_base``; also if an adapter does not fit the base.
    """
    model = load_base(args, device)
    for name in modules_beside_text(model):
        model.get_submodule(name).requires_grad_(False)
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if args.adapter is not None:
        model = _wrap_existing(model, Path(args.adapter), args.base)
    elif args.method == "lora":
        model = wrap_fresh(model, args.lora)
    return model.train()  # from_pretrained returns eval mode, in which gradient checkpointing does nothing


def wrap_fresh(model: "PreTrainedModel", lora: LoraArgs) -> nn.Module:
    """Return the base with new adapters.

    Raises:
        InputError: If a target module's name is none of the base's.
    """
    from peft import LoraConfig

    if isinstance(lora.target_modules, list):
        names = [name for name, _ in model.named_modules()]
        for target in lora.target_modules:
            if not any(f".{name}".endswith(f".{target}") for name in names):
                raise InputError(f"model.policy.lora.target_modules: no layer of {type(model).__name__} is {target!r}.")
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        exclude_modules="|".join(rf"{re.escape(name)}(\..*)?" for name in modules_beside_text(model)) or None,
    )
    return wrap_lora(model, config, "model.policy.lora.target_modules")


def wrap_lora(model: "PreTrainedModel", config: "LoraConfig", key: str) -> nn.Module:
    """Return the base with the adapters of a PEFT configuration, their initial weights in float32.

    Args:
        model: The base.
        config: Rank, targets, variant.
        key: Where the targets were named, for the error.

    Raises:
        InputError: If no target is found, or DoRA is to be trained on 8-bit weights on a CPU.
    """
    from peft import get_peft_model

    from lemma.policy.fused_lora import fuse  # imports PEFT

    if config.use_dora and is_int8_on_cpu(model):
        raise InputError(DORA_ON_INT8)
    with warnings.catch_warnings(), float32_by_default():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")  # PEFT sets it right for Conv1D
        try:
            wrapped = get_peft_model(model, config)
        except ValueError as error:  # PEFT: target modules not found in the base model
            raise InputError(f"{key}: {error}") from error
    fuse(wrapped)
    return wrapped


@contextlib.contextmanager
def float32_by_default() -> Iterator[None]:
    """Make new weights float32, so that an adapter begins the same whatever precision Lightning makes modules in."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _wrap_existing(model: "PreTrainedModel", folder: Path, base: str) -> nn.Module:
    """Wrap the base with a saved adapter, and refuse one whose weights do not match it key by key."""
    from peft import LoraConfig, PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / 'adapter_config.json'}: not a PEFT configuration: {error!r}") from error
    if not isinstance(config, LoraConfig):
        raise InputError(f"{folder / 'adapter_config.json'}: expected peft_type LORA, but got {config.peft_type}.")
    if config.base_model_name_or_path not in (None, base, resolve_base(base)):
        warnings.warn(
            f"{folder} was trained on {config.base_model_name_or_path!r}, but model.policy.base is {base!r}.",
            stacklevel=2,
        )
    config.inference_mode = False
    wrapped = wrap_lora(model, config, f"{folder / 'adapter_config.json'}: target_modules")
    expected = {name: tuple(tensor.shape) for name, tensor in get_peft_model_state_dict(wrapped).items()}
    try:
        weights = load_file(folder / "adapter_model.safetensors")
    except SafetensorError as error:
        raise InputError(f"{folder / 'adapter_model.safetensors'}: not a whole safetensors file: {error}") from error
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        name = wrong[0]
        raise InputError(
            f"{folder / 'adapter_model.safetensors'}: the adapter does not fit the base {base!r}. {len(wrong)} weights "
            f"differ, first {name}: adapter {found.get(name, 'absent')}, base {expected.get(name, 'absent')}."
        )
    set_peft_model_state_dict(wrapped, weights)
    return wrapped
