"""Computes attention by flex_attention, which skips the blocks of a BlockMask in which nothing is seen (CUDA)."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lemma.types import InputError


def attend(
    module: nn.Module,
    query: Tensor,  # (B, heads, L, D)
    key: Tensor,  # (B, key heads, L, D)
    value: Tensor,  # (B, key heads, L, D)
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:  # (B, L, heads, D)
    """Return the attention of a layer, by flex_attention where the mask is a BlockMask; transformers' signature.

    Raises:
        InputError: If the layer drops scores out, or adds a bias to them: flex_attention does neither here.
    """
    from torch.nn.attention.flex_attention import BlockMask
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not isinstance(attention_mask, BlockMask):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    for what, used in (("dropout", dropout), ("position bias", kwargs.get("position_bias") is not None)):
        if used:
            raise InputError(
                f"data.layout: shared_prefix on a GPU runs flex_attention, which has no {what}, but this model's "
                "attention has. Use --data.layout packed."
            )
    output = _kernel(query.is_cuda)(
        query, key, value, block_mask=attention_mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return output.transpose(1, 2).contiguous(), None


@functools.cache
def _kernel(is_cuda: bool) -> Callable[..., Tensor]:
    """Return flex_attention, compiled for CUDA: uncompiled it makes all scores."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if is_cuda else flex_attention
