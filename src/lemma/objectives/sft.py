"""Supervised fine-tuning: the negative log-likelihood of completions."""

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
