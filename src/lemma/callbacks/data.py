"""Shows what a run trains on: what was left out of the data, and the share that each corpus really gets."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from lemma.encoding import Batch
from lemma.files import keep_previous, write_jsonl


class DataMonitor(Callback):
    """Writes ``dropped.jsonl``; logs ``data/dropped/<source>/<reason>`` once, and ``data/share/<source>`` in training.

    A share is of the examples seen since the run began or was resumed, on all ranks.
    """

    def __init__(self) -> None:
        self._seen: np.ndarray | None = None

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write down what was left out of training, a line a problem: which, why, and of which benchmark."""
        cleaning = trainer.datamodule.cleaning
        if cleaning is None or trainer.fast_dev_run:
            return
        path = Path(trainer.default_root_dir) / "dropped.jsonl"
        keep_previous(path)
        write_jsonl(path, cleaning.rows)
        if isinstance(trainer.logger, TensorBoardLogger):
            figures = {f"data/dropped/{name.replace(' ', '_')}": count for name, count in cleaning.counts().items()}
            trainer.logger.log_metrics(figures, step=trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count each window once, and log at the trainer's interval."""
        if trainer.fit_loop._should_accumulate():
            return
        self._seen = batch.window_sources if self._seen is None else self._seen + batch.window_sources
        if trainer.global_step % trainer.log_every_n_steps:
            return
        counts: dict[str, int] = {}
        for part, count in zip(trainer.datamodule.training.examples.parts, self._seen, strict=True):
            counts[part.source] = counts.get(part.source, 0) + int(count)
        for source, count in counts.items():
            pl_module.log(f"data/share/{source}", count / int(self._seen.sum()), rank_zero_only=True)
