"""Builds the optimiser and the learning-rate schedule."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lemma.types import InputError

OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit")
SCHEDULES = ("linear", "cosine", "constant")

_NO_DECAY = re.compile(r"bias$|norm|\bln_|magnitude_vector")


@dataclass(frozen=True)
class OptimizerArgs:
    """AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) and its schedule."""

    name: str = "adamw"
    """adamw (torch), adamw_8bit (its state in 8 bits, Dettmers et al. 2021, arXiv:2110.02861), paged_adamw or
    paged_adamw_8bit (state moves to the host when a GPU's memory is full); the last three are bitsandbytes'."""
    lr: float = 2e-4
    """Peak learning rate."""
    lora_plus_ratio: float | None = None
    """LoRA+ (Hayou et al. 2024, arXiv:2402.12354): the learning rate of B is this times lr, which stays that of A; the
    paper suggests about 16."""
    fused: bool | None = None
    """One kernel for the whole update, adamw only; null uses it wherever it works."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running averages of the gradient and its square."""
    eps: float = 1e-8
    """Added to the denominator."""
    weight_decay: float = 0.0
    """Decoupled weight decay; biases, norms and DoRA's magnitudes are not decayed."""
    schedule: str = "cosine"
    """After warm-up: linear or cosine to 0, or constant."""
    warmup_steps: int | None = None
    """Optimiser steps of linear warm-up; give this or warmup_ratio."""
    warmup_ratio: float | None = None
    """Share of all optimiser steps, in [0, 1)."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: If a value is out of range or both kinds of warm-up are given.
        """
        if self.name not in OPTIMIZERS:
            raise InputError(f"model.optimizer.name: expected one of {', '.join(OPTIMIZERS)}, but got {self.name!r}.")
        if self.fused and self.name != "adamw":
            raise InputError(f"model.optimizer.fused: only adamw has a fused kernel, but name is {self.name}.")
        if self.lora_plus_ratio is not None and self.lora_plus_ratio <= 0:
            raise InputError(f"model.optimizer.lora_plus_ratio: expected more than 0, but got {self.lora_plus_ratio}.")
        if self.lr <= 0:
            raise InputError(f"model.optimizer.lr: expected more than 0, but got {self.lr}.")
        if self.schedule not in SCHEDULES:
            raise InputError(
                f"model.optimizer.schedule: expected one of {', '.join(SCHEDULES)}, but got {self.schedule!r}."
            )
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise InputError("model.optimizer: give warmup_steps or warmup_ratio, not both.")
        if self.warmup_steps is not None and self.warmup_steps < 0:
            raise InputError(f"model.optimizer.warmup_steps: expected at least 0, but got {self.warmup_steps}.")
        if self.warmup_ratio is not None and not 0 <= self.warmup_ratio < 1:
            raise InputError(f"model.optimizer.warmup_ratio: expected a value in [0, 1), but got {self.warmup_ratio}.")

    def num_warmup_steps(self, num_steps: int) -> int:
        """Return the warm-up in optimiser steps.

        Args:
            num_steps: Optimiser steps of the whole run.
        """
        return self.warmup_steps if self.warmup_steps is not None else round((self.warmup_ratio or 0.0) * num_steps)


def build_optimizer(
    module: nn.Module, args: OptimizerArgs, *, num_steps: int | float, may_fuse: bool = True
) -> dict[str, Any]:
    """Return what ``LightningModule.configure_optimizers`` returns.

    Args:
        module: Holds the parameters; those that require a gradient are trained.
        args: Optimiser and schedule.
        num_steps: Optimiser steps of the whole run; infinite only with a constant schedule.
        may_fuse: Whether a fused kernel works here, where ``args.fused`` leaves it open.

    Raises:
        InputError: If the schedule needs an end and the run has none.
    """
    from transformers import get_scheduler  # imports peft and bitsandbytes, which the command line's help does not need

    if num_steps == float("inf") and args.schedule != "constant":
        raise InputError("model.optimizer.schedule: a run without end needs `constant`; or set --trainer.max_steps.")
    optimizer = _optimizer_class(args, may_fuse)(
        parameter_groups(module, args), lr=args.lr, betas=args.betas, eps=args.eps, weight_decay=args.weight_decay
    )
    finite = 0 if num_steps == float("inf") else int(num_steps)
    name = "constant_with_warmup" if args.schedule == "constant" else args.schedule
    scheduler = get_scheduler(
        name, optimizer, num_warmup_steps=args.num_warmup_steps(finite), num_training_steps=finite
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def parameter_groups(module: nn.Module, args: OptimizerArgs) -> list[dict[str, Any]]:
    """Return the trained parameters by learning rate and weight decay, the plain ones first.

    Args:
        module: Holds the parameters.
        args: Learning rates and decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(args.lr, args.weight_decay): []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            lr = args.lr * (args.lora_plus_ratio or 1.0) if _is_lora_b(name) else args.lr
            decay = 0.0 if _NO_DECAY.search(name) else args.weight_decay
            groups.setdefault((lr, decay), []).append(parameter)
    return [{"params": some, "lr": lr, "weight_decay": decay} for (lr, decay), some in groups.items() if some]


def _is_lora_b(name: str) -> bool:
    return "lora_B." in name or "lora_embedding_B." in name


def _optimizer_class(args: OptimizerArgs, may_fuse: bool) -> Callable[..., Optimizer]:
    if args.name == "adamw":
        return functools.partial(torch.optim.AdamW, fused=may_fuse if args.fused is None else args.fused)
    from bitsandbytes import optim

    classes = {
        "adamw_8bit": optim.AdamW8bit,
        "paged_adamw": optim.PagedAdamW,
        "paged_adamw_8bit": optim.PagedAdamW8bit,
    }
    return classes[args.name]
