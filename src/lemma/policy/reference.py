"""Decides what the reference of a policy is: its base without adapter, a frozen copy of its adapter, or a second model.

A fresh adapter starts as the identity, so its reference is the base with adapters off, and costs nothing. An adapter
that is continued has itself as it was loaded, under another name on the same base. Full fine-tuning has the base a
second time. Nothing here changes which parameters take gradients: DDP and FSDP rely on it from their set-up on.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lemma.policy.args import PolicyArgs
from lemma.policy.load import float32_by_default, load_base
from lemma.types import InputError

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

REFERENCE = "reference"
"""Name of the frozen adapter; the trained one is PEFT's ``default``."""


def load_reference(args: PolicyArgs, device: torch.device) -> nn.Module:
    """Return the base again, frozen and in evaluation mode, as reference of full fine-tuning.

    Args:
        args: Of the policy.
        device: As for ``load.load_base``.
    """
    return load_base(dataclasses.replace(args, gradient_checkpointing=False), device).requires_grad_(False).eval()


def copy_adapter(model: "PeftModel") -> None:
    """Add a frozen copy of the adapter as it is now, in its data type; the adapter stays active and trained.

    Args:
        model: With an adapter ``default``.

    Raises:
        InputError: If the adapter's configuration also trains weights of the base, which have no second copy.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    config = copy.deepcopy(model.peft_config["default"])
    for name, absent in (("bias", "none"), ("modules_to_save", None), ("trainable_token_indices", None)):
        if (value := getattr(config, name, absent)) != absent and value:
            raise InputError(
                f"model.policy.adapter: its {name} is {value}, so that weights of the base change, and policy and "
                "reference have one base. Merge the adapter into the base, and start from that."
            )
    config.inference_mode = True
    weights = get_peft_model_state_dict(model, adapter_name="default")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), float32_by_default():
        model.add_adapter(REFERENCE, config)  # initialises what is overwritten next
    set_peft_model_state_dict(model, weights, adapter_name=REFERENCE)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)


@contextlib.contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Let a PEFT model compute what its base does.

    Args:
        model: With adapters that are not merged.
    """
    with _set(_tuner_layers(model), "_disable_adapters", True):
        yield


@contextlib.contextmanager
def reference_adapter(model: nn.Module) -> Iterator[None]:
    """Let a PEFT model compute with the frozen adapter of ``copy_adapter``."""
    with _set(_tuner_layers(model), "_active_adapter", [REFERENCE]):
        yield


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and each module back in the mode that it had.

    8-bit layers stay in training mode, in which a CPU computes what is trained on: in evaluation mode bitsandbytes
    rounds activations to 8 bits there, which moves log-probabilities by 2e-3.

    Args:
        model: Its modules may have any mixture of modes.
    """
    modules = [module for module in model.modules() if type(module).__name__ != "Linear8bitLt" or _has_adapter(module)]
    with _set(modules, "training", False):
        yield


@contextlib.contextmanager
def _set(modules: list[nn.Module], attribute: str, value: Any) -> Iterator[None]:
    """Set an attribute of modules, past their methods and properties, and put each one's own value back."""
    before = [getattr(module, attribute) for module in modules]
    try:
        for module in modules:
            setattr(module, attribute, value)
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            setattr(module, attribute, own)


def _has_adapter(module: nn.Module) -> bool:
    return hasattr(module, "lora_A")  # PEFT's layer around an 8-bit one has the same name, and the adapter's dropout


def _tuner_layers(model: nn.Module) -> list["BaseTunerLayer"]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
