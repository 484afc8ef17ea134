"""Decides who sees whom where sequences share a row, in the form that the model's attention kernel takes.

A token sees the tokens of its own example that stand before it or are itself, of its prompt and of its own completion.
Padding sees padding: each row of a mask has a True, so that no softmax divides by zero.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lemma.encoding import Batch
from lemma.policy.skipping import FLEX_OR_SDPA, SPANS_OR_SDPA
from lemma.policy.spans import as_mask, parts_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

MASKED_LAYERS = {"full_attention", "sliding_attention"}
"""Types of layers, in the words of transformers' configurations, for which there is a mask."""

_ADDITIVE = {"eager", "sdpa"}

_Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def attention_masks(batch: Batch, config: "PreTrainedConfig", kernel: str | None, dtype: torch.dtype) -> Any:
    """Return the masks of a batch on shared rows, as the backbone's ``attention_mask``; None where it makes its own.

    It does for packed rows, by their position ids; only the kernel that goes by spans is told of them, too. Models
    whose configuration has ``layer_types`` take a mask for each of the types, by name; others take one. These are the
    rules by which transformers itself makes masks for ``generate`` (``create_masks_for_generate``).

    Args:
        batch: With ``position_ids``; with ``groups`` and ``branches`` where prompts are shared.
        config: Of the text model.
        kernel: Name of the attention kernel. A flex kernel takes a BlockMask, that by spans what ``spans.as_mask``
            returns, eager attention and SDPA a (B, 1, L, L)
            tensor of ``dtype`` that is added to the scores (of a bool one SDPA would make one in each layer, and keep
            it for the backward pass), every other a (B, 1, L, L) bool tensor, True where a token sees.
        dtype: Of the scores.
    """
    if batch.groups is None and kernel != SPANS_OR_SDPA:
        return None
    window = getattr(config, "sliding_window", None)
    if not hasattr(config, "layer_types"):
        return _mask(batch, window, kernel, dtype)
    windows = {"full_attention": None, "sliding_attention": window}
    return {kind: _mask(batch, windows[kind], kernel, dtype) for kind in sorted(set(config.layer_types))}


def _mask(batch: Batch, window: int | None, kernel: str | None, dtype: torch.dtype) -> Any:
    if kernel == SPANS_OR_SDPA:
        return as_mask(parts_of(batch))
    rule = visibility(batch, window)
    if kernel in (FLEX_OR_SDPA, "flex_attention"):
        from torch.nn.attention.flex_attention import create_block_mask

        rows, length = batch.input_ids.shape
        blocks = create_block_mask(rule, rows, None, length, length, device=batch.input_ids.device)
        blocks.ndim = 4  # GPT-2 asks every mask
        return blocks
    mask = dense(rule, batch.input_ids)
    if kernel not in _ADDITIVE:
        return mask
    if torch.is_autocast_enabled(mask.device.type):
        dtype = torch.get_autocast_dtype(mask.device.type)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def visibility(batch: Batch, window: int | None) -> _Rule:
    """Return the function of (row, head, place of the token that sees, place of the one seen) to bool.

    Args:
        batch: With ``groups``, ``branches`` and ``position_ids``.
        window: How many tokens of its own sequence a token sees at most, itself included; None for all. Places on the
            row do not say, for a completion stands behind its siblings.
    """
    groups, branches, positions = batch.groups, batch.branches, batch.position_ids

    def sees(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        branch = branches[row, key]
        same = (groups[row, query] == groups[row, key]) & ((branch == 0) | (branch == branches[row, query]))
        seen = same & (key <= query)
        return seen if window is None else seen & (positions[row, query] - positions[row, key] < window)

    return sees


def dense(rule: _Rule, input_ids: Tensor) -> Tensor:
    """Return (B, 1, L, L) bool, the values of a rule for the rows of ``input_ids`` (B, L)."""
    rows, length = input_ids.shape
    place = torch.arange(length, device=input_ids.device)
    row = torch.arange(rows, device=input_ids.device)[:, None, None, None]
    return rule(row, row.new_zeros(1), place[:, None], place)
