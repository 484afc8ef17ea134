"""Decides what is logged of rollouts: rewards, correctness, signal and lengths of each, and the loss's figures."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lemma.objectives import alike
from lemma.objectives.kl import k3
from lemma.ops import masked_sum
from lemma.types import Verdict

_TOKENS = {"entropy": "entropy_tokens", "sampler_difference": "sampler_tokens", "sampler_kl": "sampler_tokens"}
"""By which sum a figure is divided; all others by ``tokens``."""


class GroupFigures(NamedTuple):
    """What every rank is told of a group of G completions."""

    source: str
    """Of the problem."""
    rewards: list[list[float]]
    """G rows of K raw rewards, NaN for None."""
    verdicts: list[str]
    """G verdicts."""
    lengths: list[int]
    """G lengths in tokens."""
    stopped: list[bool]
    """Whether a stop token ended each."""

    @property
    def correct(self) -> list[float]:
        """Return 1 for right, 0 for wrong or without an answer, NaN where the grader ran out of time."""
        return [math.nan if v == Verdict.TIMEOUT else float(v == Verdict.CORRECT) for v in self.verdicts]

    @property
    def has_signal(self) -> bool:
        """Return whether the completions differ in correctness."""
        return not bool(alike(torch.tensor(self.correct), torch.zeros(len(self.verdicts), dtype=torch.long)))


def figures_of_rollout(groups: Sequence[GroupFigures], names: Sequence[str], totals: Tensor) -> dict[str, float]:
    """Return the means over a rollout's completions and groups, by tag; by source too where there are several.

    A figure that has no values, as the reward of completions none of which has one, is left out.

    Args:
        groups: Of all ranks.
        names: Of the K rewards.
        totals: (N,) the weighted sum of each completion's rewards, NaN for None, group after group.
    """
    size = len(groups[0].verdicts)
    figures: dict[str, float] = {}
    sources = sorted({group.source for group in groups})
    parts = {"rollout": list(range(len(groups)))}
    if len(sources) > 1:
        parts |= {f"rollout/{s}": [i for i, group in enumerate(groups) if group.source == s] for s in sources}
    table = totals.view(len(groups), size)
    for prefix, members in parts.items():
        some = [groups[i] for i in members]
        values = {
            "reward": table[members].flatten().tolist(),
            **{f"rewards/{name}": [row[k] for g in some for row in g.rewards] for k, name in enumerate(names)},
            "correct": [value for group in some for value in group.correct],
            "signal": [float(group.has_signal) for group in some],
            "completion_length": [float(length) for group in some for length in group.lengths],
            "truncated": [float(not stopped) for group in some for stopped in group.stopped],
            "stopped": [float(stopped) for group in some for stopped in group.stopped],
            "unparseable": [float(v == Verdict.UNPARSEABLE) for group in some for v in group.verdicts],
            "timeouts": [float(v == Verdict.TIMEOUT) for group in some for v in group.verdicts],
        }
        figures |= {f"{prefix}/{name}": mean for name, each in values.items() if (mean := _mean(each)) is not None}
    return figures


def _mean(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else None


class LossFigures:
    """Collects the sums that a loss gives for logging; they stay on their device, so that nothing waits for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, sums: dict[str, Tensor]) -> None:
        """Add a micro-batch's sums: () each, by name, the same names on every rank at every call."""
        for name, value in sums.items():
            wide = value.to(torch.promote_types(value.dtype, torch.float32))
            self._sums[name] = self._sums[name] + wide if name in self._sums else wide

    def add_sampler(self, logps: Tensor, sampled: Tensor, mask: Tensor) -> None:
        """Add how far log-probabilities are from those of the engine that sampled.

        Args:
            logps: (N, T) the policy's.
            sampled: (N, T) the engine's.
            mask: (N, T) bool, True on tokens of completions.
        """
        logps = logps.detach()
        per_token = {"sampler_difference": (logps - sampled).abs(), "sampler_kl": k3(sampled, logps)}
        sums = {name: masked_sum(values, mask).sum() for name, values in per_token.items()}
        self.add({**sums, "sampler_tokens": mask.sum()})

    def totals(self) -> tuple[list[str], Tensor]:
        """Return names and (F,) sums of this rank since the last call, and forget them."""
        names = sorted(self._sums)
        totals = torch.stack([self._sums[name] for name in names]) if names else torch.zeros(0)
        self._sums = {}
        return names, totals

    @staticmethod
    def means(names: Sequence[str], totals: Tensor) -> dict[str, float]:
        """Return the means by tag.

        Args:
            names: As ``totals`` gives them.
            totals: (F,) sums over all ranks.
        """
        sums = dict(zip(names, totals.tolist(), strict=True))
        counts = {"tokens", "sequences", *_TOKENS.values()}
        return {
            f"train/{name}": value / count
            for name, value in sums.items()
            if name not in counts and (count := sums[_TOKENS.get(name, "tokens")]) > 0
        }
