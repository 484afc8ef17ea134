"""Computes attention on a CPU span by span, so that only tokens that see each other cost anything.

A span is a run of tokens of one row that see one another causally: a sequence, a prompt, or a completion, which besides
sees all of its prompt. SDPA with a mask computes every pair of a row and throws away what is masked; here each span
goes through the same kernel by itself, and all completions of a prompt go through it once more, against the prompt.
What both say is joined by the log of their softmax denominators, as flash attention joins blocks (arXiv:2205.14135),
and the kernel's own backward pass is right for each part when it is given the joint output and denominator, as in ring
attention (arXiv:2310.01889).
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lemma.encoding import Batch

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # SDPA keeps its denominators to itself
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Part(NamedTuple):
    """Tokens of a row that go through the kernel together."""

    row: int
    begin: int
    end: int
    """Tokens that see."""
    seen_begin: int
    seen_end: int
    """Tokens that are seen: the same ones, causally, or all of a prompt."""

    @property
    def is_causal(self) -> bool:
        """Return whether the tokens see one another, and not a prompt."""
        return self.begin == self.seen_begin

    @property
    def queries(self) -> tuple[slice, slice, slice]:
        """Return where the tokens that see stand in (B, heads, L)."""
        return slice(self.row, self.row + 1), slice(None), slice(self.begin, self.end)

    @property
    def keys(self) -> tuple[slice, slice, slice]:
        """Return where the tokens that are seen stand in (B, heads, L)."""
        return slice(self.row, self.row + 1), slice(None), slice(self.seen_begin, self.seen_end)


def parts_of(batch: Batch) -> list[Part]:
    """Return what a batch of shared rows computes: its spans, then the completions of each prompt against it.

    Padding of the shared-prefix layout is in none; in the packed layout, where it stands as sequences, it is.

    Args:
        batch: With ``position_ids``; with ``groups`` and ``branches`` where prompts are shared.
    """
    if batch.groups is None:
        owners = (batch.position_ids == 0).cumsum(1)
        branches = torch.zeros_like(owners)
    else:
        owners, branches = batch.groups, batch.branches
    spans, prompts = [], []
    for row, values in enumerate(zip(owners.tolist(), branches.tolist(), strict=True)):
        prompt = None
        for owner, branch, begin, end in _runs(*values):
            if owner < 0:
                continue
            spans.append(Part(row, begin, end, begin, end))
            if branch == 0:
                prompt = (begin, end)
            elif prompt is not None:
                prompts.append(Part(row, begin, end, *prompt))
                prompt = None
            else:
                prompts[-1] = prompts[-1]._replace(end=end)
    return spans + prompts


def as_mask(parts: list[Part]) -> Tensor:
    """Return parts as (1, 1, P, 5) long: models hand on a tensor of four dimensions as they get it."""
    return torch.tensor(parts)[None, None]


def visible(parts: list[Part], rows: int, length: int) -> Tensor:
    """Return the (rows, 1, length, length) bool mask that computes the same, padding seeing itself."""
    mask = torch.eye(length, dtype=torch.bool).repeat(rows, 1, 1, 1)
    for part in parts:
        seen = mask.new_ones(part.end - part.begin, part.seen_end - part.seen_begin)
        mask[part.row, 0, part.begin : part.end, part.seen_begin : part.seen_end] = (
            seen.tril() if part.is_causal else seen
        )
    return mask


def attend(
    module: nn.Module,
    query: Tensor,  # (B, heads, L, D)
    key: Tensor,  # (B, key heads, L, D)
    value: Tensor,  # (B, key heads, L, D')
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:  # (B, L, heads, D')
    """Return the attention of a layer, span by span where the mask is one of ``as_mask``; transformers' signature.

    What the kernel cannot do (dropout of scores, a bias on them, values of another width) goes to SDPA with a mask.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if attention_mask is None or attention_mask.dtype != torch.long:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    parts = [Part(*part) for part in attention_mask[0, 0].tolist()]
    if dropout or kwargs.get("position_bias") is not None or value.shape[-1] != query.shape[-1]:
        mask = visible(parts, query.shape[0], query.shape[2])
        return sdpa_attention_forward(module, query, key, value, mask, dropout, scaling, **kwargs)
    copies = query.shape[1] // key.shape[1]
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else value.dtype
    states = [query, *(each.repeat_interleave(copies, dim=1) if copies > 1 else each for each in (key, value))]
    output = SpanAttention.apply(*(each.to(dtype) for each in states), parts, scaling)
    return output.transpose(1, 2), None


def _runs(*values: list[int]) -> Iterator[tuple[int, ...]]:
    """Yield the values of each run of equal ones, and where it begins and ends."""
    begin = 0
    for key, run in itertools.groupby(zip(*values, strict=True)):
        end = begin + sum(1 for _ in run)
        yield *key, begin, end
        begin = end


class SpanAttention(torch.autograd.Function):
    """Softmax attention over parts; all tensors are (B, heads, L, D) of one floating type."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, parts: list[Part], scale: float | None) -> Tensor:
        """Return the attention of every token, 0 for tokens in no part.

        Args:
            ctx: Keeps what ``backward`` needs.
            query: Of the tokens that see.
            key: Of those that are seen.
            value: Of those that are seen.
            parts: Spans before what completions see of their prompts.
            scale: Of the scores; None for one over the root of D.
        """
        batch, heads, length, width = query.shape
        output = query.new_zeros(batch, length, heads, width).transpose(1, 2)
        denominator: Tensor | None = None  # (B, heads, L), the log of it
        for part in parts:
            own, log_sum = _forward(
                query[part.queries], key[part.keys], value[part.keys], is_causal=part.is_causal, scale=scale
            )
            if denominator is None:
                denominator = log_sum.new_zeros(batch, heads, length)
            if not part.is_causal:
                before = denominator[part.queries]
                share = torch.sigmoid(log_sum - before).unsqueeze(-1)  # of the prompt
                own = torch.lerp(output[part.queries].to(share.dtype), own.to(share.dtype), share)
                log_sum = torch.logaddexp(log_sum, before)
            output[part.queries] = own
            denominator[part.queries] = log_sum
        ctx.save_for_backward(query, key, value, output, denominator)
        ctx.parts, ctx.scale = parts, scale
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of query, key and value."""
        query, key, value, output, denominator = ctx.saved_tensors
        grads = [torch.zeros_like(each) for each in (query, key, value)]
        for part in ctx.parts:
            found = _backward(
                grad_output[part.queries],
                query[part.queries],
                key[part.keys],
                value[part.keys],
                output[part.queries],
                denominator[part.queries],
                0.0,
                part.is_causal,
                scale=ctx.scale,
            )
            for grad, own, place in zip(grads, found, (part.queries, part.keys, part.keys), strict=True):
                if part.is_causal:
                    grad[place] = own
                else:
                    grad[place] += own
        return *grads, None, None
