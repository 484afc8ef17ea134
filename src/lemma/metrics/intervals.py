"""Decides how sure a figure is: Wilson's interval of a share, and the bootstrap over problems."""

import math
from statistics import NormalDist

import torch
from torch import Tensor

NUM_RESAMPLES = 10_000
_CHUNK_ELEMENTS = 4_000_000  # elements of the largest temporary tensor


def wilson_interval(successes: float, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion, which stays inside [0, 1] and has a width at 0 and at 1.

    Args:
        successes: Number of successes; for a mean of values in [0, 1] their sum, and then the interval is conservative.
        total: Number of trials, at least 1.
        confidence: Coverage, between 0 and 1.

    Returns:
        The lower and the upper end.

    Raises:
        ValueError: If ``total < 1``, ``successes`` is not between 0 and ``total``, or ``confidence`` is no probability.

    Reference: Wilson 1927, Journal of the American Statistical Association 22(158).
    """
    _check_confidence(confidence)
    if total < 1 or not 0 <= successes <= total:
        raise ValueError(f"Expected 0 <= `successes` <= `total` and `total` >= 1, but got {successes} of {total}.")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / total
    center = share + z * z / (2 * total)
    half_width = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    # At 0 and at 1 an end is exact; rounding would put it beside.
    low = 0.0 if successes == 0 else (center - half_width) / scale
    high = 1.0 if successes == total else (center + half_width) / scale
    return low, high


def bootstrap_means(values: Tensor, *, seed: int, num_resamples: int = NUM_RESAMPLES) -> Tensor:
    """Return the means of resamples of the problems; every column is resampled alike.

    Problems are the unit that is resampled: samples of one problem are not independent.

    Args:
        values: One row a problem, shape (P, K); a row with a nan is a problem without a value and left out.
        seed: Seed of the resampling; the global random state is not touched.
        num_resamples: Number of resamples R.

    Returns:
        Means, shape (R, K), float64.

    Raises:
        ValueError: If no problem has a value or ``num_resamples < 1``.

    Reference: Efron 1979, The Annals of Statistics 7(1).
    """
    if num_resamples < 1:
        raise ValueError(f"Expected `num_resamples` to be at least 1, but got {num_resamples}.")
    values = values.detach().double().cpu()
    values = values[~values.isnan().any(dim=1)]  # (P, K)
    num_problems = len(values)
    if num_problems == 0:
        raise ValueError("Expected at least one problem with a value, but got none.")
    generator = torch.Generator().manual_seed(seed)
    chunk = max(1, _CHUNK_ELEMENTS // num_problems)
    means = []
    for start in range(0, num_resamples, chunk):
        size = (min(chunk, num_resamples - start), num_problems)
        drawn = torch.randint(num_problems, size, generator=generator)
        times = torch.zeros(size, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(1).double().expand(size))
        means.append(times @ values / num_problems)  # (chunk, P) -> (chunk, K)
    return torch.cat(means)


def bootstrap_band(
    values: Tensor, *, seed: int, num_resamples: int = NUM_RESAMPLES, confidence: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Return the percentile bootstrap interval of the mean of each column.

    Args:
        values: As in `bootstrap_means`, shape (P, K).
        seed: As in `bootstrap_means`.
        num_resamples: As in `bootstrap_means`.
        confidence: Coverage of each interval, between 0 and 1.

    Returns:
        The lower and the upper ends, each of shape (K,).

    Raises:
        ValueError: As `bootstrap_means`, and if ``confidence`` is no probability.
    """
    _check_confidence(confidence)
    means = bootstrap_means(values, seed=seed, num_resamples=num_resamples)
    tail = (1 - confidence) / 2
    low, high = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return low, high


def bootstrap_interval(
    values: Tensor, *, seed: int, num_resamples: int = NUM_RESAMPLES, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean over problems.

    Args:
        values: One value a problem, shape (P,); nan is a problem without a value and left out.
        seed: As in `bootstrap_means`.
        num_resamples: As in `bootstrap_means`.
        confidence: Coverage, between 0 and 1.

    Returns:
        The lower and the upper end.

    Raises:
        ValueError: As `bootstrap_band`.
    """
    low, high = bootstrap_band(values[:, None], seed=seed, num_resamples=num_resamples, confidence=confidence)
    return float(low), float(high)


def paired_bootstrap_interval(
    a: Tensor, b: Tensor, *, seed: int, num_resamples: int = NUM_RESAMPLES, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of mean(b - a) over problems.

    Args:
        a: One value a problem, shape (P,); nan where there is none.
        b: The same problems in the same order, shape (P,). A problem counts if both have a value.
        seed: As in `bootstrap_means`.
        num_resamples: As in `bootstrap_means`.
        confidence: Coverage, between 0 and 1.

    Returns:
        The lower and the upper end; both above 0 says that b is better.

    Raises:
        ValueError: If the shapes differ, and as `bootstrap_band`.
    """
    if a.shape != b.shape:
        raise ValueError(f"Expected `a` and `b` of one shape, but got {tuple(a.shape)} and {tuple(b.shape)}.")
    return bootstrap_interval(b.double() - a.double(), seed=seed, num_resamples=num_resamples, confidence=confidence)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"Expected `confidence` to be between 0 and 1, but got {confidence}.")
