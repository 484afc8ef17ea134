"""TRL's side of ``grpo``: python -m benchmark.grpo_trl JOB RUN_FOLDER

Writes ``rollouts.jsonl`` besides, a line a step, for Lemma to be trained on.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import trl

from benchmark.batches import sequences
from benchmark.grpo_reward import letters
from benchmark.meter import Sequence
from benchmark.trl_side import Batch, Metered, Row, options, train


class MeteredGRPOTrainer(Metered, trl.GRPOTrainer):
    """TRL's trainer with a meter, on prompts that are token ids already."""

    kept = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")

    def __init__(self, model: torch.nn.Module, **kwargs: Any) -> None:
        super().__init__(model, reward_funcs=[letters], **kwargs)

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Return the prompts as they are; TRL would look for texts or messages in them."""
        return prompts, None, {}


def examples(batch: Batch) -> Iterator[list[Sequence]]:
    """Yield each completion's sequence."""
    ids, mask = (
        torch.cat([batch[f"{part}_{what}"] for part in ("prompt", "completion")], 1) for what in ("ids", "mask")
    )
    counted = mask.clone().bool()
    counted[:, : batch["prompt_ids"].shape[1]] = False
    for sequence in sequences(ids, mask, counted):
        yield [sequence]


def _config(job: dict[str, Any], run: Path) -> trl.GRPOConfig:
    return trl.GRPOConfig(
        **options(job, run),
        num_generations=job["group_size"],
        max_completion_length=job["new_tokens"],
        disable_dropout=True,
        shuffle_dataset=False,
    )


def _row(row: Row) -> Row:
    return row


if __name__ == "__main__":
    meter = train(MeteredGRPOTrainer, _config, _row, examples)
    steps = ([sequence for example in examples(batch) for sequence in example] for batch in meter.batches())
    Path(sys.argv[2], "rollouts.jsonl").write_text("".join(f"{json.dumps(step)}\n" for step in steps))
