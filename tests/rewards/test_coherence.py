"""Coherence scores: worked by hand, within bounds, and the same whatever order trajectories come in."""

import math
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemma.answers import Grader
from lemma.rewards.coherence import (
    CoherenceArgs,
    Trajectory,
    Variant,
    agreement,
    coherence_reward,
    read_path,
    s_cf,
    s_end,
    s_path,
    score_group,
    variant_verdicts,
    weighted_mean,
)
from lemma.types import InputError, Problem, Verdict

CHECKED = settings(max_examples=100, deadline=None, derandomize=True)
CORRECT, WRONG, TIMEOUT = Verdict.CORRECT, Verdict.WRONG, Verdict.TIMEOUT


def test_s_end_is_the_share_of_the_others():
    # four of five agree: each of the four has three of four others, the fifth none
    assert s_end([0, 0, 0, 0, 1], [""] * 5) == [0.75, 0.75, 0.75, 0.75, 0.0]


def test_s_end_weighs_the_others_by_their_arm():
    # others of the first: b (weight 3) agrees, a (1) does not: 3/4; of the second: 1 of 2; of the third: none
    assert s_end([0, 0, 1], ["a", "b", "a"], {"b": 3.0}) == [0.75, 0.5, 0.0]


def test_s_end_of_a_single_trajectory_is_undefined_and_no_answer_agrees_with_nobody():
    assert s_end([0], ["a"]) == [None]
    assert s_end([], []) == []
    assert s_end([-1, -1, 0, 0], [""] * 4) == [0.0, 0.0, 1 / 3, 1 / 3]


def test_agreement_is_the_mean_jaccard_index_with_those_of_the_same_answer():
    texts = ["3 + 4 = 7\n7 * 2 = 14", "4 + 3 = 7\n7 + 7 = 14", "7 * 2 = 14", "3 + 4 = 7\n7 - 2 = 5"]
    # items of the first: 7, 14, 3+4=7, 7*2=14; of the second: 7, 14, 3+4=7, 7+7=14; of the third: 14, 7*2=14
    # J(1,2) = 3/5, J(1,3) = 2/4, J(2,3) = 1/5; the fourth has another answer
    first, second, third, fourth = agreement([read_path(text) for text in texts], [0, 0, 0, 1])
    assert first == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert second == pytest.approx((3 / 5 + 1 / 5) / 2)
    assert third == pytest.approx((2 / 4 + 1 / 5) / 2)
    assert fourth == 0.0


def test_agreement_counts_how_often_something_is_calculated():
    # items: 2x "2", 2x "1+1=2" against one of each
    once, twice = (read_path("1 + 1 = 2\n" * times) for times in (1, 2))
    assert agreement([once, twice], [0, 0]) == [0.5, 0.5]


def test_agreement_is_undefined_without_calculation_and_without_others():
    silent, path = read_path("It is 7."), read_path("3 + 4 = 7")
    assert agreement([path], [0]) == [None]
    assert agreement([silent, path], [0, 0]) == [None, None]
    assert agreement([path, path], [-1, -1]) == [0.0, 0.0]


def test_s_path_leaves_out_what_is_undefined():
    assert s_path(0.5, 1.0) == 0.75
    assert s_path(0.5, 1.0, agreement_share=0.2) == pytest.approx(0.9)
    assert s_path(None, 0.25) == 0.25
    assert s_path(0.25, None) == 0.25
    assert s_path(None, None) is None


def test_s_path_tells_a_sound_path_from_a_lucky_one_with_the_same_answer():
    sound = "3 boxes of 4: 3 * 4 = 12. With 5 more: 12 + 5 = 17."
    lucky = "3 boxes of 4: 3 * 4 = 15. With 2 more: 15 + 3 = 17."
    scores = score_group([Trajectory(text, 0) for text in (sound, sound.replace("*", "x"), lucky)], CoherenceArgs())
    assert [one.end for one in scores] == [1.0, 1.0, 1.0]
    assert [one.truth for one in scores] == [1.0, 1.0, 0.0]
    assert scores[0].path == scores[1].path > 0.7
    assert scores[2].path < 0.1


def test_s_cf_is_the_share_of_variants_answered_as_they_must_be():
    assert s_cf([CORRECT, WRONG, Verdict.UNPARSEABLE, CORRECT]) == 0.5
    assert s_cf([CORRECT, TIMEOUT]) == 1.0
    assert s_cf([TIMEOUT]) is None
    assert s_cf([]) is None


def test_what_must_stay_is_held_against_the_own_answer_and_what_must_change_against_the_expected_one():
    problem = Problem("1", "test", "How many?", answer="7")
    variants = [Variant(problem, kind, expected, "") for kind, expected in (("renamed", "7"), ("numbers", "9"))]
    with Grader() as grader:
        assert variant_verdicts("8", variants, ["8.0", "9"], grader) == [CORRECT, CORRECT]  # wrong, but coherent
        assert variant_verdicts("8", variants, ["7", "10"], grader) == [WRONG, WRONG]
        assert variant_verdicts("8", variants, [None, None], grader) == [Verdict.UNPARSEABLE] * 2
        assert variant_verdicts(None, variants, ["0", "9"], grader) == [Verdict.UNPARSEABLE, CORRECT]
        with pytest.raises(ValueError, match="zip"):
            variant_verdicts("8", variants, ["8"], grader)


