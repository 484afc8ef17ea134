r"""Ratios and surrogates: what a token costs, by how far the policy has gone since the token was drawn.

Below, :math:`\pi_{i,t}` is the policy's and :math:`q_{i,t}` the sampler's probability of token t of completion i,
:math:`r` a ratio of the two, :math:`A` the completion's advantage, :math:`\ell` what the token costs.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lemma.objectives.kl import bounded_exp
from lemma.ops import masked_sum


class Surrogate(NamedTuple):
    """What each token costs, and where a bound took its gradient or part of it.

    Attributes:
        losses: (N, T).
        bounded: By the bound's name, (N, T) bool.
    """

    losses: Tensor
    bounded: dict[str, Tensor]


def token_ratio(log_ratio: Tensor, mask: Tensor) -> Tensor:
    r"""Return each token's own ratio (N, T).

    .. math:: r_{i,t} = \frac{\pi_{i,t}}{q_{i,t}}

    Args:
        log_ratio: (N, T), 0 where the mask is False.
        mask: (N, T) bool.
    """
    return bounded_exp(log_ratio)


def sequence_ratio(log_ratio: Tensor, mask: Tensor) -> Tensor:
    r"""Return the geometric mean of the ratios of each token's completion (N, T).

    .. math:: s_i = \left(\prod_t \frac{\pi_{i,t}}{q_{i,t}}\right)^{1 / |y_i|}

    Args:
        log_ratio: (N, T), 0 where the mask is False.
        mask: (N, T) bool.

    Reference: Zheng et al. 2025, arXiv:2507.18071 (GSPO), equation 7.
    """
    means = masked_sum(log_ratio, mask) / mask.sum(-1).clamp(min=1)  # (N, T) -> (N,)
    return bounded_exp(means)[:, None].expand_as(log_ratio)


def clipped_surrogate(
    ratio: Tensor,  # (N, T)
    logps: Tensor,  # (N, T)
    advantages: Tensor,  # (N, 1)
    *,
    clip_low: float,
    clip_high: float,
    delta: float,
) -> Surrogate:
    r"""Return PPO's loss of each token: no gradient where the ratio is beyond a bound on the side it is pushed to.

    .. math:: \ell = -\min\left(\min(r, \delta) A,
        \mathrm{clip}(r, 1 - \epsilon_\text{low}, 1 + \epsilon_\text{high}) A\right)

    Args:
        ratio: Of each token or of its completion.
        logps: Not read.
        advantages: Of each completion.
        clip_low: How far below 1 a token that is made less likely is followed, in (0, 1].
        clip_high: How far above 1 one that is made more likely is followed, > 0.
        delta: Ratio from which on a token that is made less likely no longer is, > 1 + clip_high; infinity for none.

    Reference: Schulman et al. 2017, arXiv:1707.06347; two bounds: Yu et al. 2025, arXiv:2503.14476 (DAPO); delta: Prime
    Intellect 2025, arXiv:2505.07291 (INTELLECT-2).
    """
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    losses = -torch.minimum(ratio.clamp(max=delta) * advantages, clipped * advantages)
    better, worse = advantages > 0, advantages < 0
    return Surrogate(
        losses,
        {
            "clip_low": (ratio < 1 - clip_low) & worse,
            "clip_high": (ratio > 1 + clip_high) & better,
            "clip_delta": (ratio > delta) & worse,
        },
    )


def cispo_surrogate(
    ratio: Tensor,  # (N, T)
    logps: Tensor,  # (N, T)
    advantages: Tensor,  # (N, 1)
    *,
    clip_low: float,
    clip_high: float,
) -> Surrogate:
    r"""Return CISPO's loss of each token: REINFORCE weighted by the bounded ratio, so that every token has a gradient.

    .. math:: \ell = -\mathrm{sg}\left(\mathrm{clip}(r, 1 - \epsilon_\text{low}, 1 + \epsilon_\text{high})\right)
        A \log\pi

    Args:
        ratio: Of each token or of its completion, a constant for the gradient (sg).
        logps: Log-probabilities of the tokens, in nats.
        advantages: Of each completion.
        clip_low: How far below 1 a weight may be, in (0, 1]; 1 for no bound, as the paper ran it.
        clip_high: How far above 1 a weight may be, > 0.

    Reference: MiniMax 2025, arXiv:2506.13585, section 3.1. The default bound of 5 is that of Khatri et al. 2025,
    arXiv:2510.13786 (ScaleRL).
    """
    low, high = 1 - clip_low, 1 + clip_high
    losses = -ratio.detach().clamp(low, high) * advantages * logps
    moved = advantages != 0
    return Surrogate(losses, {"clip_low": (ratio < low) & moved, "clip_high": (ratio > high) & moved})
