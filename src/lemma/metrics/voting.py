"""Decides what samples say together: majority voting by exact counting, and how often two of them agree."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from lemma.metrics.functional import as_list

_MAX_FLOAT_SAMPLES = 1000  # 2^1000 is a float64; beyond, the counts are Python's integers

_Groups = tuple[tuple[int, int], ...]  # (size, correct ones) of each group of equal answers


def maj_at_k(votes: Tensor, correct: Tensor, k: int | Sequence[int]) -> Tensor:
    r"""Return maj@k of each problem: the chance that the most frequent answer among k of its n samples is correct.

    The expectation over all C(n, k) subsets, exactly and in polynomial time. A tie among t answers counts as the share
    of them that is correct, and a subset without any answer as 0. With groups of sizes :math:`s_g` of which a share
    :math:`r_g` is correct, and u samples without an answer,

    .. math::
        \binom{n}{k}^{-1} \sum_g r_g \sum_m \binom{s_g}{m} \sum_t \frac{1}{t+1} [x^{k-m} y^t]\, (1+x)^u
        \prod_{h \ne g} \Bigl(\sum_{c<m} \binom{s_h}{c} x^c + y \binom{s_h}{m} x^m\Bigr):

    g is on top with m votes, t others have as many and none has more. All k come from one pass.

    Args:
        votes: Group of each sample's answer, shape (P, n), integer; equal ids are equal answers, a negative id is no
            answer and does not vote.
        correct: Whether each sample is correct, shape (P, n), bool. In a group that is not of one mind (its samples
            were graded apart) the share of correct ones counts.
        k: Samples drawn without replacement, between 1 and n; one number or several.

    Returns:
        Values in [0, 1], float64, shape (P,) for one k, (P, K) for several.

    Raises:
        ValueError: If the shapes differ or are not (P, n), or a ``k`` is not between 1 and n.

    Reference: majority voting is Wang et al. 2022, arXiv:2203.11171; the expectation over subsets is ours.
    """
    ks = as_list(k)
    if votes.ndim != 2 or votes.shape != correct.shape:
        raise ValueError(
            f"Expected `votes` and `correct` of one shape (P, n), but got {tuple(votes.shape)} and "
            f"{tuple(correct.shape)}."
        )
    num_samples = votes.shape[1]
    if num_samples < max(ks):
        raise ValueError(f"Expected at least k = {max(ks)} samples a problem, but got {num_samples}.")
    known: dict[_Groups, list[float]] = {}  # many problems of a benchmark vote in the same way
    rows = []
    for problem in zip(votes.tolist(), correct.tolist(), strict=True):
        groups = _groups(*problem)
        if groups not in known:
            known[groups] = _chances(groups, num_samples, ks)
        rows.append(known[groups])
    values = torch.tensor(rows, dtype=torch.float64, device=votes.device).reshape(len(votes), len(ks))
    return values[:, 0] if isinstance(k, int) else values


def agreement(votes: Tensor) -> Tensor:
    """Return the chance that two different samples of a problem give the same answer.

    A sample without an answer agrees with nothing, not even with another such.

    Args:
        votes: As in `maj_at_k`, shape (P, n).

    Returns:
        Values in [0, 1], shape (P,), float64; nan where n < 2.
    """
    num_samples = votes.shape[1]
    same = (votes[:, :, None] == votes[:, None, :]) & (votes >= 0)[:, :, None]  # (P, n, n)
    pairs = same.sum(dim=(1, 2)).double() - (votes >= 0).sum(dim=1)  # ordered, of different samples
    return pairs / (num_samples * (num_samples - 1)) if num_samples > 1 else torch.full_like(pairs, torch.nan)


def _groups(votes: Iterable[int], correct: Iterable[bool]) -> _Groups:
    size, num_correct = Counter(), Counter()
    for vote, right in zip(votes, correct, strict=True):
        if vote >= 0:
            size[vote] += 1
            num_correct[vote] += right
    return tuple(sorted((size[vote], num_correct[vote]) for vote in size))


def _chances(groups: _Groups, num_samples: int, ks: Sequence[int]) -> list[float]:
    """Return the chance of a correct majority for each k."""
    sizes = [size for size, _ in groups]
    shares: dict[int, float] = {}  # groups of one size differ only in their share
    for size, num_correct in groups:
        if num_correct:
            shares[size] = shares.get(size, 0.0) + num_correct / size
    chances = [0.0] * len(ks)
    number = float if num_samples <= _MAX_FLOAT_SAMPLES else object
    for size, share in shares.items():
        others = sizes.copy()
        others.remove(size)
        for top in range(1, min(size, max(ks)) + 1):
            ways = _ways(others, num_samples - size, top, max(ks) - top, number)
            for i, k in enumerate(ks):
                if k >= top:
                    total = math.comb(num_samples, k)
                    on_top = math.comb(size, top)
                    chances[i] += share * sum(
                        on_top * count / ((ties + 1) * total) for ties, count in enumerate(ways[:, k - top])
                    )
    return [min(float(chance), 1.0) for chance in chances]


def _ways(sizes: Sequence[int], num_samples: int, top: int, width: int, number: type) -> np.ndarray:
    """Count the subsets in which no group has more than ``top`` votes.

    Args:
        sizes: Sizes of the groups.
        num_samples: Samples that the groups and those without an answer have together.
        top: Most votes that a group may have, at least 1.
        width: Size of the largest subset counted.
        number: Type of the counts: float, or object for integers of any size.

    Returns:
        Counts by (groups with exactly ``top`` votes, size of the subset), shape (T, width + 1).
    """
    large = [size for size in sizes if size >= top]
    free = num_samples - sum(large)  # without an answer, or in a group too small to come up to `top`
    ways = np.array([[math.comb(free, size) for size in range(width + 1)]], dtype=number)
    for size in large:
        below = np.array([math.comb(size, votes) for votes in range(top)], dtype=number)
        grown = np.zeros((min(len(ways), width // top) + 1, width + 1), dtype=number)
        for ties, row in enumerate(ways):
            grown[ties] += np.convolve(row, below)[: width + 1]
            if ties + 1 < len(grown):
                grown[ties + 1, top:] += row[: width + 1 - top] * math.comb(size, top)
        ways = grown
    return ways
