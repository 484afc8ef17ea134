"""The area under the ROC curve: by hand, invariant, and with an interval that resamples problems."""

import numpy as np
import pytest

from lemma.metrics.separation import Separation, separation


def area(scores, labels, problems=None, *, within=False, num_resamples=1):
    problems = list(range(len(scores))) if problems is None else problems
    return separation(scores, labels, problems, within=within, seed=0, num_resamples=num_resamples)


def test_it_is_the_share_of_pairs_in_the_right_order_and_a_tie_is_half():
    # right: 3, 2; wrong: 2, 1: pairs 3>2, 3>1, 2=2, 2>1
    assert area([3, 2, 2, 1], [True, True, False, False]).value == 3.5 / 4


def test_a_score_turned_round_has_the_rest_of_the_area():
    draw = np.random.default_rng(0)
    scores, labels = draw.integers(0, 5, 50), draw.random(50) < 0.4
    assert area(scores, labels).value == pytest.approx(1 - area(-scores, labels).value)
    assert area(scores, labels).value == area(scores * 7 - 3, labels).value


def test_within_problems_only_their_own_pairs_count():
    scores, labels, problems = [9, 8, 2, 1], [False, True, True, False], [5, 5, 7, 7]
    assert area(scores, labels, problems, within=True).value == 0.5  # one of two pairs
    assert area(scores, labels, problems).value == 0.5  # 8>1, 2>1 of four
    assert area([9, 8, 2, 3], [False, True, True, True], problems, within=True).value == 0.0


def test_without_a_pair_there_is_no_area():
    assert area([1, 2], [True, True]) == Separation(None, None, None)
    assert area([1, 2], [True, False], [0, 1], within=True) == Separation(None, None, None)
    assert area([], []) == Separation(None, None, None)


def test_the_interval_resamples_problems_and_not_trajectories():
    draw = np.random.default_rng(1)
    labels = draw.random(60) < 0.5
    scores = labels + draw.normal(0, 1.5, 60)
    alone = area(scores, labels, num_resamples=500)
    copied = area(np.repeat(scores, 20), np.repeat(labels, 20), np.repeat(np.arange(60), 20), num_resamples=500)
    assert alone.low < alone.value < alone.high
    assert copied.value == pytest.approx(alone.value)
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.2)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="3, 2 and 3"):
        separation([1, 2, 3], [True, False], [0, 1, 2], within=False, seed=0)
    with pytest.raises(ValueError, match="num_resamples"):
        area([1], [True], num_resamples=0)
