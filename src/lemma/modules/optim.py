"""Builds the optimiser and the learning-rate schedule."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lemma.types import InputError

SCHEDULES = ("linear", "cosine", "constant")


@dataclass(frozen=True)
class OptimizerArgs:
    """AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) and its schedule."""

    lr: float = 2e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running averages of the gradient and its square."""
    eps: float = 1e-8
    """Added to the denominator."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
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
    parameters: Iterable[nn.Parameter], args: OptimizerArgs, *, num_steps: int | float
) -> dict[str, Any]:
    """Return what ``LightningModule.configure_optimizers`` returns.

    Args:
        parameters: Those to train.
        args: Optimiser and schedule.
        num_steps: Optimiser steps of the whole run; infinite only with a constant schedule.

    Raises:
        InputError: If the schedule needs an end and the run has none.
    """
    from transformers import get_scheduler  # imports peft and bitsandbytes, which the command line's help does not need

    if num_steps == float("inf") and args.schedule != "constant":
        raise InputError("model.optimizer.schedule: a run without end needs `constant`; or set --trainer.max_steps.")
    optimizer = torch.optim.AdamW(
        parameters, lr=args.lr, betas=args.betas, eps=args.eps, weight_decay=args.weight_decay
    )
    finite = 0 if num_steps == float("inf") else int(num_steps)
    name = "constant_with_warmup" if args.schedule == "constant" else args.schedule
    scheduler = get_scheduler(
        name, optimizer, num_warmup_steps=args.num_warmup_steps(finite), num_training_steps=finite
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
