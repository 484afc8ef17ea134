"""Our own decoding loop: each prompt computed once for all its completions, finished rows replaced by waiting ones.

1. Prompts wait, shortest first, each with all its completions, cut where those exceed the token budget.
2. As many as the budget holds are computed in one forward pass, left-padded; the first token comes from the prompt's
   last position. Keys and values are shared by a prompt's completions (``prefix``) where the model is known to hand
   them on to plain attention, and copied to each row (``cache``) elsewhere.
3. Every forward pass adds a token to each row. All rows end in the same column of the cache, whenever they came, so
   that a row is what a left-padded one is to transformers: a mask, and positions of its own.
4. Rows that have finished run along idle until they are a quarter of the batch. Then they leave, the columns that only
   they needed go, and waiting prompts come in.
"""

import contextlib
import inspect
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from lemma.generation.cache import joined
from lemma.generation.draw import Drawing, Sample
from lemma.generation.prefix import can_share, joined_to_prefix, sharing
from lemma.generation.rows import Rows
from lemma.policy.architecture import state_beyond_attention

_LIVE_SHARE = 0.75  # measured: 0.6 is 15 % slower, 0.9 no faster
_ARGUMENTS = {"attention_mask", "position_ids", "past_key_values", "logits_to_keep"}


class _Part(NamedTuple):
    """A prompt and those of its completions for which it is computed at once."""

    prompt: list[int]
    places: list[tuple[int, int]]
    seeds: list[int | None]


class _Arrivals(NamedTuple):
    """What comes into a batch."""

    rows: Rows
    cache: DynamicCache | None
    """Of their P prompts; None where none comes."""
    owners: Tensor
    """(B,) long, the prompt of each row."""
    lengths: Tensor
    """(P,) long, of the prompts in tokens."""


def can_decode(causal_lm: nn.Module) -> bool:
    """Return whether all that a model remembers of a row is keys and values of attention, a pair for each token.

    Args:
        causal_lm: A transformers causal language model.
    """
    config = causal_lm.config
    text = config.get_text_config()
    layer_types = getattr(text, "layer_types", None) or ()
    if config.is_encoder_decoder or "chunked_attention" in layer_types or getattr(text, "num_kv_shared_layers", None):
        return False
    if state_beyond_attention(config) is not None:
        return False
    layers = {type(layer) for layer in DynamicCache(config=config).layers}
    arguments = set(inspect.signature(causal_lm.forward).parameters)
    return layers <= {DynamicLayer, DynamicSlidingWindowLayer} and arguments >= _ARGUMENTS


def decode(
    causal_lm: nn.Module, prompts: list[list[int]], seeds: list[list[int | None]], drawing: Drawing
) -> list[list[Sample]]:
    """Return the completions of each prompt, one for each of its seeds.

    Args:
        causal_lm: For which ``can_decode`` holds; in evaluation mode.
        prompts: Token ids, at least one each.
        seeds: Of each completion's stream; None for a greedy one.
        drawing: How tokens are drawn.
    """
    shared = can_share(causal_lm)
    with sharing(causal_lm) if shared else contextlib.nullcontext():
        return _decode(causal_lm, prompts, seeds, drawing, shared=shared)


def _decode(
    causal_lm: nn.Module, prompts: list[list[int]], seeds: list[list[int | None]], drawing: Drawing, *, shared: bool
) -> list[list[Sample]]:
    device = next(causal_lm.parameters()).device
    stop_ids = torch.tensor(drawing.stop_ids, dtype=torch.long, device=device)
    samples: list[list[Sample | None]] = [[None] * len(row) for row in seeds]
    waiting = deque(_parts(prompts, seeds, drawing))
    rows, cache = Rows.of([], [], [], drawing.max_new_tokens, device), None
    while rows or waiting:
        num_live = int(rows.live.sum())
        if cache is not None and not _worth_changing(rows, num_live, cache, drawing):
            rows.add(_next_logits(causal_lm, rows, cache), drawing, stop_ids)
            continue
        rows.collect(samples, drawing)
        kept = rows.live.nonzero().squeeze(1)
        running, rows = cache if num_live else None, rows.select(kept)
        parts = _admitted(waiting, num_live, drawing)
        if not rows and not parts:
            break
        new = _arrivals(causal_lm, parts, drawing, stop_ids)
        if shared:
            new.rows.columns.zero_()
        rows = rows.join(new.rows)
        columns = int(rows.columns.max())
        if shared:
            cache = joined_to_prefix(running, kept, new.cache, new.owners, columns, new.lengths)
        else:
            cache = joined(running, kept, new.cache, new.owners, columns)
    return samples


