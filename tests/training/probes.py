"""Callbacks for tests: they kill their own process, keep gradients and figures, note modes and normalisers."""

import json
import os
from pathlib import Path
from typing import ClassVar

import torch
from lightning.pytorch import Callback


class SignalAt(Callback):
    """Sends a signal to this process after a number of micro-batches.

    Args:
        batches: Micro-batches of this process before the signal.
        signum: The signal.
        rank: The rank that sends it to itself.
    """

    def __init__(self, batches: int, signum: int, rank: int = 0) -> None:
        self.batches = batches
        self.signum = signum
        self.rank = rank
        self.seen = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen += 1
        if self.seen == self.batches and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.signum)


class SaveGradients(Callback):
    """Saves rank 0's gradient before each optimiser step as ``gradient-<step>.pt`` in a folder.

    Args:
        folder: Where to.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if trainer.global_rank == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            gradients = [parameter.grad.flatten() for parameter in pl_module.parameters() if parameter.requires_grad]
            torch.save(torch.cat(gradients), self.folder / f"gradient-{trainer.global_step}.pt")


class LayerModes(Callback):
    """Notes before each training batch whether a decoder layer trains and checkpoints its activations."""

    seen: ClassVar[list[tuple[bool, bool]]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        layer = pl_module.policy.causal_lm.model.layers[0]
        self.seen.append((layer.training, layer.gradient_checkpointing))


class WindowWeights(Callback):
    """Notes the type of each training batch's normaliser."""

    seen: ClassVar[list[torch.dtype]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.seen.append(batch.window_weight.dtype)


class SaveFigures(Callback):
    """Writes what rank 0 has logged of each step into ``figures.jsonl``, and of each validation.

    Args:
        folder: Where to; a resumed run goes on in the same file.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "figures.jsonl"
        self.last = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self._write(trainer)  # only now is the step before logged: callbacks come before the module

    def on_train_end(self, trainer, pl_module) -> None:
        self._write(trainer, always=True)

    def on_validation_end(self, trainer, pl_module) -> None:
        self._write(trainer, always=True)

    def _write(self, trainer, *, always: bool = False) -> None:
        if trainer.global_rank == 0 and (always or trainer.global_step != self.last):
            self.last = trainer.global_step
            self.path.parent.mkdir(parents=True, exist_ok=True)
            figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
            with self.path.open("a") as stream:
                stream.write(json.dumps({"step": trainer.global_step, **figures}) + "\n")
