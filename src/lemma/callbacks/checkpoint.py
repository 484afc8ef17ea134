"""Checkpoint files: when the last one is saved; written whole or not at all; read without running code."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lemma.files import write_atomic
from lemma.generation.served import ServerError
from lemma.modules.serving import AgreedEnd, AgreedServerError
from lemma.types import InputError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes aside, fsyncs and renames; loads with ``weights_only=True`` whatever the caller asks for."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save a checkpoint.

        Raises:
            InputError: If it cannot be written, a full disk for one; earlier checkpoints are intact.
        """
        write_atomic(Path(path), lambda stream: torch.save(checkpoint, stream))

    def load_checkpoint(
        self, path: str | Path, map_location: Callable | None = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Load a checkpoint of tensors and primitives.

        Raises:
            InputError: If the file is missing, cut off, or holds anything else.
        """
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except FileNotFoundError as error:
            raise InputError(f"ckpt_path: {path} does not exist.") from error
        except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError, … on a damaged file
            raise InputError(f"ckpt_path: {path} cannot be read as a checkpoint: {error}") from error


class LastCheckpoint(Callback):
    """Keeps ``<run>/checkpoints/last.ckpt``: every so many optimiser steps, at SIGTERM or Ctrl-C, and at the end.

    So it does where servers give up, if every rank knows: a run resumes as if the rollout had not begun. Nothing is
    saved then of a run that has not made a step: there is nothing to go on from, and the folder stays free.

    Lightning 2.6 looks at SIGTERM only between epochs on one process, and broadcasts inside the signal handler on
    several; here the handler notes the signal, and the ranks agree on it after each micro-batch, or at once where they
    wait for servers. A second Ctrl-C stops at once.

    Args:
        every_n_steps: Optimiser steps between two saves.
    """

    def __init__(self, every_n_steps: int = 200) -> None:
        if every_n_steps < 1:
            raise InputError(f"last_checkpoint.every_n_steps: expected at least 1, but got {every_n_steps}.")
        self.every_n_steps = every_n_steps
        self._signal = 0
        self._saved_step = 0
        self._original_sigint: Any = None
        self._interrupt: Callable[[int], None] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over SIGTERM, whose original handler Lightning's teardown restores, and SIGINT."""
        self._signal = 0
        self._saved_step = trainer.global_step
        self._interrupt = pl_module.interrupt
        signal.signal(signal.SIGTERM, self._on_signal)
        self._original_sigint = signal.signal(signal.SIGINT, self._on_signal)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give SIGINT back."""
        if self._original_sigint is not None:
            signal.signal(signal.SIGINT, self._original_sigint)

    def _on_signal(self, signum: int, frame: Any) -> None:
        if signum == signal.SIGINT and self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = signum
        self._interrupt(signum)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save at the interval; after a signal to any rank, save and end the process with 128 + the signal."""
        if (signum := self._agreed_signal(trainer, pl_module.device)) > 0:
            self._save(trainer)
            self._say_end(signum, self._saved(trainer))
            raise SystemExit(128 + signum)
        if trainer.global_step - self._saved_step >= self.every_n_steps or trainer.global_step == trainer.max_steps:
            self._save(trainer)

    def _agreed_signal(self, trainer: Trainer, device: torch.device) -> int:
        """Return the signal that any rank has received, or 0."""
        if trainer.world_size == 1:
            return self._signal  # without a tensor, so that a GPU is not waited for
        return int(trainer.strategy.reduce(torch.tensor(float(self._signal), device=device), reduce_op="max"))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where a wait for servers has ended, between two steps, and say so; only if all ranks are here."""
        together = isinstance(exception, (AgreedServerError, AgreedEnd)) or (
            isinstance(exception, ServerError) and trainer.world_size == 1
        )
        if not together or trainer.state.fn != "fit" or trainer.sanity_checking or trainer.fast_dev_run:
            return
        said = "No step was made, and nothing is saved."
        if trainer.global_step > 0 or trainer.ckpt_path is not None:
            self._save(trainer)
            said = self._saved(trainer)
        if isinstance(exception, AgreedEnd):
            self._say_end(exception.code - 128, said)
        else:
            exception.args = (f"{exception} {said}",)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of the run, unless ``max_steps`` ended it: by now Lightning counts the epoch as finished."""
        if self._saved_step != trainer.global_step:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:
            return
        trainer.save_checkpoint(self._path(trainer))
        self._saved_step = trainer.global_step

    def _saved(self, trainer: Trainer) -> str:
        return f"Saved {self._path(trainer)}; go on with --ckpt_path {self._path(trainer)}"

    @staticmethod
    def _say_end(signum: int, said: str) -> None:
        rank_zero_info(f"{signal.Signals(signum).name}: {said}")

    @staticmethod
    def _path(trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
