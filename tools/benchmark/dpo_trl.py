"""TRL's side of ``dpo``: python -m benchmark.dpo_trl JOB RUN_FOLDER"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trl

from benchmark.batches import sequences
from benchmark.meter import Sequence
from benchmark.trl_side import Batch, Metered, Row, options, train


class MeteredDPOTrainer(Metered, trl.DPOTrainer):
    """TRL's trainer with a meter, on pairs that are token ids already."""

    kept = ("input_ids", "attention_mask", "completion_mask")

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        """Return the pairs as they are; TRL would look for texts in them."""
        return dataset


def examples(batch: Batch) -> Iterator[list[Sequence]]:
    """Yield each pair's sequences: TRL puts all chosen ones before all rejected ones."""
    found = list(sequences(batch["input_ids"], batch["attention_mask"], batch["completion_mask"].bool()))
    num_pairs = len(found) // 2
    return (list(pair) for pair in zip(found[:num_pairs], found[num_pairs:], strict=True))


def _config(job: dict[str, Any], run: Path) -> trl.DPOConfig:
    return trl.DPOConfig(
        **options(job, run),
        max_length=None,
        loss_type=[job["loss_type"]],
        beta=job["beta"],
        precompute_ref_log_probs=job["precompute"],
    )


def _row(row: Row) -> Row:
    return row


if __name__ == "__main__":
    train(MeteredDPOTrainer, _config, _row, examples)
