"""What was left out of training is written down, and the share that each corpus gets is logged."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from lemma.callbacks import DataMonitor
from lemma.corpora.cleaning import Cleaning

ROWS = [
    {"source": "a", "id": "1", "reason": "tested on"},
    {"source": "a", "id": "2", "reason": "tested on"},
    {"source": "b", "id": "3", "reason": "duplicate"},
]


def trainer(root, step: int = 0, *, accumulating: bool = False) -> SimpleNamespace:
    examples = SimpleNamespace(parts=[SimpleNamespace(source=source) for source in ("a", "b", "a")])
    return SimpleNamespace(
        datamodule=SimpleNamespace(cleaning=Cleaning([], ROWS), training=SimpleNamespace(examples=examples)),
        default_root_dir=str(root), fast_dev_run=False, logger=None, global_step=step, log_every_n_steps=2,
        fit_loop=SimpleNamespace(_should_accumulate=lambda: accumulating),
    )  # fmt: skip


def test_every_dropped_problem_is_written_down_and_an_earlier_file_is_kept(tmp_path):
    for _ in range(2):
        DataMonitor().on_fit_start(trainer(tmp_path), None)
    assert [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines()] == ROWS
    assert (tmp_path / "dropped-1.jsonl").is_file()


def test_shares_count_each_window_once_and_corpora_of_one_source_together(tmp_path):
    logged: dict[str, float] = {}
    module = SimpleNamespace(log=lambda name, value, **_: logged.update({name: value}))
    monitor = DataMonitor()
    for step, counts, accumulating in ((0, [9, 9, 9], True), (1, [2, 1, 1], False), (2, [1, 3, 0], False)):
        batch = SimpleNamespace(window_sources=np.array(counts))
        monitor.on_train_batch_end(trainer(tmp_path, step, accumulating=accumulating), module, None, batch, 0)
    assert logged == pytest.approx({"data/share/a": 4 / 8, "data/share/b": 4 / 8})
