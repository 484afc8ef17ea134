"""What the bar of training counts: micro-batches, up to those after which the epoch or training ends."""

import math
from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel

from lemma.callbacks import ProgressBars
from lemma.callbacks.progress import last_batch


@pytest.mark.parametrize(
    ("done", "step", "max_steps", "epoch", "last"),
    [
        (0, 0, 3, 2000, 12),
        (0, 0, -1, 2000, 2000),
        (0, 0, 3, 10, 10),
        (0, 0, 3, math.inf, 12),
        (0, 0, -1, math.inf, math.inf),
        (4, 1, 3, 2000, 12),
        (6, 1, 3, 2000, 12),
        (0, 5, 7, 20, 8),
    ],
    ids=["steps", "epoch", "short epoch", "steps of no end", "no end", "resumed", "mid-window", "second epoch"],
)
def test_a_bar_ends_where_training_or_its_epoch_does(done, step, max_steps, epoch, last):
    trainer = SimpleNamespace(
        max_steps=max_steps, global_step=step, num_training_batches=epoch, accumulate_grad_batches=4
    )
    assert last_batch(trainer, done) == last


def test_a_resumed_bar_has_the_total_of_the_run_that_was_not_stopped(tmp_path):
    """It had the number of optimiser steps for a total of micro-batches, and after a resume none."""

    class Model(BoringModel):
        makes_rollouts = False

    def fit(path: str | None = None) -> tuple[int, int, int]:
        bars, saves = ProgressBars(), ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
        Trainer(
            max_steps=3, max_epochs=1, accumulate_grad_batches=4, callbacks=[bars, saves], limit_val_batches=0,
            logger=False, enable_model_summary=False, accelerator="cpu", devices=1,
        ).fit(Model(), ckpt_path=path)  # fmt: skip
        bar = bars.train_progress_bar
        return bar.initial, bar.n, bar.total

    assert fit() == (0, 12, 12)
    assert fit(str(tmp_path / "step=2.ckpt")) == (8, 12, 12)
