"""The numbers that an evaluation reports: pass@k, maj@k and confidence intervals. Pure functions."""

import math
from itertools import combinations
from statistics import NormalDist

import torch
from torch import Tensor

MAX_SUBSETS = 20_000  # maj@k enumerates up to this many subsets and draws this many above
_CHUNK_ELEMENTS = 4_000_000  # elements of the largest temporary tensor


def pass_at_k(num_correct: Tensor, num_total: Tensor, k: int) -> Tensor:
    r"""Return the unbiased pass@k of each problem: the chance that k of its n samples hold a correct one.

    .. math:: 1 - \binom{n-c}{k} / \binom{n}{k} = 1 - \prod_{i=0}^{k-1} \frac{n-c-i}{n-i}

    The product needs no binomial coefficient, so that nothing overflows; it is the paper's up to the order of factors.

    Args:
        num_correct: Correct samples c, shape (P,), integer.
        num_total: All samples n, shape (P,), integer.
        k: Samples drawn without replacement, at least 1.

    Returns:
        Values in [0, 1], shape (P,), float64.

    Raises:
        ValueError: If ``k < 1``, the shapes differ, a problem has fewer than ``k`` samples, or ``num_correct`` is not
            between 0 and ``num_total``.

    Reference: Chen et al. 2021, arXiv:2107.03374.
    """
    _check_k(k)
    if num_correct.shape != num_total.shape:
        raise ValueError(
            f"Expected `num_correct` and `num_total` of one shape, but got {tuple(num_correct.shape)} and "
            f"{tuple(num_total.shape)}."
        )
    if (num_total < k).any():
        raise ValueError(f"Expected at least k = {k} samples a problem, but got {int(num_total.min())}.")
    if (num_correct < 0).any() or (num_correct > num_total).any():
        raise ValueError("Expected `num_correct` to be between 0 and `num_total`.")
    num_total = num_total.double()
    num_wrong = num_total - num_correct.double()
    all_wrong = torch.ones_like(num_total)
    for drawn in range(k):
        all_wrong = all_wrong * ((num_wrong - drawn) / (num_total - drawn)).clamp(min=0.0)
    return 1.0 - all_wrong


