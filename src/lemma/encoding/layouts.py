"""Layouts turn examples into tensors: ``padded``, ``packed`` and ``shared_prefix``.

``padded`` is one sequence (a prompt and a completion) a row. ``packed`` is as few rows as the sequences fit in, and
``shared_prefix`` the same with each prompt once, followed by all its completions.

In a packed row, position ids that begin again at 0 say where a sequence begins, and transformers lets none attend to
another (``lemma.policy.packing`` checks that it does). What is left of a row is sequences of padding, none longer than
a real one: their positions reach into no table, and change no scaling of rotations, beyond what real tokens do.

Under a shared prefix the positions of each completion go on where the prompt ends, and ``groups`` and ``branches`` say
who sees whom: a token sees its example's prompt and its own completion, up to itself (``lemma.policy.visibility``).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lemma.encoding.batch import Batch
from lemma.encoding.chat import Example
from lemma.encoding.packing import fullest, pack_rows


def padded(examples: list[Example], *, pad_id: int, window_weight: float) -> Batch:
    """Lay out each completion with its prompt on a row of its own, padded on the right.

    Args:
        examples: At least one.
        pad_id: Id to fill with; masks never depend on it.
        window_weight: The window's normaliser.

    Raises:
        ValueError: If a prompt is empty, for nothing would predict the completion's first token.
    """
    blocks = _sequences(examples)
    length = max(block.length for block in blocks)
    input_ids = torch.full((len(blocks), length), pad_id)
    attention_mask = torch.zeros(len(blocks), length, dtype=torch.bool)
    for row, block in enumerate(blocks):
        input_ids[row, : block.length] = torch.tensor(block.ids)
        attention_mask[row, : block.length] = True
    starts = [row * length for row in range(len(blocks))]
    return _batch(examples, blocks, starts, input_ids, window_weight, attention_mask=attention_mask)


def packed(
    examples: list[Example],
    *,
    pad_id: int,
    window_weight: float,
    row_length: int,
    break_even: float = float("inf"),
) -> Batch:
    """Lay out the completions, each with its prompt, several a row; completions keep the order of the examples.

    Args:
        examples: At least one.
        pad_id: Id to fill with; nothing depends on it.
        window_weight: The window's normaliser.
        row_length: Tokens a row can hold; rows are as long as the fullest.
        break_even: Row length at which attention costs as much as everything else (``encoding.packing``).

    Raises:
        ValueError: If a prompt is empty, or a sequence is longer than a row.
    """
    return _rows(examples, _sequences(examples), pad_id, window_weight, row_length, break_even)


def shared_prefix(
    examples: list[Example],
    *,
    pad_id: int,
    window_weight: float,
    row_length: int,
    break_even: float = float("inf"),
) -> Batch:
    """Lay out each prompt once, followed by its completions, several examples a row.

    Completions keep the order of the examples. Where every example has one completion, this is ``packed``.

    Args:
        examples: At least one.
        pad_id: Id to fill with; nothing depends on it.
        window_weight: The window's normaliser.
        row_length: Tokens a row can hold; rows are as long as the fullest.
        break_even: Row length at which attention costs as much as everything else (``encoding.packing``).

    Raises:
        ValueError: If a prompt is empty, or an example with all its completions is longer than a row.
    """
    _check_prompts(examples)
    blocks = [_Block(example.prompt_ids, example.completions, example.weight) for example in examples]
    return _rows(examples, blocks, pad_id, window_weight, row_length, break_even)


LAYOUTS: dict[str, Callable[..., Batch]] = {"padded": padded, "packed": packed, "shared_prefix": shared_prefix}
"""Layout by name. All take examples, ``pad_id`` and ``window_weight``, all but padded a row's length, too."""


def sequence_lengths(example: Example) -> list[int]:
    """Return the tokens of each of an example's sequences, a prompt with one completion."""
    return [len(example.prompt_ids) + len(completion) for completion in example.completions]


def shared_lengths(example: Example) -> list[int]:
    """Return the tokens of an example whose prompt stands once, before all its completions: a list of one number."""
    return [len(example.prompt_ids) + sum(map(len, example.completions))]


