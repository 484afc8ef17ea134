"""Decides how the completions of groups become rows.

Under ``shared_prefix`` a prompt stands once before all its completions. Attention that computes every pair of a row
makes such rows dear, so a group is cut into parts, each with the prompt again, where that is cheaper: whole groups,
halves, quarters and so on to single completions are tried, and of those that cost about the least the one with the
fewest parts is taken: each part holds its prompt once more, in memory too.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lemma.encoding import LAYOUTS, Batch, Example
from lemma.encoding.layouts import shared_lengths
from lemma.encoding.packing import pack_rows, rows_cost

_ROOM = 4  # rows are at most so many times as long as the longest piece, as in ``encoding.packing``
_MARGIN = 0.1


@dataclass(frozen=True)
class RolloutLayout:
    """How a run lays out completions whose lengths are known only when they are drawn.

    Attributes:
        name: Of the layout, among ``LAYOUTS``.
        break_even: Row length at which attention costs as much as everything else; infinite where it skips what is
            masked: then groups stay whole.
        obstacle: What in the model would mix sequences that share a row, if that is why they share none.
    """

    name: str
    break_even: float
    obstacle: str | None = None

    def layout(self, pad_id: int) -> Callable[[list[Example]], Batch]:
        """Return the function from examples to a batch whose completions keep their order.

        Args:
            pad_id: Id to fill with.
        """
        return lambda examples: lay_out(examples, name=self.name, pad_id=pad_id, break_even=self.break_even)

    def describe(self) -> str:
        """Return a line for the set-up report."""
        if self.name == "shared_prefix":
            parts = ", or before each part of them if cheaper" if math.isfinite(self.break_even) else ""
            return f"shared_prefix, each prompt once before its completions{parts}"
        why = f". Shared rows would mix sequences: {self.obstacle}" if self.obstacle is not None else ""
        return f"{self.name}, a prompt before each completion{why}"


def lay_out(examples: Sequence[Example], *, name: str, pad_id: int, break_even: float = float("inf")) -> Batch:
    """Return completions as a batch; they keep their order.

    Args:
        examples: At least one.
        name: One of ``LAYOUTS``.
        pad_id: Id to fill with.
        break_even: Row length at which attention costs as much as everything else; infinite where it skips what is
            masked.
    """
    if name == "padded":
        return LAYOUTS[name](list(examples), pad_id=pad_id, window_weight=1.0)
    parts = cheapest_parts(examples, break_even) if name == "shared_prefix" else cut(examples, 1)
    longest = max(length for part in parts for length in shared_lengths(part))
    return LAYOUTS[name](parts, pad_id=pad_id, window_weight=1.0, row_length=_ROOM * longest, break_even=break_even)


def cheapest_parts(examples: Sequence[Example], break_even: float) -> list[Example]:
    """Return examples with their completions in parts of equal size, where that costs less than to keep them together.

    Of costs within a tenth of the least, the fewest parts are taken.

    Args:
        examples: Each with at least one completion.
        break_even: As for ``lay_out``.
    """
    size = max(len(example.completions) for example in examples)
    candidates = [list(examples)]
    while size > 1 and math.isfinite(break_even):
        size = -(-size // 2)
        candidates.append(cut(examples, size))
    costs = [_cost(parts, break_even) for parts in candidates]
    bound = min(costs) * (1 + _MARGIN)
    return next(parts for parts, cost in zip(candidates, costs, strict=True) if cost <= bound)


def cut(examples: Sequence[Example], size: int) -> list[Example]:
    """Return examples cut so that none has more than so many completions; order is kept.

    Args:
        examples: Each with at least one completion.
        size: Completions of a part, at least 1.
    """
    return [
        replace(example, completions=example.completions[first : first + size])
        for example in examples
        for first in range(0, len(example.completions), size)
    ]


def _cost(parts: Sequence[Example], break_even: float) -> float:
    lengths = [length for part in parts for length in shared_lengths(part)]
    return rows_cost(pack_rows(lengths, _ROOM * max(lengths), break_even), lengths, break_even)