def maj_at_k(votes: Tensor, correct: Tensor, k: int, *, max_subsets: int = MAX_SUBSETS, seed: int = 0) -> Tensor:
    """Return maj@k of each problem: the chance that the most frequent answer among k of its n samples is correct.

    The expectation is over all C(n, k) subsets; a tie among t answers counts as the share of them that is correct, and
    a subset without any answer as 0. It is exact where C(n, k) is at most ``max_subsets``, else the mean over
    ``max_subsets`` random subsets (the same for every problem), with a standard error of at most
    0.5 / sqrt(max_subsets), 0.0035 by default.

    Args:
        votes: Group of each sample's answer, shape (P, n), integer; equal ids are equal answers, a negative id is no
            answer and does not vote.
        correct: Whether each sample is correct, shape (P, n), bool. In a group that is not of one mind (its samples
            were graded apart) the share of correct ones among the drawn counts.
        k: Samples drawn without replacement, between 1 and n.
        max_subsets: Where enumeration ends and drawing begins.
        seed: Seed of the drawing; the global random state is not touched.

    Returns:
        Values in [0, 1], shape (P,), float64.

    Raises:
        ValueError: If the shapes differ or are not (P, n), or ``k`` is not between 1 and n.

    Reference: majority voting is Wang et al. 2022, arXiv:2203.11171; the expectation over subsets is ours.
    """
    _check_k(k)
    if votes.ndim != 2 or votes.shape != correct.shape:
        raise ValueError(
            f"Expected `votes` and `correct` of one shape (P, n), but got {tuple(votes.shape)} and "
            f"{tuple(correct.shape)}."
        )
    num_samples = votes.shape[1]
    if num_samples < k:
        raise ValueError(f"Expected at least k = {k} samples a problem, but got {num_samples}.")
    members = _subsets(num_samples, k, max_subsets, seed).to(votes.device)  # (S, n)
    chunk = max(1, _CHUNK_ELEMENTS // num_samples)
    values = torch.zeros(len(votes), dtype=torch.float64, device=votes.device)
    for problem in range(len(votes)):
        for part in members.split(chunk):
            values[problem] += _majority_correct(part, votes[problem], correct[problem]).sum()
    return values / len(members)


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


def bootstrap_interval(
    values: Tensor, *, seed: int, num_resamples: int = 10_000, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean over problems.

    Problems are the unit that is resampled: samples of one problem are not independent.

    Args:
        values: One value a problem, shape (P,); nan is a problem without a value and left out.
        seed: Seed of the resampling; the global random state is not touched.
        num_resamples: Number of resamples.
        confidence: Coverage, between 0 and 1.

    Returns:
        The lower and the upper end.

    Raises:
        ValueError: If no problem has a value, ``num_resamples < 1``, or ``confidence`` is no probability.

    Reference: Efron 1979, The Annals of Statistics 7(1).
    """
    _check_confidence(confidence)
    if num_resamples < 1:
        raise ValueError(f"Expected `num_resamples` to be at least 1, but got {num_resamples}.")
    values = values.detach().double().cpu()
    values = values[~values.isnan()]  # (P,)
    if len(values) == 0:
        raise ValueError("Expected at least one problem with a value, but got none.")
    generator = torch.Generator().manual_seed(seed)
    chunk = max(1, _CHUNK_ELEMENTS // len(values))
    means = []
    for start in range(0, num_resamples, chunk):
        size = (min(chunk, num_resamples - start), len(values))
        means.append(
            values[torch.randint(len(values), size, generator=generator)].mean(dim=1)
        )  # (chunk, P) -> (chunk,)
    tail = (1 - confidence) / 2
    low, high = torch.cat(means).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def paired_bootstrap_interval(
    a: Tensor, b: Tensor, *, seed: int, num_resamples: int = 10_000, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of mean(b - a) over problems.

    Args:
        a: One value a problem, shape (P,); nan where there is none.
        b: The same problems in the same order, shape (P,). A problem counts if both have a value.
        seed: As in `bootstrap_interval`.
        num_resamples: As in `bootstrap_interval`.
        confidence: As in `bootstrap_interval`.

    Returns:
        The lower and the upper end; both above 0 says that b is better.

    Raises:
        ValueError: If the shapes differ, and as `bootstrap_interval`.
    """
    if a.shape != b.shape:
        raise ValueError(f"Expected `a` and `b` of one shape, but got {tuple(a.shape)} and {tuple(b.shape)}.")
    return bootstrap_interval(b.double() - a.double(), seed=seed, num_resamples=num_resamples, confidence=confidence)


def _subsets(num_samples: int, k: int, max_subsets: int, seed: int) -> Tensor:
    """Return all subsets of k samples, or ``max_subsets`` random ones, as rows of 0 and 1; (S, n), float64."""
    if math.comb(num_samples, k) <= max_subsets:
        drawn = torch.tensor(list(combinations(range(num_samples), k)))  # (S, k)
    else:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(max_subsets, num_samples, generator=generator, dtype=torch.float64).topk(k, dim=1).indices
    return torch.zeros(len(drawn), num_samples, dtype=torch.float64).scatter_(1, drawn, 1.0)


def _majority_correct(members: Tensor, votes: Tensor, correct: Tensor) -> Tensor:
    """Return the chance that each subset's majority is correct; (S, n), (n,), (n,) -> (S,)."""
    groups = votes[votes >= 0].unique()  # (G,)
    if len(groups) == 0:
        return members.new_zeros(len(members))
    in_group = votes[:, None] == groups  # (n, G)
    size = members @ in_group.double()  # (S, G)
    num_correct = members @ (in_group & correct[:, None]).double()  # (S, G)
    on_top = (size > 0) & (size == size.amax(dim=1, keepdim=True))
    return (on_top * num_correct / size.clamp(min=1.0)).sum(dim=1) / on_top.sum(dim=1).clamp(min=1)


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"Expected `k` to be at least 1, but got {k}.")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"Expected `confidence` to be between 0 and 1, but got {confidence}.")
