"""Lets ``lemma fit`` train on completions that the other side drew, so that both can be compared step by step."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lemma.generation import Sample


class Replay(Callback):
    """Puts given completions in the place of those that the policy would draw; all else is as in any run.

    Args:
        path: A line a step: (prompt, completion) of all completions, in any order.
    """

    def __init__(self, path: str) -> None:
        self._steps = map(json.loads, Path(path).read_text().splitlines())

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the sampler's place."""
        importlib.import_module("lemma.rollouts.collect").sample_groups = self._sample_groups

    def _sample_groups(
        self, model: LightningModule, prompts: list[list[int]], seeds: Sequence[Sequence[Any]], **options: Any
    ) -> list[list[Sample]]:
        """Return the completions of the step's prompts."""
        drawn = next(self._steps)
        return [[_sample(ids) for prompt, ids in drawn if prompt == wanted] for wanted in prompts]


def _sample(ids: list[int]) -> Sample:
    return Sample(ids, [0.0] * len(ids), stopped=False)  # the log-probabilities are for a figure that is not logged
