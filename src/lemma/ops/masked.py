"""Sums over the tokens that count."""

from torch import Tensor


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Return the sum over the last dimension of the values whose mask is True.

    Args:
        values: (..., T). A value under a False mask may be anything, NaN and infinity included.
        mask: (..., T) bool.
    """
    return values.masked_fill(~mask, 0.0).sum(-1)
