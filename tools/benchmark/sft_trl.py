"""TRL's side of ``sft``: python -m benchmark.sft_trl JOB RUN_FOLDER"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trl

from benchmark.batches import sequences
from benchmark.meter import Sequence
from benchmark.trl_side import Batch, Metered, Row, options, train

IGNORED = -100


class MeteredSFTTrainer(Metered, trl.SFTTrainer):
    """TRL's trainer with a meter."""

    kept = ("input_ids", "attention_mask", "labels")


def examples(batch: Batch) -> Iterator[list[Sequence]]:
    """Yield each row's sequence."""
    for sequence in sequences(batch["input_ids"], batch["attention_mask"], batch["labels"] != IGNORED):
        yield [sequence]


def _config(job: dict[str, Any], run: Path) -> trl.SFTConfig:
    return trl.SFTConfig(**options(job, run), max_length=None, completion_only_loss=True)


def _row(row: Row) -> Row:
    prompt, completion = row["prompt"], row["completion"]
    return {"input_ids": prompt + completion, "completion_mask": [0] * len(prompt) + [1] * len(completion)}


if __name__ == "__main__":
    train(MeteredSFTTrainer, _config, _row, examples)