def test_the_mean_is_over_the_weight_that_is_defined():
    assert weighted_mean([1.0, 0.5, None], [1.0, 3.0, 5.0]) == 0.625
    assert weighted_mean([None, 0.5], [1.0, 0.0]) is None
    assert weighted_mean([0.1] * 3, [0.1] * 3) == 0.1


def test_a_group_is_scored_by_hand():
    group = [
        Trajectory("3 + 4 = 7", 0, "plan", [CORRECT, WRONG]),
        Trajectory("4 + 3 = 7. 7 + 1 = 9", 0, "code"),
        Trajectory("No idea.", -1, "code"),
    ]
    args = CoherenceArgs(end=2.0, path=1.0, counterfactual=1.0, agreement_share=0.25, arm_weights={"plan": 2.0})
    # J = 2 / 4; path = 0.25 * 0.5 + 0.75 * truth; end: first 1/2 (both others are code), second 2/3, third 0
    first, second, third = map(astuple, score_group(group, args))
    assert first == pytest.approx((0.5, 0.875, 0.5, 1.0, 0.5, (2 * 0.5 + 0.875 + 0.5) / 4))
    assert second[:4] == pytest.approx((2 / 3, 0.5, 0.5, 0.5))
    assert second[4:] == (None, pytest.approx((2 * 2 / 3 + 0.5) / 3))
    assert third == (0.0, None, None, None, None, 0.0)


def test_the_reward_adds_correctness_and_coherence_and_pays_for_length():
    weights = {"alpha": 2.0, "beta": 0.5, "length_cost": 0.4}
    assert coherence_reward(True, 0.6, 50, 100, **weights) == pytest.approx(2.0 + 0.3 - 0.2)
    assert coherence_reward(False, None, 300, 100, **weights) == pytest.approx(-0.4)
    with pytest.raises(ValueError, match="max_length"):
        coherence_reward(True, 0.6, 50, 0, **weights)


def test_by_default_no_wrong_trajectory_earns_more_than_a_right_one():
    args = CoherenceArgs()
    weights = {"alpha": args.alpha, "beta": args.beta, "length_cost": args.length_cost}
    assert coherence_reward(True, 0.0, 100, 100, **weights) > coherence_reward(False, 1.0, 0, 100, **weights)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"end": -1}, "coherence.end: expected a number at least 0, but got -1"),
        ({"beta": math.nan}, "coherence.beta"),
        ({"alpha": True}, "coherence.alpha"),
        ({"end": 0, "path": 0, "counterfactual": 0}, "coherence.end: .* above 0"),
        ({"agreement_share": 1.5}, "coherence.agreement_share: .* between 0 and 1, but got 1.5"),
        ({"arm_weights": {"plan": 0}}, "coherence.arm_weights.plan: .* above 0, but got 0"),
    ],
)
def test_weights_out_of_range_are_refused_by_name(values, message):
    with pytest.raises(InputError, match=message):
        CoherenceArgs(**values)


LINES = st.sampled_from(["1 + 1 = 2", "1 + 1 = 3", "2 * 3 = 6", "x = 6", "So it is.", "6 / 4 = 1.5", "2x = 6"])
TRAJECTORIES = st.builds(
    Trajectory,
    text=st.lists(LINES, max_size=4).map("\n".join),
    answer_class=st.integers(-1, 2),
    arm=st.sampled_from(["plan", "code", ""]),
    counterfactual=st.lists(st.sampled_from(list(Verdict)), max_size=3),
)
ARGS = st.builds(
    CoherenceArgs,
    end=st.floats(0.1, 10),
    path=st.floats(0, 10),
    counterfactual=st.floats(0, 10),
    agreement_share=st.floats(0, 1),
    arm_weights=st.fixed_dictionaries({"plan": st.floats(0.01, 100)}),
)


@CHECKED
@given(st.lists(TRAJECTORIES, max_size=7), ARGS, st.randoms(use_true_random=False))
def test_scores_are_in_bounds_and_do_not_depend_on_the_order(group, args, draw):
    scored = score_group(group, args)
    for one in scored:
        assert all(value is None or 0 <= value <= 1 for value in astuple(one))
        assert (one.path is None) == (one.agreement is None and one.truth is None) or args.agreement_share in (0, 1)
    places = list(range(len(group)))
    draw.shuffle(places)
    for place, again in zip(places, score_group([group[place] for place in places], args), strict=True):
        assert astuple(again) == pytest.approx(astuple(scored[place]))


@CHECKED
@given(st.lists(st.integers(-1, 2), min_size=2, max_size=8), st.integers(0, 7))
def test_another_voice_for_an_answer_never_lowers_its_score(classes, which):
    label = classes[which % len(classes)]
    before, after = (s_end(each, [""] * len(each)) for each in (classes, [*classes, label]))
    assert after[which % len(classes)] >= before[which % len(classes)]
