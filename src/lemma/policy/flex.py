"""Lets a model that runs on SDPA take a BlockMask, for which flex_attention computes only what is seen (CUDA).

One attention function goes by the type of the mask, so that nothing is switched from batch to batch: layers that
gradient checkpointing computes again in the backward pass, and ``generate``, find the kernel that they had.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lemma.types import InputError

FLEX_OR_SDPA = "lemma_flex_or_sdpa"


def use_flex(causal_lm: nn.Module) -> None:
    """Let a model's SDPA layers take a BlockMask from now on; they compute every other mask as before.

    Args:
        causal_lm: With ``sdpa`` as its kernel; another one is left alone.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    config = causal_lm.config.get_text_config()
    if config._attn_implementation == "sdpa":
        AttentionInterface.register(FLEX_OR_SDPA, attend)
        AttentionMaskInterface.register(FLEX_OR_SDPA, sdpa_mask)
        config._attn_implementation = FLEX_OR_SDPA


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
