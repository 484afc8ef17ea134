"""The unbiased pass@k: a pure function. Voting, intervals and tests have files of their own beside this one."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pass_at_k(num_correct: Tensor, num_total: Tensor, k: int | Sequence[int]) -> Tensor:
    r"""Return the unbiased pass@k of each problem: the chance that k of its n samples hold a correct one.

    .. math:: 1 - \binom{n-c}{k} / \binom{n}{k} = 1 - \prod_{i=0}^{k-1} \frac{n-c-i}{n-i}

    The product needs no binomial coefficient, so that nothing overflows; it is the paper's up to the order of factors.

    Args:
        num_correct: Correct samples c, shape (P,), integer.
        num_total: All samples n, shape (P,), integer.
        k: Samples drawn without replacement, at least 1; one number or several.

    Returns:
        Values in [0, 1], float64, shape (P,) for one k, (P, K) for several.

    Raises:
        ValueError: If a ``k < 1``, the shapes differ, a problem has fewer than ``k`` samples, or ``num_correct`` is not
            between 0 and ``num_total``.

    Reference: Chen et al. 2021, arXiv:2107.03374.
    """
    ks = as_list(k)
    if num_correct.shape != num_total.shape:
        raise ValueError(
            f"Expected `num_correct` and `num_total` of one shape, but got {tuple(num_correct.shape)} and "
            f"{tuple(num_total.shape)}."
        )
    if (num_total < max(ks)).any():
        raise ValueError(f"Expected at least k = {max(ks)} samples a problem, but got {int(num_total.min())}.")
    if (num_correct < 0).any() or (num_correct > num_total).any():
        raise ValueError("Expected `num_correct` to be between 0 and `num_total`.")
    num_total = num_total.double()
    num_wrong = num_total - num_correct.double()
    all_wrong = [torch.ones_like(num_total)]  # after 0, 1, 2, … draws
    for drawn in range(max(ks)):
        all_wrong.append(all_wrong[-1] * ((num_wrong - drawn) / (num_total - drawn)).clamp(min=0.0))
    values = [1.0 - all_wrong[number] for number in ks]
    return values[0] if isinstance(k, int) else torch.stack(values, dim=1)


def as_list(k: int | Sequence[int]) -> list[int]:
    """Return the values of k as a list.

    Raises:
        ValueError: If there is none, or one is below 1.
    """
    ks = [k] if isinstance(k, int) else list(k)
    if not ks or min(ks) < 1:
        raise ValueError(f"Expected `k` to be at least 1, but got {k}.")
    return ks
