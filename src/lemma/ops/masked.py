"""Sums and means over the tokens that count."""

from torch import Tensor


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Return the sum over the last dimension of the values whose mask is True.

    Args:
        values: (..., T). A value under a False mask may be anything, NaN and infinity included.
        mask: (..., T) bool.
    """
    return values.masked_fill(~mask, 0.0).sum(-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the last dimension of the values whose mask is True; 0 where none is.

    Args:
        values: (..., T).
        mask: (..., T) bool.
    """
    return masked_sum(values, mask) / mask.sum(-1).clamp(min=1)
