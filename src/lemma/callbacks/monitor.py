"""Logs how training goes: learning rate, gradient norm, tokens per second, share of padding."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from lemma.encoding import Batch
from lemma.modules.deepspeed import DeepSpeedShards
from lemma.modules.sharding import gradient_norm


class TrainingMonitor(Callback):
    """Logs ``train/lr``, ``train/grad_norm`` (before clipping), ``train/tokens_per_second`` and ``train/padding``.

    Tokens are real ones, prompts included, of all ranks. Padding is the share of all positions computed on any rank
    that hold none of them: ends of rows, and rows that only fill a turn. Time is all of the wall's from one log to the
    next, waiting for data and making rollouts included, validation left out: a GPU's work is asynchronous, so that the
    time of a single step says little.
    """

    def __init__(self) -> None:
        self._tokens = self._positions = 0
        self._since: float | None = None  # start of the clock, moved on by every interruption; None before training
        self._interrupted = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, before the first batch is asked for."""
        self._start()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note when training was interrupted."""
        self._interrupted = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the interruption out."""
        if self._since is not None:
            self._since += time.perf_counter() - self._interrupted

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log the learning rate of the step to come, and the norm of the whole gradient, if it is known by now."""
        pl_module.log("train/lr", optimizer.param_groups[0]["lr"])
        if isinstance(trainer.strategy, DeepSpeedShards):
            return
        norm = gradient_norm(parameter for group in optimizer.param_groups for parameter in group["params"])
        pl_module.log("train/grad_norm", norm)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count, and log at the trainer's interval."""
        self._tokens += batch.num_tokens
        self._positions += batch.num_positions
        if trainer.fit_loop._should_accumulate():
            return
        if isinstance(trainer.strategy, DeepSpeedShards):
            pl_module.log("train/grad_norm", trainer.strategy.grad_norm)
        if trainer.global_step % trainer.log_every_n_steps:
            return
        counts = torch.tensor([self._tokens, self._positions], device=pl_module.device)
        tokens, positions = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
        rate = tokens / (time.perf_counter() - self._since)
        pl_module.log("train/tokens_per_second", rate, prog_bar=True, rank_zero_only=True)
        pl_module.log("train/padding", 1 - tokens / positions, rank_zero_only=True)
        self._start()

    def _start(self) -> None:
        self._tokens, self._positions, self._since = 0, 0, time.perf_counter()
