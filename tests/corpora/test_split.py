"""The identity of a problem's text: what is the same, which fold it is in, what is held out."""

import numpy as np
import pytest

from lemma.corpora import held_out, identity, in_fold, problem_key, row_key
from lemma.types import InputError, Problem

FOLDS = ("train", "validation", "test")


def keys_of(texts: list[str]) -> np.ndarray:
    return np.array([problem_key(text) for text in texts], dtype=np.uint64)


def test_the_key_ignores_case_white_space_punctuation_and_compatibility_forms():
    assert problem_key("Find  $x^2$\u2028now.\n") == problem_key("find $X^2$, now")
    assert problem_key("\ufb01nd ½") == problem_key("find 1\u20442")  # the ligature fi; one half
    assert problem_key("Find 12") != problem_key("Find 13")
    assert problem_key("??") != problem_key("!!"), "a text of marks alone keeps them"
    assert 0 <= problem_key("x") < 2**64


def test_a_row_is_the_same_only_with_the_same_solution_and_answer():
    one = Problem("1", "a", "2 + 2?", solution="It is  4.", answer="4")
    assert row_key(one) == row_key(Problem("2", "b", "2  + 2?", solution="It is 4.", answer="4"))
    for other in (
        Problem("1", "a", "2 - 2?", solution="It is 4.", answer="4"),  # the marks that problem_key ignores
        Problem("1", "a", "2 + 2?", solution="Two and two.", answer="4"),
        Problem("1", "a", "2 + 2?", solution="It is 4.", answer="5"),
    ):
        assert row_key(other) != row_key(one)


def test_the_same_problem_is_always_on_the_same_side_and_a_larger_share_holds_out_a_superset():
    texts = [f"Problem {number}" for number in range(4000)]
    small, large = (held_out(keys_of(texts), share) for share in (0.05, 0.2))
    assert not (small & ~large).any()
    assert (small == held_out(keys_of([f"  {text.upper()}\n" for text in texts]), 0.05)).all()
    assert abs(small.sum() - 200) < 4 * (4000 * 0.05 * 0.95) ** 0.5  # four standard deviations
    assert not held_out(keys_of(texts), 0).any()
    assert held_out(keys_of(texts), 1).all()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(InputError, match="`share` to be from 0 to 1"):
        held_out(keys_of(["x"]), share)


@pytest.mark.parametrize(("folds", "shares"), [("80/10/10", (0.8, 0.1, 0.1)), ("90/10", (0.9, 0.1, 0.0))])
def test_folds_part_the_problems_in_their_proportions_and_each_gives_a_share_to_the_held_out_ones(folds, shares):
    keys = keys_of([f"Problem {number}" for number in range(8000)])
    parts = [in_fold(keys, fold, folds) for fold in FOLDS]
    assert (np.sum(parts, axis=0) == 1).all(), "each problem is in one fold"
    for part, share in zip(parts, shares, strict=True):
        assert abs(part.sum() - 8000 * share) <= 4 * (8000 * share * (1 - share)) ** 0.5
    inside = held_out(keys[parts[0]], 0.05).mean()
    assert abs(inside - 0.05) < 4 * (0.05 * 0.95 / parts[0].sum()) ** 0.5


def test_plain_texts_are_told_apart_by_their_text_and_problems_by_their_question():
    assert identity(Problem("1", "s", "Why?", solution="Because.")) == "Why?"
    assert identity(Problem("1", "web", "", solution="Text 1")) == "Text 1"
