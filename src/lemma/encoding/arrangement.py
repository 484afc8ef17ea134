"""Decides how a run's sequences are arranged: the layout, how long packed rows are, what is grouped by length."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lemma.encoding.chat import Example
from lemma.encoding.examples import Examples, longest_example
from lemma.encoding.layouts import Batch, packed, padded, sequence_lengths
from lemma.encoding.packing import choose_row_length, computed_positions, padding_share
from lemma.encoding.training_set import TrainingSet
from lemma.encoding.windows import Geometry, LengthGrouping, PlannedSampler
from lemma.types import InputError

_SPAN = 32
_SIMULATED = 200  # micro-batches; their shares of padding stand for all


@dataclass(frozen=True)
class Arrangement:
    """How sequences become rows.

    Attributes:
        row_length: Tokens a packed row can hold; None for the padded layout.
        break_even: Row length at which attention costs as much as everything else.
        span: Windows across which the padded layout sorts examples by length; packed rows keep every order.
        seed: Of the order of grouped windows.
        padding: Share of the positions expected to be padding.
        padding_otherwise: The same for the padded layout without exchange between windows.
        most_positions: Positions of the largest micro-batch that was looked at, padding included.
    """

    row_length: int | None
    break_even: float
    span: int
    seed: int
    padding: float
    padding_otherwise: float
    most_positions: int

    def layout(self, pad_id: int) -> Callable[[list[Example], float], Batch]:
        """Return the function of (examples, window_weight) that makes a batch; it goes to loader processes.

        Args:
            pad_id: Id to fill with.
        """
        return functools.partial(_lay_out, row_length=self.row_length, break_even=self.break_even, pad_id=pad_id)

    def grouping(self, examples: Examples) -> LengthGrouping | None:
        """Return how these examples are grouped by length, None if they keep their order."""
        return None if self.row_length is not None else _grouping(examples, self.span, self.seed)

    def held_out_order(self, examples: Examples) -> np.ndarray:
        """Return the order in which held-out examples are measured: similar lengths together, if rows are padded."""
        order, grouping = np.arange(len(examples)), self.grouping(examples)
        return order if grouping is None else grouping.by_length(order)

    def describe(self) -> str:
        """Return a line for the set-up report."""
        share = f"about {self.padding:.0%} padding"
        if self.row_length is not None:
            return (
                f"packed, rows of up to {self.row_length} tokens, {share}; padded would be {self.padding_otherwise:.0%}"
            )
        if self.span == 1:
            return f"padded, {share}"
        return (
            f"padded, {share} by grouping lengths across {self.span} windows, without it {self.padding_otherwise:.0%}"
        )


def arrange(
    training: TrainingSet,
    geometry: Geometry,
    *,
    layout: str,
    row_length: int | None,
    break_even: float,
    group_by_length: bool,
    seed: int,
) -> Arrangement:
    """Return the arrangement of a run, the same on every rank.

    Args:
        training: What is trained on and held out; every sequence of it must fit.
        geometry: How windows are cut.
        layout: ``padded`` or ``packed``.
        row_length: Tokens a packed row can hold; None lets ``choose_row_length`` decide.
        break_even: Row length at which attention costs as much as everything else, by the model's shape.
        group_by_length: Under ``padded``, sort examples by length across windows, not only within each.
        seed: Of the order of grouped windows.

    Raises:
        InputError: If a sequence is longer than ``row_length``.
    """
    longest_length = max(int(e.lengths.max(initial=0)) for e in (training.examples, training.held_out))
    if layout == "packed" and row_length is not None and row_length < longest_length:
        longest = longest_example(training.examples, training.held_out)
        raise InputError(
            f"data.row_length: expected at least {longest_length}, the tokens of the longest sequence "
            f"({longest.source}, problem {longest.problem_id}), but got {row_length}."
        )
    plain = _micro_batches(training, geometry, _grouping(training.examples))
    plain_positions = computed_positions(plain, None)
    otherwise = padding_share(plain, plain_positions)
    span, micro_batches, positions = 1, plain, plain_positions
    if layout == "packed":
        micro_batches = _micro_batches(training, geometry, None)
        row_length = row_length or choose_row_length(micro_batches, longest_length, break_even)
        positions = computed_positions(micro_batches, row_length, break_even)
    elif group_by_length:
        span, micro_batches = _SPAN, _micro_batches(training, geometry, _grouping(training.examples, _SPAN, seed))
        positions = computed_positions(micro_batches, None)
    padding = padding_share(micro_batches, positions)
    return Arrangement(row_length, break_even, span, seed, padding, otherwise, max(positions))


def _grouping(examples: Examples, span: int = 1, seed: int = 0) -> LengthGrouping:
    return LengthGrouping(examples.lengths, span, seed)


def _micro_batches(training: TrainingSet, geometry: Geometry, grouping: LengthGrouping | None) -> list[list[int]]:
    """Return the sequence lengths of rank 0's first micro-batches, on every rank the same."""
    one = Geometry(geometry.batch_size, geometry.accumulate, geometry.num_ranks, 0)
    sampler = PlannedSampler(training.mixture.epoch_order, one, grouping)
    planned = [micro_batch.indices for micro_batch, _ in zip(sampler, range(_SIMULATED), strict=False)]
    return [[length for i in some for length in sequence_lengths(training.examples[i])] for some in planned]


def _lay_out(
    examples: list[Example], window_weight: float, *, row_length: int | None, break_even: float, pad_id: int
) -> Batch:
    if row_length is None:
        return padded(examples, pad_id=pad_id, window_weight=window_weight)
    return packed(examples, pad_id=pad_id, window_weight=window_weight, row_length=row_length, break_even=break_even)
