"""The identity of a problem's text: what is the same, what is held out, what overlaps."""

import pytest

from lemma.corpora import CorpusArgs, exact_overlaps, held_out, identity, load_corpus, problem_key
from lemma.types import InputError, Problem


def test_the_key_ignores_case_white_space_and_compatibility_forms():
    assert problem_key("Find  $x^2$\u2028now.\n") == problem_key("find $X^2$ now.")
    assert problem_key("\ufb01nd ½") == problem_key("find 1\u20442")  # the ligature fi; one half
    assert problem_key("Find 1 2") != problem_key("Find 12")
    assert len(problem_key("x")) == 64


def test_the_same_problem_is_always_on_the_same_side_and_a_larger_share_holds_out_a_superset():
    texts = [f"Problem {number}" for number in range(4000)]
    small = {text for text in texts if held_out(text, 0.05)}
    large = {text for text in texts if held_out(text, 0.2)}
    assert small < large
    assert small == {text for text in texts if held_out(f"  {text.upper()}\n", 0.05)}
    assert abs(len(small) - 200) < 4 * (4000 * 0.05 * 0.95) ** 0.5  # four standard deviations
    assert not any(held_out(text, 0) for text in texts)
    assert all(held_out(text, 1) for text in texts)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(InputError, match="`share` to be from 0 to 1"):
        held_out("x", share)


def test_overlaps_are_all_pairs_of_equal_texts():
    train = [
        Problem("0", "train", "What is 1+1?"),
        Problem("1", "train", "other"),
        Problem("2", "train", "WHAT is 1+1?"),
    ]
    benchmark = [Problem("9", "test", "new"), Problem("8", "test", "what  is 1+1?\n")]
    assert exact_overlaps(train, benchmark) == [(train[0], benchmark[1]), (train[2], benchmark[1])]
    assert exact_overlaps([], benchmark) == exact_overlaps(train, []) == []


def test_plain_texts_are_told_apart_by_their_text_and_problems_by_their_question():
    texts = [Problem(str(i), "web", "", solution=f"Text {i}") for i in range(3)]
    assert exact_overlaps(texts, [Problem("9", "other", "", solution="TEXT 1")]) == [
        (texts[1], Problem("9", "other", "", solution="TEXT 1"))
    ]
    assert identity(Problem("1", "s", "Why?", solution="Because.")) == "Why?"
    share = sum(held_out(identity(Problem("0", "web", "", solution=f"Text {i}")), 0.5) for i in range(400)) / 400
    assert 0.4 < share < 0.6


def test_real_math500_shares_no_text_with_math_train_and_a_planted_one_is_found(data):
    args = CorpusArgs("math", "math/MATH_train.tar.gz", on_bad_row="skip")
    train = load_corpus(args, root=str(data), seed=0).problems
    benchmark = load_corpus(CorpusArgs("math500", "math500/test.jsonl"), root=str(data), seed=0).problems
    assert exact_overlaps(train, benchmark) == []
    assert exact_overlaps([*train, benchmark[7]], benchmark) == [(benchmark[7], benchmark[7])]
