"""Layouts turn examples into tensors: ``padded`` is one sequence a row, ``packed`` as few rows as they fit in.

In a packed row, position ids that begin again at 0 say where a sequence begins, and transformers lets none attend to
another (``lemma.policy.packing`` checks that it does). What is left of a row is sequences of padding, none longer than
a real one: their positions reach into no table, and change no scaling of rotations, beyond what real tokens do.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lemma.encoding.chat import Example
from lemma.encoding.packing import fullest, pack_rows


class Batch:
    """One micro-batch of N completions, in any layout.

    No dataclass on purpose: Lightning's precision plugins convert the floating-point tensors of any collection or
    dataclass, and under ``bf16-true`` a normaliser of three digits would be a wrong loss.

    Attributes:
        input_ids: (B, L) long.
        attention_mask: (B, L) bool, True on real tokens; None where ``position_ids`` alone say who attends to whom.
        position_ids: (B, L) long, from 0 in each sequence of a row; None for one sequence a row.
        completion_index: (M,) long, positions of completion tokens in (B x L) flattened, completion after completion.
        mask: (N, T) bool, True on the tokens of each completion, left-aligned.
        weights: (N,) float32, weight of each completion's tokens in the loss; 0 for one that only fills a turn.
        window_weight: () float32, sum of weight x completion tokens over the whole window, all ranks included.
        num_tokens: Real tokens of the sequences that count, prompts included.
        window_sources: (corpora,) examples of each corpus in the window, all ranks included; None outside a window.
    """

    def __init__(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        completion_index: Tensor,
        mask: Tensor,
        weights: Tensor,
        window_weight: Tensor,
        num_tokens: int,
        window_sources: np.ndarray | None = None,
    ) -> None:
        self.input_ids = input_ids
        self.attention_mask = attention_mask
        self.position_ids = position_ids
        self.completion_index = completion_index
        self.mask = mask
        self.weights = weights
        self.window_weight = window_weight
        self.num_tokens = num_tokens
        self.window_sources = window_sources

    @property
    def num_positions(self) -> int:
        """Return the positions that are computed, padding included."""
        return self.input_ids.numel()

    @property
    def completion_mask(self) -> Tensor:
        """Return (B, L) bool, True on completion tokens."""
        flat = torch.zeros(self.input_ids.numel(), dtype=torch.bool, device=self.input_ids.device)
        return flat.index_fill(0, self.completion_index, True).view_as(self.input_ids)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on a device."""
        return Batch(**{n: value.to(device) if isinstance(value, Tensor) else value for n, value in vars(self).items()})


def padded(examples: list[Example], *, pad_id: int, window_weight: float) -> Batch:
    """Lay out each completion with its prompt on a row of its own, padded on the right.

    Args:
        examples: At least one.
        pad_id: Id to fill with; masks never depend on it.
        window_weight: The window's normaliser.

    Raises:
        ValueError: If a prompt is empty, for nothing would predict the completion's first token.
    """
    sequences = _sequences(examples)
    length = max(sequence.length for sequence in sequences)
    input_ids = torch.full((len(sequences), length), pad_id)
    attention_mask = torch.zeros(len(sequences), length, dtype=torch.bool)
    for i, sequence in enumerate(sequences):
        input_ids[i, : sequence.length] = torch.tensor(sequence.prompt_ids + sequence.completion_ids)
        attention_mask[i, : sequence.length] = True
    starts = [i * length for i in range(len(sequences))]
    return _batch(sequences, starts, input_ids, attention_mask, None, window_weight)


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
    sequences = _sequences(examples)
    lengths = [sequence.length for sequence in sequences]
    rows = pack_rows(lengths, row_length, break_even)
    width = fullest(rows, lengths)
    input_ids = torch.full((len(rows), width), pad_id)
    position_ids = torch.zeros_like(input_ids)
    starts = [0] * len(sequences)
    for row, members in enumerate(rows):
        first = 0
        for i in members:
            end = first + lengths[i]
            input_ids[row, first:end] = torch.tensor(sequences[i].prompt_ids + sequences[i].completion_ids)
            position_ids[row, first:end] = torch.arange(lengths[i])
            starts[i], first = row * width + first, end
        position_ids[row, first:] = torch.arange(width - first) % max(lengths)
    return _batch(sequences, starts, input_ids, None, position_ids, window_weight)


def sequence_lengths(example: Example) -> list[int]:
    """Return the tokens of each of an example's sequences, a prompt with one completion."""
    return [len(example.prompt_ids) + len(completion) for completion in example.completions]


class _Sequence(NamedTuple):
    """A prompt with one of its completions."""

    prompt_ids: list[int]
    completion_ids: list[int]
    weight: float

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


def _sequences(examples: list[Example]) -> list[_Sequence]:
    for example in examples:
        if not example.prompt_ids:
            raise ValueError(f"Expected a prompt of at least one token, but {example.problem_id!r} has none.")
    return [_Sequence(e.prompt_ids, completion, e.weight) for e in examples for completion in e.completions]


def _batch(
    sequences: list[_Sequence],
    starts: list[int],
    input_ids: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    window_weight: float,
) -> Batch:
    """Return the batch whose sequences begin at ``starts`` in the flattened ``input_ids``."""
    spans = [
        torch.arange(start + len(sequence.prompt_ids), start + sequence.length)
        for sequence, start in zip(sequences, starts, strict=True)
    ]
    lengths = torch.tensor([len(span) for span in spans])
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=position_ids,
        completion_index=torch.cat(spans),
        mask=torch.arange(int(lengths.max())) < lengths[:, None],  # (N, T)
        weights=torch.tensor([sequence.weight for sequence in sequences], dtype=torch.float32),
        window_weight=torch.tensor(window_weight, dtype=torch.float32),
        num_tokens=sum(sequence.length for sequence in sequences if sequence.weight > 0),
    )
