"""Decides what is measured of the two sides of pairs: their lengths, coherence and rewards, as means."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lemma.rollouts.preferences.candidates import MEAN

SIDES = ("chosen", "rejected")
_LENGTHS = ("characters", "tokens")
_MEASURES = (*_LENGTHS, MEAN, "reward")


def measured(row: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """Return what a written pair measures, chosen and rejected, by measure; None where it is not known."""
    return {
        "characters": [len(row[side]) for side in SIDES],
        "tokens": row["tokens"],
        MEAN: [scores[MEAN] for scores in row["scores"]],
        "reward": row["rewards"],
    }


@dataclass
class Means:
    """Sums over pairs of what is measured of both sides, for their means.

    Attributes:
        num: Pairs of which both sides are known.
        sums: Of the chosen and of the rejected side.
        bias: Sum of (chosen - rejected) / (chosen + rejected).
    """

    num: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    bias: float = 0.0

    def add(self, chosen: float | None, rejected: float | None) -> None:
        """Count a pair, if both sides are known."""
        if chosen is None or rejected is None:
            return
        self.num += 1
        self.sums = [self.sums[0] + chosen, self.sums[1] + rejected]
        if chosen + rejected:
            self.bias += (chosen - rejected) / (chosen + rejected)

    def merge(self, other: "Means") -> None:
        """Count the pairs of another one, too."""
        self.num += other.num
        self.sums = [mine + theirs for mine, theirs in zip(self.sums, other.sums, strict=True)]
        self.bias += other.bias

    def as_json(self, *, with_bias: bool) -> dict[str, float] | None:
        """Return the means, or None where nothing is known."""
        if not self.num:
            return None
        means = {side: total / self.num for side, total in zip(SIDES, self.sums, strict=True)}
        return means | ({"bias": self.bias / self.num} if with_bias else {})


@dataclass
class Figures:
    """What is counted of a group of pairs.

    Attributes:
        found: Pairs before thinning.
        kept: Pairs after it.
        means: Of these, by measure.
    """

    found: int = 0
    kept: int = 0
    means: dict[str, Means] = field(default_factory=lambda: {name: Means() for name in _MEASURES})

    def merge(self, other: "Figures") -> None:
        """Count the pairs of another group, too."""
        self.found += other.found
        self.kept += other.kept
        for name, means in self.means.items():
            means.merge(other.means[name])

    def as_json(self) -> dict[str, Any]:
        """Return counts and means."""
        means = {name: each.as_json(with_bias=name in _LENGTHS) for name, each in self.means.items()}
        return {"found": self.found, "kept": self.kept, **means}
