"""Supervised fine-tuning: what a completion's token costs, by its log-probability; a new loss is a row of the table."""

from collections.abc import Callable

from torch import Tensor

from lemma.ops import masked_sum


def sft_loss(
    logps: Tensor,  # (N, T)
    mask: Tensor,  # (N, T) bool
    weights: Tensor,  # (N,)
    *,
    window_weight: Tensor,  # ()
) -> Tensor:  # ()
    r"""Return this micro-batch's share of the window's weighted mean negative log-likelihood per token.

    .. math:: \ell = \frac{-\sum_{i} w_i \sum_{t} \log p(y_{i,t})}{\sum_{i \in \text{window}} w_i |y_i|}

    The shares of all micro-batches of an optimiser step, over accumulation and ranks, add up to the mean over the
    whole window, however it is cut.

    Args:
        logps: Log-probabilities of completion tokens, in nats.
        mask: True where a token counts.
        weights: Weight of each completion's tokens, >= 0.
        window_weight: Sum of weight x tokens over the window, all micro-batches and ranks.
    """
    return -(weights * masked_sum(logps, mask)).sum() / window_weight


def dft_loss(
    logps: Tensor,  # (N, T)
    mask: Tensor,  # (N, T) bool
    weights: Tensor,  # (N,)
    *,
    window_weight: Tensor,  # ()
) -> Tensor:  # ()
    r"""Return this micro-batch's share of the Dynamic Fine-Tuning loss: each token's cost times its probability.

    .. math:: \ell = \frac{-\sum_{i} w_i \sum_{t} \mathrm{sg}(p(y_{i,t})) \log p(y_{i,t})}
        {\sum_{i \in \text{window}} w_i |y_i|}

    The probability is a constant for the gradient (sg), which so weighs tokens that the policy finds unlikely less
    than the likelihood's does.

    Args:
        logps: Log-probabilities of completion tokens, in nats.
        mask: True where a token counts.
        weights: Weight of each completion's tokens, >= 0.
        window_weight: Sum of weight x tokens over the window, all micro-batches and ranks.

    Reference: Wu et al. 2025, arXiv:2508.05629. Departure: tokens have weights, and the mean is over the window's
    tokens, as in ``sft_loss``.
    """
    probs = logps.detach().exp().masked_fill(~mask, 0.0)  # filled, or a NaN under the mask would be one in the gradient
    return sft_loss(probs * logps, mask, weights, window_weight=window_weight)


SFT_LOSSES: dict[str, Callable[..., Tensor]] = {"nll": sft_loss, "dft": dft_loss}
