r"""Advantages: how much better a completion is than the others of its group; scales and baselines are rows of tables.

A reward of None is NaN here. It is left out of every mean, standard deviation and count, and its advantage is 0.

Below, :math:`r_j` are the rewards of the :math:`n` completions of a group that have one, :math:`\bar r` is their mean.
"""

from collections.abc import Callable

import torch
from torch import Tensor

EPSILON = 1e-4
"""Added to standard deviations, in units of rewards, as TRL does."""


def mean_baseline(rewards: Tensor, groups: Tensor) -> Tensor:
    r"""Return the mean :math:`\bar r` of each completion's group (N,).

    Args:
        rewards: (N,) float, NaN for None.
        groups: (N,) long, the number of each completion's group, from 0.

    Reference: Shao et al. 2024, arXiv:2402.03300 (GRPO).
    """
    return _sums(rewards, groups) / _sizes(rewards, groups).clamp(min=1)


def leave_one_out_baseline(rewards: Tensor, groups: Tensor) -> Tensor:
    r"""Return the mean reward of the others of each completion's group (N,).

    .. math:: \frac{1}{n - 1} \sum_{j \ne i} r_j

    It does not depend on the completion's own reward, so the policy gradient stays unbiased. One without others has
    nothing to be compared with, and is its own baseline.

    Args:
        rewards: (N,) float, NaN for None.
        groups: (N,) long, the number of each completion's group, from 0.

    Reference: Ahmadian et al. 2024, arXiv:2402.14740 (RLOO). The advantages there are not divided by anything, which
    is the scale ``none``.
    """
    sizes = _sizes(rewards, groups)
    others = (_sums(rewards, groups) - rewards) / (sizes - 1).clamp(min=1)
    return torch.where(sizes > 1, others, rewards)


BASELINES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": mean_baseline,
    "leave_one_out": leave_one_out_baseline,
}


def group_scale(rewards: Tensor, groups: Tensor) -> Tensor:
    r"""Return the standard deviation of each completion's group, plus ``EPSILON`` (N,).

    .. math:: \sqrt{\frac{1}{n - 1} \sum_j (r_j - \bar r)^2} + \epsilon

    Args:
        rewards: (N,) float, NaN for None.
        groups: (N,) long, the number of each completion's group, from 0.

    Reference: Shao et al. 2024, arXiv:2402.03300. The paper does not say whether its deviation is the sample's, and
    adds nothing to it; n - 1 and the constant are TRL's.
    """
    deviations = rewards - mean_baseline(rewards, groups)
    return (_sums(deviations.square(), groups) / (_sizes(rewards, groups) - 1).clamp(min=1)).sqrt() + EPSILON


def batch_scale(rewards: Tensor, groups: Tensor) -> Tensor:
    """Return the standard deviation of all rewards, plus ``EPSILON``, once for each completion (N,).

    The rewards have to be those of the whole rollout, of all ranks. As in TRL they are taken as they are, so that
    differences between groups count in the scale.

    Args:
        rewards: (N,) float, NaN for None.
        groups: (N,) long, the number of each completion's group.

    Reference: Liu et al. 2025, arXiv:2508.08221.
    """
    return group_scale(rewards, torch.zeros_like(groups))


def no_scale(rewards: Tensor, groups: Tensor) -> Tensor:
    """Return 1 for each completion (N,): advantages stay in units of rewards.

    Args:
        rewards: (N,) float.
        groups: (N,) long.

    Reference: Liu et al. 2025, arXiv:2503.20783 (Dr. GRPO): divided by its group's deviation, a problem that is nearly
    always or nearly never solved weighs more than others.
    """
    return torch.ones_like(rewards)


SCALES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"group": group_scale, "batch": batch_scale, "none": no_scale}


def group_advantages(
    rewards: Tensor,  # (N,)
    groups: Tensor,  # (N,) long
    *,
    scale: str,
    baseline: str,
) -> Tensor:  # (N,)
    r"""Return each completion's reward less its baseline, divided by its scale; 0 in a group of equal rewards.

    .. math:: A_i = \frac{r_i - b_i}{s_i}

    Args:
        rewards: A number for each completion of the rollout, NaN for None; such a completion's advantage is 0.
        groups: A number for each completion, the same for all of one problem; any numbers, in any order.
        scale: A key of ``SCALES``.
        baseline: A key of ``BASELINES``.

    Reference: Shao et al. 2024, arXiv:2402.03300, section 4.1.2.
    """
    _, groups = groups.unique(return_inverse=True)
    excess = rewards - _extremes(
        rewards, groups, "amin"
    )  # a mean of equal numbers may differ from them, one of zeros not
    centred = excess - BASELINES[baseline](excess, groups)
    return _zero_for_none(centred / SCALES[scale](rewards, groups))


