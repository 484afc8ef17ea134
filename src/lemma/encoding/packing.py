"""Decides which sequences share a row, and how long rows are.

1. Sequences are placed best fit decreasing: the longest first, each into the fullest row that still has room for it.
2. That gives a number of rows. Dealing the sequences again, the longest first and each into the emptiest row, often
   makes the fullest of them shorter; a batch is as long as its fullest row, so the shorter of both is taken.
3. Long rows waste few positions, short ones few pairs of positions, for a masked attention kernel computes every pair
   in a row. Several lengths up to the run's bound are tried, and the one that costs least by both is taken.
"""

import bisect
import heapq
from collections.abc import Sequence

_FACTORS = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
_MARGIN = 0.01


def pack_rows(lengths: Sequence[int], row_length: int, break_even: float = float("inf")) -> list[list[int]]:
    """Return the sequences of each row of a batch, in the cheapest arrangement found.

    Args:
        lengths: Tokens of each sequence, at least 1.
        row_length: Tokens a row can hold.
        break_even: Row length at which attention costs as much as everything else; infinite counts positions alone.

    Returns:
        Rows of indices into ``lengths``, each index once; no row is empty. Of equal costs, the fewest rows.

    Raises:
        ValueError: If a sequence is longer than a row.
    """
    longest = max(lengths)
    if longest > row_length:
        raise ValueError(f"Expected `row_length` to be at least {longest}, but got {row_length}.")
    candidates = []
    bounds = {row_length, *(int(longest * factor) for factor in _FACTORS)}
    for bound in sorted((bound for bound in bounds if bound <= row_length), reverse=True):
        rows = best_fit(lengths, bound)
        candidates += [rows, _deal(lengths, len(rows))]
    return min(candidates, key=lambda rows: rows_cost(rows, lengths, break_even))


def best_fit(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Return rows of indices by best fit decreasing.

    Args:
        lengths: Tokens of each sequence, at most ``row_length``.
        row_length: Tokens a row can hold.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens that still fit, row), sorted
    for i in _longest_first(lengths):
        first = bisect.bisect_left(room, (lengths[i], 0))
        if first == len(room):
            rows.append([])
            room.append((row_length, len(rows) - 1))
        left, row = room.pop(first)
        rows[row].append(i)
        bisect.insort(room, (left - lengths[i], row))
    return rows


def _deal(lengths: Sequence[int], num_rows: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(num_rows)]
    filled = [(0, row) for row in range(num_rows)]
    for i in _longest_first(lengths):
        tokens, row = filled[0]
        rows[row].append(i)
        heapq.heapreplace(filled, (tokens + lengths[i], row))
    return rows


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda i: -lengths[i])


def fullest(rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> int:
    """Return the tokens of the fullest row.

    Args:
        rows: Indices of each row's sequences.
        lengths: Tokens of each sequence.
    """
    return max(sum(lengths[i] for i in row) for row in rows)


def rows_cost(rows: Sequence[Sequence[int]], lengths: Sequence[int], break_even: float) -> float:
    """Return what a batch costs, in positions of a row so short that attention costs nothing.

    Args:
        rows: Indices of each row's sequences.
        lengths: Tokens of each sequence.
        break_even: As for ``pack_rows``.
    """
    width = fullest(rows, lengths)
    return len(rows) * width * (1 + width / break_even)


def computed_positions(
    micro_batches: Sequence[Sequence[int]], row_length: int | None, break_even: float = float("inf")
) -> list[int]:
    """Return the positions that each micro-batch computes, padding included.

    Args:
        micro_batches: Tokens of the sequences of each micro-batch.
        row_length: Tokens a packed row can hold; None for the padded layout.
        break_even: As for ``pack_rows``.
    """
    if row_length is None:
        return [len(lengths) * max(lengths) for lengths in micro_batches]
    packed = [(pack_rows(lengths, row_length, break_even), lengths) for lengths in micro_batches]
    return [len(rows) * fullest(rows, lengths) for rows, lengths in packed]


def padding_share(micro_batches: Sequence[Sequence[int]], positions: Sequence[int]) -> float:
    """Return the share of the computed positions that is padding, in [0, 1).

    Args:
        micro_batches: Tokens of the sequences of each micro-batch.
        positions: What ``computed_positions`` returns for them.
    """
    return 1 - sum(map(sum, micro_batches)) / sum(positions)


def choose_row_length(micro_batches: Sequence[Sequence[int]], longest: int, break_even: float) -> int:
    """Return how long packed rows may be: the shortest bound that costs within 1 % of the least.

    Tried are 1, 1.25, 1.5, 2, 3 and 4 times the longest sequence.

    Args:
        micro_batches: Tokens of the sequences of some planned micro-batches.
        longest: Tokens of the longest sequence that will have to fit, in these micro-batches or not.
        break_even: As for ``pack_rows``.
    """
    bounds = [int(longest * factor) for factor in _FACTORS]
    costs = [
        sum(rows_cost(pack_rows(lengths, bound, break_even), lengths, break_even) for lengths in micro_batches)
        for bound in bounds
    ]
    return next(bound for bound, cost in zip(bounds, costs, strict=True) if cost <= min(costs) * (1 + _MARGIN))