class _Block(NamedTuple):
    """What stands together on a row: a prompt, and one or all of its completions."""

    prompt_ids: list[int]
    completions: list[list[int]]
    weight: float

    @property
    def ids(self) -> list[int]:
        return [*self.prompt_ids, *(token for completion in self.completions for token in completion)]

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + sum(map(len, self.completions))

    @property
    def longest(self) -> int:
        return len(self.prompt_ids) + max(map(len, self.completions))

    def positions(self) -> Tensor:
        """Return (length,) the place of each token in its own sequence."""
        first = len(self.prompt_ids)
        return torch.cat([torch.arange(first), *(torch.arange(first, first + len(c)) for c in self.completions)])

    def branches(self) -> Tensor:
        """Return (length,) 0 for the prompt, 1..n for the completions."""
        sizes = torch.tensor([len(self.prompt_ids), *map(len, self.completions)])
        return torch.repeat_interleave(torch.arange(len(sizes)), sizes)


def _check_prompts(examples: list[Example]) -> None:
    for example in examples:
        if not example.prompt_ids:
            raise ValueError(f"Expected a prompt of at least one token, but {example.problem_id!r} has none.")


def _sequences(examples: list[Example]) -> list[_Block]:
    _check_prompts(examples)
    return [_Block(e.prompt_ids, [completion], e.weight) for e in examples for completion in e.completions]


def _rows(
    examples: list[Example],
    blocks: list[_Block],
    pad_id: int,
    window_weight: float,
    row_length: int,
    break_even: float,
) -> Batch:
    """Return the batch with the blocks on as few rows as they fit in."""
    lengths = [block.length for block in blocks]
    rows = pack_rows(lengths, row_length, break_even)
    width, longest = fullest(rows, lengths), max(block.longest for block in blocks)
    input_ids = torch.full((len(rows), width), pad_id)
    position_ids = torch.zeros_like(input_ids)
    groups, branches = torch.full_like(input_ids, -1), torch.zeros_like(input_ids)
    starts = [0] * len(blocks)
    for row, members in enumerate(rows):
        first = 0
        for i in members:
            end = first + lengths[i]
            input_ids[row, first:end] = torch.tensor(blocks[i].ids)
            position_ids[row, first:end] = blocks[i].positions()
            groups[row, first:end] = i
            branches[row, first:end] = blocks[i].branches()
            starts[i], first = row * width + first, end
        position_ids[row, first:] = torch.arange(width - first) % longest
    shared = {"groups": groups, "branches": branches} if any(len(b.completions) > 1 for b in blocks) else {}
    return _batch(examples, blocks, starts, input_ids, window_weight, position_ids=position_ids, **shared)


def _batch(
    examples: list[Example],
    blocks: list[_Block],
    starts: list[int],
    input_ids: Tensor,
    window_weight: float,
    *,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    groups: Tensor | None = None,
    branches: Tensor | None = None,
) -> Batch:
    """Return the batch whose blocks begin at ``starts`` in the flattened ``input_ids``."""
    spans, before, weights = [], [], []
    for block, start in zip(blocks, starts, strict=True):
        first = last = start + len(block.prompt_ids)
        for completion in block.completions:
            span = torch.arange(last, last + len(completion))
            spans.append(span)
            before.append(torch.cat([torch.tensor([first - 1]), span[:-1]])[: len(span)])
            weights.append(block.weight)
            last += len(completion)
    lengths = torch.tensor([len(span) for span in spans])
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=position_ids,
        completion_index=torch.cat(spans),
        previous_index=None if groups is None else torch.cat(before),
        groups=groups,
        branches=branches,
        mask=torch.arange(int(lengths.max())) < lengths[:, None],  # (N, T)
        weights=torch.tensor(weights, dtype=torch.float32),
        window_weight=torch.tensor(window_weight, dtype=torch.float32),
        num_tokens=sum(block.length for block in blocks if block.weight > 0),
        num_completions=[len(example.completions) for example in examples],
        labels=[(example.source, example.kind) for example in examples],
    )