def total_rewards(
    rewards: Tensor,  # (N, K)
    weights: Tensor,  # (K,)
) -> Tensor:  # (N,)
    """Return the weighted sum of each completion's rewards, without those that are None; NaN where all are.

    Args:
        rewards: K rewards of each completion, NaN for None.
        weights: Weight of each of the K.
    """
    return (rewards * weights).nansum(-1).masked_fill(rewards.isnan().all(-1), torch.nan)


def sum_then_normalise(
    rewards: Tensor,  # (N, K)
    weights: Tensor,  # (K,)
    groups: Tensor,  # (N,) long
    *,
    scale: str,
    baseline: str,
) -> Tensor:  # (N,)
    """Return the advantages of the weighted sums of rewards: ``group_advantages`` of ``total_rewards``.

    Args:
        rewards: K rewards of each completion, NaN for None.
        weights: Weight of each of the K.
        groups: The same number for all completions of one problem.
        scale: A key of ``SCALES``.
        baseline: A key of ``BASELINES``.
    """
    return group_advantages(total_rewards(rewards, weights), groups, scale=scale, baseline=baseline)


def normalise_then_sum(
    rewards: Tensor,  # (N, K)
    weights: Tensor,  # (K,)
    groups: Tensor,  # (N,) long
    *,
    scale: str,
    baseline: str,
) -> Tensor:  # (N,)
    r"""Return the weighted sum of the advantages of each reward, divided by its deviation over the rollout.

    .. math:: \hat A_i = \frac{\sum_k w_k A^{(k)}_i}{\mathrm{std}_{j \in \text{rollout}}
        (\sum_k w_k A^{(k)}_j) + \epsilon}

    So a reward's weight says how much it counts, whatever range it has, and completions that earn the same sum by
    different rewards are told apart. With the scale ``group``, this is the paper's. A completion counts in the
    deviation if any of its rewards is not None.

    Args:
        rewards: K rewards of each completion, NaN for None; None of one reward adds 0.
        weights: Weight of each of the K.
        groups: The same number for all completions of one problem.
        scale: A key of ``SCALES``, for each reward by itself.
        baseline: A key of ``BASELINES``, for each reward by itself.

    Reference: Liu et al. 2026, arXiv:2601.05242 (GDPO). Departure: the sums' mean over the rollout is not subtracted,
    for it is 0 but for rounding, by which groups without any signal would get some.
    """
    columns = [group_advantages(column, groups, scale=scale, baseline=baseline) for column in rewards.unbind(-1)]
    sums = (torch.stack(columns, -1) * weights).sum(-1).masked_fill(rewards.isnan().all(-1), torch.nan)
    return _zero_for_none(sums / batch_scale(sums, groups))


COMBINATIONS: dict[str, Callable[..., Tensor]] = {
    "sum_then_normalise": sum_then_normalise,
    "normalise_then_sum": normalise_then_sum,
}


def advantages(
    rewards: Tensor,  # (N, K)
    weights: Tensor,  # (K,)
    groups: Tensor,  # (N,) long
    *,
    scale: str,
    baseline: str,
    combine: str,
) -> Tensor:  # (N,)
    """Return the advantages of completions that have several rewards.

    Args:
        rewards: K rewards of each completion of the rollout, NaN for None.
        weights: Weight of each of the K.
        groups: The same number for all completions of one problem.
        scale: A key of ``SCALES``.
        baseline: A key of ``BASELINES``.
        combine: A key of ``COMBINATIONS``.
    """
    return COMBINATIONS[combine](rewards, weights, groups, scale=scale, baseline=baseline)


def alike(
    values: Tensor,  # (N,)
    groups: Tensor,  # (N,) long
) -> Tensor:  # (num_groups,) bool
    """Return which groups have no two different values, in the order of their numbers; they carry no signal about them.

    Args:
        values: A number for each completion, such as its correctness, NaN for None.
        groups: The same number for all completions of one problem.
    """
    numbers, groups = groups.unique(return_inverse=True)
    differs = _extremes(values, groups, "amax") > _extremes(values, groups, "amin")  # False where there is no value
    return ~differs.new_zeros(len(numbers)).index_put((groups,), differs)


def _sums(values: Tensor, groups: Tensor) -> Tensor:
    """Return (N,) the sum of each row's group without NaN."""
    return torch.zeros_like(values).index_add(0, groups, values.nan_to_num(0.0))[groups]


def _sizes(values: Tensor, groups: Tensor) -> Tensor:
    """Return (N,) how many of each row's group are not NaN."""
    return _sums((~values.isnan()).to(values.dtype), groups)


def _extremes(values: Tensor, groups: Tensor, reduce: str) -> Tensor:
    """Return (N,) the least or greatest of each row's group without NaN; infinite where there is none."""
    start = torch.full_like(values, torch.inf if reduce == "amin" else -torch.inf)
    return start.scatter_reduce(0, groups, torch.where(values.isnan(), start, values), reduce)[groups]


def _zero_for_none(values: Tensor) -> Tensor:
    return values.masked_fill(values.isnan(), 0.0)
