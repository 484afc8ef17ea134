"""Packed rows: every sequence once, no row too full, few rows, and a batch that says where each completion stands."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lemma.corpora import Mixture
from lemma.encoding import Example, Examples, Geometry, TrainingSet, arrange, packed, padded
from lemma.encoding.packing import best_fit, choose_row_length, computed_positions, fullest, pack_rows, padding_share
from lemma.types import InputError

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=40)


def fewest_rows(lengths: list[int], row_length: int) -> int:
    """Return the smallest number of rows, by trying every assignment up to symmetry."""
    for number in range(1, len(lengths) + 1):
        for rows in itertools.product(range(number), repeat=len(lengths)):
            loads = [sum(length for length, r in zip(lengths, rows, strict=True) if r == row) for row in range(number)]
            if max(loads) <= row_length:
                return number
    raise AssertionError


@given(lengths=LENGTHS, room=st.integers(0, 100))
@settings(max_examples=300, deadline=None)
def test_every_sequence_is_in_one_row_and_no_row_is_too_full_or_empty(lengths, room):
    row_length = max(lengths) + room
    rows = pack_rows(lengths, row_length)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[i] for i in row) <= row_length for row in rows)
    assert fullest(rows, lengths) <= row_length


@given(lengths=LENGTHS, room=st.integers(0, 100), break_even=st.floats(1, 1000))
@settings(max_examples=200, deadline=None)
def test_no_row_length_up_to_the_bound_would_have_cost_less(lengths, room, break_even):
    def cost(rows):
        width = fullest(rows, lengths)
        return len(rows) * width * (1 + width / break_even)

    row_length = max(lengths) + room
    chosen = cost(pack_rows(lengths, row_length, break_even))
    assert chosen <= cost(best_fit(lengths, row_length))
    assert chosen <= cost(best_fit(lengths, max(lengths)))
    assert chosen <= cost([[i] for i in range(len(lengths))])


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), room=st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_rows_are_as_few_as_by_brute_force_for_few_sequences(lengths, room):
    row_length = max(lengths) + room
    assert len(best_fit(lengths, row_length)) <= math.floor(11 / 9 * fewest_rows(lengths, row_length) + 6 / 9)


def test_best_fit_by_hand():
    # rows of 10: 7 takes 3 (best fit), 6 takes 4; first fit in the given order would open a third row
    assert best_fit([3, 4, 6, 7], 10) == [[3, 0], [2, 1]]


def test_packing_by_hand():
    # best fit gives 10 and 2, dealing gives 6 and 6, so the batch is 6 long
    rows = pack_rows([5, 5, 1, 1], 10)
    assert len(rows) == 2
    assert fullest(rows, [5, 5, 1, 1]) == 6
    # 6 and 6 take rows of 6, not one of 12, for both hold 12 positions and the pairs are fewer; 7, 4 and 3 take one of
    # 14 where attention is cheap (break-even 100: 2 x 7 x 1.07 = 14.98 is less than 14 x 1.14 = 15.96: rows of 7)
    assert len(pack_rows([6, 6], 12, 100.0)) == 2
    assert len(pack_rows([7, 4, 3], 14, 100.0)) == 2
    # 7, 6 and 2: two rows of 8 cost 16 x 1.08 = 17.28, one of 15 costs 15 x 1.15 = 17.25; at 50, 18.56 and 19.5
    assert len(pack_rows([7, 6, 2], 15, 100.0)) == 1
    assert len(pack_rows([7, 6, 2], 15, 50.0)) == 2


def test_a_sequence_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match="Expected `row_length` to be at least 11, but got 10"):
        pack_rows([3, 11], 10)


def test_padding_by_hand():
    assert computed_positions([[2, 4], [3]], None) == [8, 3]
    assert padding_share([[2, 4], [3]], [8, 3]) == pytest.approx(2 / 11)
    assert computed_positions([[2, 4], [3]], 6) == [6, 3]
    assert computed_positions([[2, 4, 3]], 6) == [10]  # rows of 5 and 4


def test_the_shortest_bound_that_costs_about_the_least_is_chosen():
    assert choose_row_length([[10] * 8], 10, 1000.0) == 10, "nothing is wasted, so attention decides"
    # one row of 40 has no padding; rows of 10 hold one sequence each (60 positions), rows of 12 two of 6 (48)
    micro_batches = [[10, 6, 6, 6, 6, 6]]
    assert choose_row_length(micro_batches, 10, 1e9) == 40
    assert choose_row_length(micro_batches, 10, 1.0) == 12, "4 x 12 x 13 is less than 6 x 10 x 11 and 40 x 41"


# The batch


def examples(number: int = 9, seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)

    def ids(low: int, high: int) -> list[int]:
        return rng.integers(3, 97, rng.integers(low, high)).tolist()

    return [Example(f"p{i}", "s", ids(1, 9), [ids(1, 15) for _ in range(1 + i % 3)], 1.0 + i) for i in range(number)]


@given(seed=st.integers(0, 1000), number=st.integers(1, 9), room=st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_packed_holds_what_padded_holds_in_the_same_order(seed, number, room):
    some = examples(number, seed)
    one = padded(some, pad_id=0, window_weight=3.0)
    longest = int(one.attention_mask.sum(1).max())
    other = packed(some, pad_id=0, window_weight=3.0, row_length=longest + room)
    assert torch.equal(one.mask, other.mask)
    assert torch.equal(one.weights, other.weights)
    assert one.num_tokens == other.num_tokens
    assert other.attention_mask is None
    flat, positions = other.input_ids.flatten(), other.position_ids.flatten()
    assert torch.equal(one.input_ids.flatten()[one.completion_index], flat[other.completion_index])
    first = 0
    for row, count in enumerate(one.mask.sum(1).tolist()):  # the whole sequence stands before each completion's end
        ids = one.input_ids[row, one.attention_mask[row]]
        end = int(other.completion_index[first + count - 1]) + 1
        assert torch.equal(flat[end - len(ids) : end], ids)
        assert positions[end - len(ids) : end].tolist() == list(range(len(ids)))
        assert (end - 1) // other.input_ids.shape[1] == (end - len(ids)) // other.input_ids.shape[1], "on one row"
        first += count
    assert int(other.position_ids.max()) < longest, "padding reaches no position that no token has"
    assert other.input_ids.shape[1] <= longest + room
    assert (other.position_ids[:, 0] == 0).all()


# The arrangement of a run


def training_set(number: int = 120) -> TrainingSet:
    some = examples(number)
    return TrainingSet(Examples.of(some[:-10]), Mixture([number - 10], seed=1), Examples.of(some[-10:]), "")


def arranged(**options):
    geometry = options.pop("geometry", Geometry(4, 2))
    defaults = {"layout": "packed", "row_length": None, "break_even": 1000.0, "group_by_length": False, "seed": 0}
    return arrange(training_set(), geometry, **(defaults | options))


def test_a_row_shorter_than_the_longest_sequence_is_refused_and_both_are_named():
    longest = max(len(e.prompt_ids) + len(c) for e in examples(120) for c in e.completions)
    with pytest.raises(
        InputError, match=rf"data\.row_length: expected at least {longest}, .* problem p\d+\), but got 9"
    ):
        arranged(row_length=9)
    assert arranged(row_length=longest).row_length == longest
    assert arranged().row_length >= longest


def test_every_rank_arranges_alike_and_packing_wastes_less():
    one, two = (arranged(geometry=Geometry(4, 2, 2, rank)) for rank in (0, 1))
    assert one == two
    assert one.padding < one.padding_otherwise / 2
    assert "packed, rows of up to" in one.describe()


def test_grouping_across_windows_wastes_less_than_sorting_each_window():
    grouped = arranged(layout="padded", group_by_length=True)
    assert grouped.padding < 0.8 * grouped.padding_otherwise
    assert grouped.row_length is None
    assert arranged(layout="padded").padding == grouped.padding_otherwise
