"""Decides how far a figure of one model is from another's on the problems that both have it for."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import torch

from lemma.metrics.intervals import paired_bootstrap_interval


@dataclass(frozen=True)
class PairedMeans:
    """Means over the same problems, and their difference.

    Attributes:
        num_problems: Problems that have the figure in both.
        before: Mean of the one.
        after: Mean of the other.
        difference: ``after - before``.
        low: Lower end of its paired 95 % bootstrap interval over problems.
        high: Upper end.
    """

    num_problems: int
    before: float
    after: float
    difference: float
    low: float
    high: float


def paired_means(before: Mapping[Hashable, float], after: Mapping[Hashable, float], *, seed: int) -> PairedMeans | None:
    """Return the means of a figure over the problems that have it in both; None where there is no such problem.

    Args:
        before: Figure of each problem by the one model; nan where it is undefined.
        after: By the other.
        seed: Of the bootstrap.
    """
    shared = [(before[key], value) for key, value in after.items() if key in before]
    known = [pair for pair in shared if not any(map(math.isnan, pair))]
    if not known:
        return None
    a, b = torch.tensor(known, dtype=torch.float64).T
    means = (len(known), float(a.mean()), float(b.mean()), float((b - a).mean()))
    return PairedMeans(*means, *paired_bootstrap_interval(a, b, seed=seed))
