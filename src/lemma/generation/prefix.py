"""Attention in which the completions of a prompt share its keys and values: read once for a group, not once a row.

A decoding step reads all keys and values, and hardly computes; with sixteen completions a prompt, most of what it reads
is prompts, sixteen times over. Here a group's queries meet the prompt's keys in one matrix product, each row's query
its own few keys in another, and one softmax goes over both sets of scores (Juravsky et al. 2024, arXiv:2402.05099,
which combines two softmaxes instead).

The model is told of the rows' own tokens alone: the cache's length and the mask are theirs. The attention function
finds the prompts on the keys that the cache returned, so it is right only where a model hands these on as they are.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from lemma.generation.cache import RoomyLayer, aligned
from lemma.policy.skipping import SDPA_KERNELS

_NAME = "lemma_shared_prefix"
_HANDS_KEYS_ON = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gpt2")  # model types, each under test


@dataclass
class Groups:
    """Which rows belong together; the same in all layers."""

    number: Tensor
    """(B,) long, the group of each row, ascending."""
    lengths: Tensor
    """(G,) long, tokens of each prompt."""

    def __post_init__(self) -> None:
        """Find a slot for each row in a table of groups x rows."""
        counts = self.number.bincount(minlength=len(self.lengths))
        firsts = counts.cumsum(0) - counts
        self.size = int(counts.max())
        """Rows of the largest group."""
        self.slots = self.number * self.size + torch.arange(len(self.number), device=counts.device)
        self.slots -= firsts[self.number]
        self.is_full = len(self.number) == len(self.lengths) * self.size
        """Whether all groups have as many rows, so that the table is the rows as they stand."""
        width = int(self.lengths.max())
        columns = torch.arange(width, device=counts.device)
        self.padding = (columns < width - self.lengths[:, None])[:, None, None]  # (G, 1, 1, P)

    def gather(self, rows: Tensor) -> Tensor:
        """Return (G, heads, size x copies, X) of (B, heads, copies, X), 0 where a group has fewer rows."""
        num_groups, (_, heads, copies, width) = len(self.lengths), rows.shape
        table = rows
        if not self.is_full:
            table = rows.new_zeros(num_groups * self.size, heads, copies, width)
            table[self.slots] = rows
        table = table.view(num_groups, self.size, heads, copies, width).transpose(1, 2)
        return table.reshape(num_groups, heads, self.size * copies, width)

    def scatter(self, table: Tensor, copies: int) -> Tensor:
        """Return (B, heads, copies, X) of (G, heads, size x copies, X)."""
        num_groups, heads, _, width = table.shape
        table = table.view(num_groups, heads, self.size, copies, width).transpose(1, 2)
        rows = table.reshape(num_groups * self.size, heads, copies, width)
        return rows if self.is_full else rows[self.slots]


@dataclass
class Prefix:
    """The prompts of one layer, left-padded."""

    keys: Tensor
    """(G, heads, P, D)."""
    values: Tensor
    """(G, heads, P, D')."""
    groups: Groups


class OwnLayer(RoomyLayer):
    """The keys and values of the rows' own tokens; the prompts' are handed on with them."""

    prefix: Prefix

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Append columns, and return all of the rows' own."""
        keys, values = super().update(key_states, value_states)
        keys.prefix = self.prefix
        return keys, values


def can_share(causal_lm: nn.Module) -> bool:
    """Return whether a model that our loop decodes has attention to which prompts can be added.

    Args:
        causal_lm: A transformers causal language model.
    """
    config = causal_lm.config
    layer_types = set(getattr(config, "layer_types", None) or ())
    return (
        config.model_type in _HANDS_KEYS_ON
        and config._attn_implementation in SDPA_KERNELS
        and layer_types <= {"full_attention"}
        and (getattr(config, "sliding_window", None) is None or bool(layer_types))
    )


@contextlib.contextmanager
def sharing(causal_lm: nn.Module) -> Iterator[None]:
    """Let a model's attention see the prompts that ``OwnLayer`` hands on.

    Args:
        causal_lm: For which ``can_share`` holds.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    config = causal_lm.config
    before, config._attn_implementation = config._attn_implementation, _NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def joined_to_prefix(
    running: DynamicCache | None,
    kept: Tensor,  # (K,) long
    fresh: DynamicCache | None,
    owners: Tensor,  # (F,) long
    columns: int,
    lengths: Tensor,  # (P,) long
) -> DynamicCache:
    """Return a cache of the rows kept and the rows that come, as ``cache.joined`` does, prompts apart.

    Args:
        running: Of the rows so far; None where there are none.
        kept: Rows of it that stay.
        fresh: Of prompts; None where none comes.
        owners: Row of ``fresh`` that each new row continues.
        columns: Width of the rows' own part.
        lengths: Tokens of each prompt of ``fresh``.
    """
    staying = owners.new_zeros(0)
    number, all_lengths = owners, lengths
    if running is not None:
        before = running.layers[0].prefix.groups
        staying, still = before.number[kept].unique(return_inverse=True)
        number = torch.cat([still, len(staying) + owners])
        all_lengths = torch.cat([before.lengths[staying], lengths])
    groups, cache = Groups(number, all_lengths), DynamicCache()
    width, arriving = int(all_lengths.max()), torch.arange(len(lengths), device=owners.device)
    for index in range(len((running or fresh).layers)):
        own, prompts = [], []
        if running is not None:
            layer = running.layers[index]
            own.append((layer.keys, layer.values, kept))
            prompts.append((layer.prefix.keys, layer.prefix.values, staying))
            running.layers[index] = None
        if fresh is not None:
            layer = fresh.layers[index]
            own.append((layer.keys[:, :, :0], layer.values[:, :, :0], owners))
            prompts.append((layer.keys, layer.values, arriving))
            fresh.layers[index] = None
        keys = aligned([(keys, rows) for keys, _, rows in prompts], width)
        values = aligned([(values, rows) for _, values, rows in prompts], width)
        cache.layers.append(OwnLayer(own, columns))
        cache.layers[-1].prefix = Prefix(keys, values, groups)
    return cache


def attend(
    module: nn.Module,
    query: Tensor,  # (B, heads, L, D)
    key: Tensor,  # (B, key heads, T, D)
    value: Tensor,  # (B, key heads, T, D')
    attention_mask: Tensor | None,  # (B, 1, L, T) bool
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:  # (B, L, heads, D')
    """Return the attention of a layer, to the prompts too where the keys carry them; transformers' signature."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    prefix: Prefix | None = getattr(key, "prefix", None)
    if prefix is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    (num_rows, num_heads, _, size), heads, groups = query.shape, key.shape[1], prefix.groups
    copies = num_heads // heads
    query = query.view(num_rows, heads, copies, size) * (size**-0.5 if scaling is None else scaling)
    own = query @ key.transpose(-1, -2)  # (B, heads, copies, T)
    if attention_mask is not None:
        own = own.masked_fill(~attention_mask, -torch.inf)
    shared = groups.gather(query) @ prefix.keys.transpose(-1, -2)  # (G, heads, size x copies, P)
    shared = groups.scatter(shared.masked_fill(groups.padding, -torch.inf), copies)  # (B, heads, copies, P)
    weights = torch.cat([shared, own], -1).softmax(-1, dtype=torch.float32).to(value.dtype)
    shared, own = weights.split([shared.shape[-1], own.shape[-1]], -1)
    output = own @ value + groups.scatter(groups.gather(shared) @ prefix.values, copies)
    return output.reshape(num_rows, 1, num_heads, -1), None