def _parts(prompts: list[list[int]], seeds: list[list[int | None]], drawing: Drawing) -> Iterator[_Part]:
    """Yield prompts with their completions, shortest prompt first, none above the token budget but for a single row."""
    for number in sorted(range(len(prompts)), key=lambda number: len(prompts[number])):
        size = max(1, drawing.max_batch_tokens // (len(prompts[number]) + drawing.max_new_tokens))
        places = [(number, completion) for completion in range(len(seeds[number]))]
        for begin in range(0, len(places), size):
            part = slice(begin, begin + size)
            yield _Part(prompts[number], places[part], seeds[number][part])


def _admitted(waiting: deque[_Part], num_rows: int, drawing: Drawing) -> list[_Part]:
    """Take from those that wait what the token budget holds beside rows that are under way, one at least if none is."""
    admitted = []
    while waiting:
        num_rows += len(waiting[0].places)
        width = len(waiting[0].prompt) + drawing.max_new_tokens  # the longest so far
        if num_rows * width > drawing.max_batch_tokens and num_rows > len(waiting[0].places):
            break
        admitted.append(waiting.popleft())
    return admitted


def _worth_changing(rows: Rows, num_live: int, cache: DynamicCache, drawing: Drawing) -> bool:
    """Return whether finished rows now cost more than the copy that drops them, or more memory than there may be."""
    overfull = len(rows) * (cache.get_seq_length() + 1) > drawing.max_batch_tokens
    return num_live == 0 or num_live < _LIVE_SHARE * len(rows) or (overfull and num_live < len(rows))


def _arrivals(causal_lm: nn.Module, parts: list[_Part], drawing: Drawing, stop_ids: Tensor) -> _Arrivals:
    """Compute prompts, and return their completions' rows with the first token drawn."""
    device = stop_ids.device
    rows = Rows.of(
        [place for part in parts for place in part.places],
        [len(part.prompt) for part in parts for _ in part.places],
        [seed for part in parts for seed in part.seeds],
        drawing.max_new_tokens,
        device,
    )
    owners = [number for number, part in enumerate(parts) for _ in part.places]
    new = _Arrivals(
        rows,
        DynamicCache() if parts else None,
        torch.tensor(owners, dtype=torch.long, device=device),
        torch.tensor([len(part.prompt) for part in parts], dtype=torch.long, device=device),
    )
    if parts:
        logits = _prompt_logits(causal_lm, [part.prompt for part in parts], new.cache, drawing.pad_id, device)
        rows.add(logits[new.owners], drawing, stop_ids)
    return new


def _prompt_logits(
    causal_lm: nn.Module, prompts: list[list[int]], cache: DynamicCache, pad_id: int, device: torch.device
) -> Tensor:
    """Return the (P, V) logits after each prompt, and fill a cache."""
    width = max(map(len, prompts))
    input_ids = torch.tensor([[pad_id] * (width - len(ids)) + ids for ids in prompts], device=device)  # (P, width)
    lengths = torch.tensor([len(ids) for ids in prompts], device=device)
    positions = torch.arange(width, device=device) - (width - lengths)[:, None]  # (P, width), negative on padding
    return causal_lm(
        input_ids=input_ids,
        attention_mask=(positions >= 0).long(),
        position_ids=positions.clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]


def _next_logits(causal_lm: nn.Module, rows: Rows, cache: DynamicCache) -> Tensor:
    """Return the (B, V) logits after each row's last token, which joins the cache."""
    columns = torch.arange(cache.get_seq_length(), -1, -1, device=rows.position.device)  # the last is column 0
    attention_mask = columns <= rows.columns[:, None]  # (B, columns)
    position_ids = rows.position[:, None].clone()  # (B, 1)
    rows.position += rows.live
    rows.columns += rows.live
    return causal_lm(
        input_ids=rows.last_ids(),
        attention_mask=attention_mask.long(),
        position_ids=position_ids,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
