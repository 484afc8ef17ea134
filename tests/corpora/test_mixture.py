"""The order of an epoch: shares, no repetition, determinism."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemma.corpora import Mixture
from lemma.types import InputError

SIZES_AND_WEIGHTS = st.integers(1, 4).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(1, 30), min_size=n, max_size=n),
        st.lists(st.integers(1, 9), min_size=n, max_size=n),
    )
)


def rows_of(mixture, corpus, epoch):
    """Return which rows of a corpus an epoch holds, counted within the corpus."""
    start = sum(mixture.sizes[:corpus])
    order = mixture.epoch_order(epoch)
    return order[(order >= start) & (order < start + mixture.sizes[corpus])] - start


def test_without_weights_an_epoch_is_every_row_once_in_another_order_each_time():
    mixture = Mixture([3, 5, 2], seed=1)
    assert len(mixture) == 10
    for epoch in range(3):
        assert sorted(mixture.epoch_order(epoch)) == list(range(10))
    assert mixture.epoch_order(0).tolist() != mixture.epoch_order(1).tolist()
    assert Mixture([3, 5, 2], [None] * 3, seed=1).epoch_order(2).tolist() == mixture.epoch_order(2).tolist()


def test_weights_give_exact_shares_until_the_first_corpus_is_exhausted():
    # shares 1/4 and 3/4: corpus 0 would last 100 / (1/4) = 400 rows, corpus 1 60 / (3/4) = 80: an epoch is 20 + 60
    mixture = Mixture([100, 60], [1, 3], seed=0)
    assert mixture.counts == [20, 60]
    assert [len(rows_of(mixture, corpus, 0)) for corpus in (0, 1)] == [20, 60]


def test_rows_are_dealt_out_by_largest_remainder():
    # shares 5/10, 3/10, 2/10: min(100/.5, 5/.3, 100/.2) = 16.7 -> 16 rows; quotas 8.0, 4.8, 3.2 -> 8, 5, 3
    assert Mixture([100, 5, 100], [0.5, 0.3, 0.2], seed=0).counts == [8, 5, 3]


def test_weights_are_the_decimals_that_were_written():
    assert Mixture([10, 1000, 1000], [0.1, 0.2, 0.7], seed=0).counts == [10, 20, 70]
    assert Mixture([3, 900], [0.3, 0.6], seed=0).counts == [3, 6]


def test_only_the_ratio_of_weights_counts():
    left, right = Mixture([30, 50], [1, 2], seed=5), Mixture([30, 50], [10.0, 20.0], seed=5)
    assert left.epoch_order(3).tolist() == right.epoch_order(3).tolist()


def test_no_row_comes_twice_before_its_corpus_is_exhausted():
    mixture = Mixture([10, 8], [3, 8], seed=2)  # 3 of 10 and 8 of 8 an epoch
    assert mixture.counts == [3, 8]
    first_nine = np.concatenate([rows_of(mixture, 0, epoch) for epoch in range(3)])
    assert len(set(first_nine)) == 9
    last = set(range(10)) - set(first_nine)
    assert last <= set(rows_of(mixture, 0, 3))  # the row that is left comes next


@settings(max_examples=60, deadline=None)
@given(SIZES_AND_WEIGHTS, st.integers(0, 5))
def test_laws_of_every_mixture(sizes_and_weights, seed):
    sizes, weights = sizes_and_weights
    total = sum(weights)
    num_rows = int(min(size * Fraction(total, weight) for size, weight in zip(sizes, weights, strict=True)))
    try:
        mixture = Mixture(sizes, weights, seed)
    except InputError:
        assert min(num_rows * weight / total for weight in weights) < 1
        return
    assert len(mixture) == num_rows
    for corpus, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        assert abs(mixture.counts[corpus] - Fraction(num_rows * weight, total)) < 1
        seen = np.zeros(size, dtype=int)
        for epoch in range(8):
            rows = rows_of(mixture, corpus, epoch)
            assert len(rows) == len(set(rows)) == mixture.counts[corpus]
            seen[rows] += 1
            assert seen.max() - seen.min() <= 1


def test_the_order_is_a_pure_function_of_seed_and_epoch():
    def order(seed, epoch):
        return Mixture([40, 30], [1, 2], seed).epoch_order(epoch).tolist()

    mixture = Mixture([40, 30], [1, 2], 7)
    backwards = [mixture.epoch_order(epoch).tolist() for epoch in (9, 4, 0)]
    assert backwards == [order(7, 9), order(7, 4), order(7, 0)]
    orders = [order(seed, epoch) for seed, epoch in itertools.product(range(4), range(4))]
    assert len({tuple(rows) for rows in orders}) == 16


def test_corpora_of_equal_size_are_drawn_in_different_orders():
    mixture = Mixture([50, 50, 50], [1, 1, 3], seed=0)
    assert set(rows_of(mixture, 0, 0)) != set(rows_of(mixture, 1, 0))


@pytest.mark.parametrize("weights", [[1, None], [None, 0.5], [1, 0], [1, -1], [1, float("inf")], [float("nan"), 1]])
def test_weights_are_above_0_in_all_corpora_or_in_none(weights):
    with pytest.raises(InputError, match="`weight` above 0 in all corpora or in none"):
        Mixture([5, 5], weights)


def test_a_weight_too_small_for_one_row_is_refused():
    with pytest.raises(InputError, match=r"every `weight` to give a row or more.*give \[10, 0\] rows"):
        Mixture([10, 10], [1, 0.001])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "`sizes`"),
        (([3, 0],), "`sizes`"),
        (([3, 4], [1.0]), "`weights` to be 2 numbers"),
        (([3], None, -1), "`seed` to be at least 0, but got -1"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mixture(*arguments)


def test_a_negative_epoch_is_refused():
    with pytest.raises(ValueError, match="`epoch` to be at least 0, but got -1"):
        Mixture([3]).epoch_order(-1)


def test_the_longest_corpus_ends_an_epoch_on_request_and_smaller_ones_are_repeated():
    # shares 1/4 and 3/4 of sizes 5 and 60: corpus 1 needs 80 rows in an epoch, so corpus 0 gives 20, each row 4 times
    mixture = Mixture([5, 60], [1, 3], seed=0, epoch="longest")
    assert mixture.counts == [20, 60]
    for epoch in (0, 1, 2):
        assert sorted(rows_of(mixture, 0, epoch)) == sorted([*range(5)] * 4)
        assert sorted(rows_of(mixture, 1, epoch)) == list(range(60))
    assert mixture.epoch_order(0).tolist() != mixture.epoch_order(1).tolist()


def test_rows_of_a_repeated_corpus_come_equally_often_in_the_long_run():
    mixture = Mixture([7, 40], [1, 3], seed=3, epoch="longest")  # 13 of 7 rows an epoch
    assert mixture.counts == [13, 40]
    taken = np.concatenate([rows_of(mixture, 0, epoch) for epoch in range(7)])
    assert np.bincount(taken).tolist() == [13] * 7
