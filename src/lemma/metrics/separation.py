"""Decides how well a score tells right from wrong: the area under the ROC curve, over all problems and within them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 2_000
Count = Callable[[np.ndarray], tuple[float, float]]
"""From the weight of each problem to (pairs won, pairs)."""


@dataclass(frozen=True)
class Separation:
    """An area under the ROC curve with its interval.

    Attributes:
        value: The chance that a right one scores higher than a wrong one, ties counting half; None without a pair.
        low: Lower end of the percentile bootstrap interval over problems; None if no resample has a pair.
        high: Upper end.
    """

    value: float | None
    low: float | None
    high: float | None


def separation(
    scores: Sequence[float], labels: Sequence[bool], problems: Sequence[int], *, within: bool, seed: int,
    num_resamples: int = NUM_RESAMPLES, confidence: float = 0.95,
) -> Separation:  # fmt: skip
    r"""Return the area under the ROC curve of a score.

    .. math:: A = P(s^+ > s^-) + \tfrac12 P(s^+ = s^-)

    over all pairs of a right and a wrong one, or over those of the same problem, each pair counting once. Problems are
    what is resampled: trajectories of one problem are not independent.

    Args:
        scores: N scores.
        labels: N times whether it is right.
        problems: N problems, as any whole numbers.
        within: Whether only pairs of the same problem count, as they do in a preference pair.
        seed: Of the bootstrap.
        num_resamples: R, at least 1.
        confidence: Coverage, between 0 and 1.

    Raises:
        ValueError: If the lengths differ, ``num_resamples < 1`` or ``confidence`` is no probability.

    Reference: Hanley and McNeil 1982, Radiology 143(1).
    """
    if not len(scores) == len(labels) == len(problems):
        raise ValueError(f"Expected three equal lengths, but got {len(scores)}, {len(labels)} and {len(problems)}.")
    if num_resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"Expected `num_resamples` of at least 1 and `confidence` between 0 and 1, but got {num_resamples} and "
            f"{confidence}."
        )
    if not len(scores):
        return Separation(None, None, None)
    ranks = np.unique(np.asarray(scores, dtype=float), return_inverse=True)[1]
    right = np.asarray(labels, dtype=bool)
    known, owner = np.unique(np.asarray(problems), return_inverse=True)
    count = _within(ranks, right, owner, len(known)) if within else _overall(ranks, right, owner)
    value = _share(*count(np.ones(len(known))))
    draw = np.random.default_rng(seed)
    areas = []
    for _ in range(num_resamples if value is not None else 0):
        times = np.bincount(draw.integers(len(known), size=len(known)), minlength=len(known))
        areas.append(_share(*count(times)))
    found = [area for area in areas if area is not None]
    if not found:
        return Separation(value, None, None)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(found, [tail, 100 - tail])
    return Separation(value, float(low), float(high))


def _overall(ranks: np.ndarray, right: np.ndarray, owner: np.ndarray) -> Count:
    def count(times: np.ndarray) -> tuple[float, float]:
        weights = times[owner]
        positive = np.bincount(ranks, weights * right)
        negative = np.bincount(ranks, weights * ~right)
        won = positive @ (np.cumsum(negative) - negative / 2)
        return won, positive.sum() * negative.sum()

    return count


def _within(ranks: np.ndarray, right: np.ndarray, owner: np.ndarray, num_problems: int) -> Count:
    won, pairs = np.zeros(num_problems), np.zeros(num_problems)
    for problem in range(num_problems):
        mine = owner == problem
        positive, negative = ranks[mine & right], ranks[mine & ~right]
        difference = np.sign(positive[:, None] - negative[None, :])  # (P, Q)
        won[problem] = (difference + 1).sum() / 2
        pairs[problem] = difference.size
    return lambda times: (times @ won, times @ pairs)


def _share(won: float, pairs: float) -> float | None:
    return float(won / pairs) if pairs else None
