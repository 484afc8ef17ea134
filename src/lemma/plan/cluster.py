"""What the trainer's flags say of where a run computes, before there is a trainer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lemma.compatibility import PRECISIONS, SHARDED


@dataclass(frozen=True)
class Cluster:
    """What the trainer's flags say.

    Attributes:
        strategy: Name of Lightning's strategy, or of its class.
        precision: Lightning's name in full, such as ``bf16-mixed``.
        ranks: Devices of all nodes.
        accumulate: Micro-batches an optimiser step and rank.
        max_steps: Optimiser steps after which training ends, or None.
        max_epochs: Epochs after which it ends, or None.
        device: Type of the devices.
    """

    strategy: str
    precision: str
    ranks: int
    accumulate: int
    max_steps: int | None
    max_epochs: int | None
    device: str = "cpu"

    @property
    def shards_states(self) -> bool:
        """Return whether each device holds a share of the gradients and the optimiser's states."""
        return self.strategy in SHARDED

    @property
    def shards_weights(self) -> bool:
        """Return whether each device holds a share of the weights in a step, too; ZeRO stage 2 gathers all."""
        return self.shards_states and self.strategy not in ("zero2", "deepspeed_stage_2", "DeepSpeedShards")


def cluster_of(trainer: Mapping[str, Any]) -> Cluster:
    """Return what the trainer's flags say.

    Args:
        trainer: Arguments of Lightning's ``Trainer``; a strategy may be a name or an object.
    """
    strategy, precision = trainer.get("strategy") or "auto", str(trainer.get("precision"))
    max_steps, max_epochs = trainer.get("max_steps"), trainer.get("max_epochs")
    if max_epochs is None and max_steps in (None, -1):
        max_epochs = 1000  # Lightning's own
    return Cluster(
        strategy=strategy if isinstance(strategy, str) else type(strategy).__name__,
        precision=PRECISIONS.get(precision, precision),
        ranks=_devices(trainer.get("devices")) * int(trainer.get("num_nodes") or 1),
        accumulate=trainer.get("accumulate_grad_batches") or 1,
        max_steps=None if max_steps in (None, -1) else max_steps,
        max_epochs=None if max_epochs in (None, -1) else max_epochs,
        device=_device(str(trainer.get("accelerator") or "auto")),
    )


def _device(accelerator: str) -> str:
    """Return the type of device that is meant, whether this machine has one or not."""
    is_cuda = torch.cuda.is_available() if accelerator == "auto" else accelerator in ("gpu", "cuda")
    return "cuda" if is_cuda else "cpu"


def _devices(devices: Any) -> int:
    """Return the number of devices of a node; ``auto`` and -1 are all GPUs, or one CPU."""
    if isinstance(devices, list | tuple):
        return len(devices)
    text = str(devices)
    if text.isdigit():
        return int(text)
    if "," in text:
        return len([part for part in text.split(",") if part.strip()])
    return max(1, torch.cuda.device_count())
