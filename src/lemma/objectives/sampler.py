r"""Weights for completions that another engine drew: its distribution is made up for, which is not quite the policy's.

Another engine has the same weights but other kernels, so that a policy gradient over its samples is off-policy without
anybody having said so. Each token's loss is therefore weighted by how much likelier the trainer's policy would have
drawn what was drawn, bounded from above.

Below, :math:`q_{i,t}` is the trainer's and :math:`m_{i,t}` the engine's probability of token t of completion i, both of
the policy that sampled; :math:`C` is the bound.

Reference: Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training",
fengyao.notion.site/off-policy-rl (truncated importance sampling). The same four as TRL 1.16's
``vllm_importance_sampling_mode``, without a lower bound.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lemma.objectives.kl import bounded_exp
from lemma.ops import masked_sum


def truncated(ratio: Tensor, cap: float) -> Tensor:
    r"""Return weights of at most the bound, :math:`\min(r, C)`, of the same shape.

    Args:
        ratio: Of probabilities.
        cap: :math:`C`.
    """
    return ratio.clamp(max=cap)


def left_out(ratio: Tensor, cap: float) -> Tensor:
    r"""Return weights that are 0 beyond the bound, :math:`r \cdot [r \le C]`, of the same shape.

    Args:
        ratio: Of probabilities.
        cap: :math:`C`.

    Reference: Ling Team 2025, arXiv:2510.18855 (IcePop). Departure: ratios have no lower bound.
    """
    return ratio.masked_fill(ratio > cap, 0.0)


def of_tokens(log_ratio: Tensor, mask: Tensor) -> Tensor:
    r"""Return each token's own ratio (N, T), :math:`q_{i,t} / m_{i,t}`.

    Args:
        log_ratio: (N, T), 0 where the mask is False.
        mask: (N, T) bool.
    """
    return bounded_exp(log_ratio)


def of_completions(log_ratio: Tensor, mask: Tensor) -> Tensor:
    r"""Return for each token the ratio of its completion (N, T), :math:`\prod_t q_{i,t} / m_{i,t}`.

    Args:
        log_ratio: (N, T), 0 where the mask is False.
        mask: (N, T) bool.
    """
    return bounded_exp(masked_sum(log_ratio, mask))[:, None].expand_as(log_ratio)


_Ratio = Callable[[Tensor, Tensor], Tensor]
_Bound = Callable[[Tensor, float], Tensor]
SAMPLER_CORRECTIONS: dict[str, tuple[_Ratio, _Bound] | None] = {
    "none": None,
    "token": (of_tokens, truncated),
    "sequence": (of_completions, truncated),
    "token_mask": (of_tokens, left_out),
    "sequence_mask": (of_completions, left_out),
}


def sampler_weights(
    name: str,
    old_logps: Tensor,  # (N, T)
    sampler_logps: Tensor,  # (N, T)
    mask: Tensor,  # (N, T) bool
    *,
    cap: float,
) -> tuple[Tensor, Tensor]:  # (N, T), (N, T) bool
    """Return the weight of each token's loss, without gradient, and whether it was beyond the bound.

    Where the two agree, every weight is exactly 1.

    Args:
        name: A key of ``SAMPLER_CORRECTIONS`` other than none.
        old_logps: The trainer's log-probabilities under the policy that sampled, in nats, 0 where the mask is False.
        sampler_logps: The engine's, at the same temperature, 0 where the mask is False.
        mask: True on tokens that count.
        cap: Largest weight, >= 1.
    """
    ratio_of, bound = SAMPLER_CORRECTIONS[name]
    with torch.no_grad():
        ratio = ratio_of(old_logps - sampler_logps, mask)
        return bound(ratio, cap), ratio > cap
