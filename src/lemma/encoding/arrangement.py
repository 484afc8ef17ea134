"""Decides how a run's sequences are arranged: the layout, how long rows are, what is grouped by length."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lemma.encoding.batch import Batch
from lemma.encoding.chat import Example
from lemma.encoding.examples import Examples, longest_example
from lemma.encoding.layouts import LAYOUTS, sequence_lengths, shared_lengths
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
        name: Of the layout, among ``LAYOUTS``.
        row_length: Tokens a row can hold; None for the padded layout.
        break_even: Row length at which attention costs as much as everything else.
        span: Windows across which the padded layout sorts examples by length; the others keep every order.
        seed: Of the order of grouped windows.
        padding: Share of the positions expected to be padding.
        padding_otherwise: The same for the padded layout without exchange between windows.
        saved: Share of the packed layout's tokens that need not be computed, for a prompt stands once.
        most_positions: Positions of the largest micro-batch that was looked at, padding included.
        obstacle: What in the model would mix sequences that share a row, if that is why they share none.
    """

    name: str
    row_length: int | None
    break_even: float
    span: int
    seed: int
    padding: float
    padding_otherwise: float
    saved: float
    most_positions: int
    obstacle: str | None = None

    def layout(self, pad_id: int) -> Callable[[list[Example], float], Batch]:
        """Return the function of (examples, window_weight) that makes a batch; it goes to loader processes.

        Args:
            pad_id: Id to fill with.
        """
        rows = {} if self.row_length is None else {"row_length": self.row_length, "break_even": self.break_even}
        return functools.partial(_lay_out, name=self.name, pad_id=pad_id, **rows)

    def grouping(self, examples: Examples) -> LengthGrouping | None:
        """Return how these examples are grouped by length, None if they keep their order."""
        return None if self.row_length is not None else _grouping(examples, self.span, self.seed)

    def held_out_order(self, examples: Examples) -> np.ndarray:
        """Return the order in which held-out examples are measured: similar lengths together, if rows are padded."""
        order, grouping = np.arange(len(examples)), self.grouping(examples)
        return order if grouping is None else grouping.by_length(order)

    def describe(self) -> str:
        """Return a line for the set-up report."""
        share, otherwise = f"about {self.padding:.0%} padding", f"{self.padding_otherwise:.0%}"
        if self.row_length is None:
            across = f" by grouping lengths across {self.span} windows, without it {otherwise}"
            why = f". Packed rows would mix sequences: {self.obstacle}" if self.obstacle is not None else ""
            return f"{self.name}, {share}{across if self.span > 1 else ''}{why}"
        rows = f"{self.name}, rows of up to {self.row_length} tokens, {share}"
        if self.name == "shared_prefix":
            return f"{rows}; prompts once: {self.saved:.0%} fewer tokens than packed"
        return f"{rows}; padded would be {otherwise}"


def arrange(
    training: TrainingSet,
    geometry: Geometry,
    *,
    layout: str,
    row_length: int | None,
    break_even: float,
    group_by_length: bool,
    seed: int,
    obstacle: str | None = None,
) -> Arrangement:
    """Return the arrangement of a run, the same on every rank.

    Args:
        training: What is trained on and held out; every sequence of it must fit.
        geometry: How windows are cut.
        layout: One of ``LAYOUTS``.
        row_length: Tokens a row can hold; None lets ``choose_row_length`` decide.
        break_even: Row length at which attention costs as much as everything else, by the model's shape.
        group_by_length: Under ``padded``, sort examples by length across windows, not only within each.
        seed: Of the order of grouped windows.
        obstacle: Why rows cannot be shared, for the report.

    Raises:
        InputError: If what must stand on one row is longer than ``row_length``.
    """
    sorted_alone = _micro_batches(training, geometry, _grouping(training.examples))
    alone = _lengths(sorted_alone, sequence_lengths)
    otherwise = padding_share(alone, computed_positions(alone, None))
    span, saved, lengths = 1, 0.0, alone
    if layout != "padded":
        micro_batches = _micro_batches(training, geometry, None)
        lengths = _lengths(micro_batches, _BLOCKS[layout])
        longest_length = _check_row_length(training, layout, row_length)
        row_length = row_length or choose_row_length(lengths, longest_length, break_even)
        saved = 1 - _total(lengths) / _total(_lengths(micro_batches, sequence_lengths))
    elif group_by_length:
        span = _SPAN
        lengths = _lengths(
            _micro_batches(training, geometry, _grouping(training.examples, _SPAN, seed)), sequence_lengths
        )
    positions = computed_positions(lengths, row_length, break_even)
    return Arrangement(
        name=layout,
        row_length=row_length,
        break_even=break_even,
        span=span,
        seed=seed,
        padding=padding_share(lengths, positions),
        padding_otherwise=otherwise,
        saved=saved,
        most_positions=max(positions),
        obstacle=obstacle,
    )


_BLOCKS: dict[str, Callable[[Example], list[int]]] = {"packed": sequence_lengths, "shared_prefix": shared_lengths}
"""Layout → the tokens of each piece of an example that stands on one row."""
_LONGEST = {
    "packed": ("lengths", "longest sequence"),
    "shared_prefix": ("shared_lengths", "longest prompt with all its completions"),
}


def _check_row_length(training: TrainingSet, layout: str, row_length: int | None) -> int:
    """Return the tokens of the longest piece that must stand on one row, and refuse a row that is shorter."""
    attribute, what = _LONGEST[layout]
    groups = (training.examples, training.held_out)
    longest_length = max(int(getattr(group, attribute).max(initial=0)) for group in groups)
    if row_length is not None and row_length < longest_length:
        longest = longest_example(*groups, lengths=attribute)
        noun = "pair" if longest.is_pair else "problem"
        raise InputError(
            f"data.row_length: expected at least {longest_length}, the tokens of the {what} "
            f"({longest.source}, {noun} {longest.problem_id}), but got {row_length}."
        )
    return longest_length


def _grouping(examples: Examples, span: int = 1, seed: int = 0) -> LengthGrouping:
    return LengthGrouping(examples.lengths, span, seed)


def _micro_batches(training: TrainingSet, geometry: Geometry, grouping: LengthGrouping | None) -> list[list[Example]]:
    """Return rank 0's first micro-batches, on every rank the same."""
    one = Geometry(geometry.batch_size, geometry.accumulate, geometry.num_ranks, 0)
    sampler = PlannedSampler(training.mixture.epoch_order, one, grouping)
    planned = [micro_batch.indices for micro_batch, _ in zip(sampler, range(_SIMULATED), strict=False)]
    return [[training.examples[i] for i in some] for some in planned]


def _lengths(micro_batches: list[list[Example]], blocks: Callable[[Example], list[int]]) -> list[list[int]]:
    return [[length for example in some for length in blocks(example)] for some in micro_batches]


def _total(lengths: list[list[int]]) -> int:
    return sum(map(sum, lengths))


def _lay_out(examples: list[Example], window_weight: float, *, name: str, **options) -> Batch:
    return LAYOUTS[name](examples, window_weight=window_weight, **options)
