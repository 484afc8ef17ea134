"""Loads a base model and wraps it: LoRA from scratch, from an existing adapter, or all weights."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from lemma.assets import resolve_base
from lemma.policy.args import LoraArgs, PolicyArgs
from lemma.types import InputError

if TYPE_CHECKING:  # both take a second to import, and the command line's help needs neither
    from peft import LoraConfig
    from transformers import PreTrainedModel

_LOGIT_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier", "mup_width_multiplier", "output_multiplier")


def load_base(args: PolicyArgs) -> "PreTrainedModel":
    """Return the base model, in evaluation mode.

    Raises:
        InputError: If it cannot be found or read, lacks weights that transformers would fill with random numbers, or
            scales its logits in a way that the chunked head does not know.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    name = resolve_base(args.base)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            name,
            revision=args.revision,
            dtype=args.dtype if args.dtype == "auto" else getattr(torch, args.dtype),
            attn_implementation=args.attn_implementation,
            trust_remote_code=args.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise InputError(f"model.policy.base: no model could be loaded from {args.base!r}: {error}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise InputError(f"model.policy.base: {args.base!r} lacks {len(missing)} weights, first {missing[0]}.")
    text_config = model.config.get_text_config()
    for key in _LOGIT_SCALES:
        if getattr(text_config, key, None) not in (None, 1, 1.0):
            raise InputError(f"model.policy.base: {args.base!r} sets {key}, which Lemma's head does not apply.")
    return model


def load_model(args: PolicyArgs) -> nn.Module:
    """Return the trainable model, in training mode: a PEFT model, or the base itself for full fine-tuning.

    Raises:
        InputError: As ``load_base``; also if an adapter does not fit the base.
    """
    model = load_base(args)
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if args.adapter is not None:
        model = _wrap_existing(model, Path(args.adapter), args.base)
    elif args.method == "lora":
        model = _wrap_fresh(model, args.lora)
    return model.train()  # from_pretrained returns eval mode, in which gradient checkpointing does nothing


def _wrap_fresh(model: "PreTrainedModel", lora: LoraArgs) -> nn.Module:
    from peft import LoraConfig

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
    )
    return _wrap(model, config, "model.policy.lora.target_modules")


def _wrap(model: "PreTrainedModel", config: "LoraConfig", key: str) -> nn.Module:
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")  # PEFT sets it right for Conv1D
        try:
            return get_peft_model(model, config)
        except ValueError as error:  # PEFT: target modules not found in the base model
            raise InputError(f"{key}: {error}") from error


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
    wrapped = _wrap(model, config, f"{folder / 'adapter_config.json'}: target_modules")
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
