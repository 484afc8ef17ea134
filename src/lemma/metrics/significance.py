"""Decides whether a difference between two runs on the same problems can be chance: paired tests, and Holm's step."""

import math
from collections.abc import Sequence

from torch import Tensor

from lemma.metrics.intervals import NUM_RESAMPLES, bootstrap_means


def mcnemar_exact(num_gained: int, num_lost: int) -> float:
    """Return the two-sided p-value of McNemar's exact test: were gains and losses equally likely?

    Args:
        num_gained: Problems that only the second run solves.
        num_lost: Problems that only the first run solves.

    Returns:
        Twice the binomial tail, at most 1; 1 where nothing flipped.

    Raises:
        ValueError: If a count is negative.

    Reference: McNemar 1947, Psychometrika 12(2), as a binomial test of the discordant pairs.
    """
    if min(num_gained, num_lost) < 0:
        raise ValueError(f"Expected counts of at least 0, but got {num_gained} and {num_lost}.")
    flips = num_gained + num_lost
    tail = sum(math.comb(flips, i) for i in range(min(num_gained, num_lost) + 1))
    return min(1.0, 2 * tail / 2**flips)


def paired_bootstrap_test(a: Tensor, b: Tensor, *, seed: int, num_resamples: int = NUM_RESAMPLES) -> float:
    """Return the two-sided p-value of mean(b - a) = 0 by the bootstrap over problems.

    Twice the share of the resampled means on the other side of 0, the percentile interval turned round. It is never
    below 2^(1 - d) where d problems differ, the least that the exact sign-flip test could say, so that three problems
    which all gain are no proof.

    Args:
        a: One value a problem, shape (P,); nan where there is none.
        b: The same problems in the same order, shape (P,). A problem counts if both have a value.
        seed: As in `bootstrap_means`.
        num_resamples: As in `bootstrap_means`; the p-value is at least 2 / (num_resamples + 1).

    Raises:
        ValueError: If the shapes differ, and as `bootstrap_means`.

    Reference: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 15; the floor is ours.
    """
    if a.shape != b.shape:
        raise ValueError(f"Expected `a` and `b` of one shape, but got {tuple(a.shape)} and {tuple(b.shape)}.")
    gains = b.double() - a.double()
    means = bootstrap_means(gains[:, None], seed=seed, num_resamples=num_resamples)[:, 0]
    other_side = min(int((means <= 0).sum()), int((means >= 0).sum()))
    num_different = int(((gains != 0) & ~gains.isnan()).sum())
    return min(1.0, max(2 * (other_side + 1) / (num_resamples + 1), 2.0 ** (1 - num_different)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for testing several hypotheses at once: their family-wise error stays at the level.

    Args:
        p_values: One for each test, in any order.

    Returns:
        Adjusted p-values in the same order, at most 1.

    Reference: Holm 1979, Scandinavian Journal of Statistics 6(2).
    """
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted
