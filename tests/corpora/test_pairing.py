"""Graded completions of one problem become pairs, evenly, and what is in no pair is accounted for."""

from collections import Counter

import pytest

from lemma.corpora.graded import to_preferences
from lemma.corpora.gsm8k_solutions import to_preferences as solutions_to_preferences
from lemma.corpora.marks import split_a_line
from lemma.corpora.pairing import RIGHT, WRONG, comparable_completion, make_pairs
from lemma.corpora.rows import Row
from lemma.types import InputError, Preference, Problem

PROBLEM = Problem("p", "s", "What is 2 + 2?", level=2, subject="sums")
RECORD = {
    "problem_id": "test/0", "source": "sums", "level": 2, "subject": "addition", "problem": "2 + 2?", "answer": "4",
    "samples": [-1, 0, 1], "completions": ["It is 4.", "It is 5.", "Four."], "stopped": [True, True, True],
    "verdicts": ["correct", "wrong", "unparseable"],
}  # fmt: skip


def made(num_right: int, num_wrong: int, most: int) -> list[Preference]:
    completions = [(f"right {i}", RIGHT) for i in range(num_right)] + [(f"wrong {i}", WRONG) for i in range(num_wrong)]
    return make_pairs(PROBLEM, completions, most).preferences


def record(most: int = 9, **changes):
    return to_preferences(Row("x.jsonl:17", "x/16", RECORD | changes), "s", most)


@pytest.mark.parametrize(("num_right", "num_wrong"), [(1, 1), (1, 4), (2, 2), (2, 4), (4, 6), (3, 5)])
def test_pairs_are_distinct_and_every_prefix_uses_completions_as_evenly_as_possible(num_right, num_wrong):
    pairs = made(num_right, num_wrong, 1000)
    assert len({(pair.chosen, pair.rejected) for pair in pairs}) == len(pairs) == num_right * num_wrong
    for most in range(1, len(pairs) + 1):
        some = made(num_right, num_wrong, most)
        assert some == pairs[:most], "fewer pairs are the first ones"
        for size, side in ((num_right, "chosen"), (num_wrong, "rejected")):
            used = Counter(getattr(pair, side) for pair in some)
            assert max(used.values()) - (min(used.values()) if len(used) == size else 0) <= 1


def test_the_order_follows_from_id_and_texts_and_not_from_the_order_of_the_row():
    completions = [(f"right {i}", RIGHT) for i in range(6)] + [(f"wrong {i}", WRONG) for i in range(6)]
    pairs = make_pairs(PROBLEM, completions, 6).preferences
    assert make_pairs(PROBLEM, completions[::-1], 6).preferences == pairs
    other = make_pairs(Problem("q", "s", PROBLEM.problem), completions, 6).preferences
    assert [pair.chosen for pair in other] != [pair.chosen for pair in pairs], "another problem, another order"


def test_equal_completions_count_once_and_punctuation_makes_another():
    completions = [("It is 4.", RIGHT), ("it  is\n\uff14.", RIGHT), ("It is 5", WRONG), ("It is 5.", WRONG)]
    pairs, outcome, unused = make_pairs(PROBLEM, completions, 9)
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {("It is 4.", "It is 5"), ("It is 4.", "It is 5.")}
    assert (outcome, unused) == ("paired", {})


def test_a_text_that_is_graded_both_ways_is_on_neither_side_so_no_pair_has_equal_sides():
    completions = [("Same.", RIGHT), ("SAME.", WRONG), ("Right.", RIGHT), ("Wrong.", WRONG)]
    pairs, _, unused = make_pairs(PROBLEM, completions, 9)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("Right.", "Wrong.")]
    assert unused == {"graded both right and wrong": 2}
    assert all(comparable_completion(pair.chosen) != comparable_completion(pair.rejected) for pair in pairs)


def test_a_record_becomes_pairs_its_greedy_completion_included():
    [pair], outcome, unused = record()
    question = (("user", "2 + 2?"),)
    assert pair == Preference(
        "sums/test/0/0", "s", question, "It is 4.", "It is 5.", "plain", "right_over_wrong", 2, "addition"
    )
    assert (outcome, unused) == ("paired", {"unparseable": 1})


@pytest.mark.parametrize(
    ("changes", "outcome", "unused"),
    [
        ({"verdicts": ["correct"] * 3}, "only right", {}),
        ({"verdicts": ["wrong"] * 3}, "only wrong", {}),
        ({"stopped": [False, True, True]}, "too few", {"unfinished": 1, "unparseable": 1}),
        ({"verdicts": ["correct", "timeout", "correct"]}, "too few", {"timeout": 1}),
        ({"verdicts": ["unparseable"] * 3}, "too few", {"unparseable": 3}),
        ({"completions": [], "verdicts": [], "stopped": None}, "too few", {}),
        ({"completions": ["It is 4.", " ", ""]}, "too few", {"empty": 1, "unparseable": 1}),
    ],
)
def test_a_one_sided_record_gives_no_pair_and_says_why(changes, outcome, unused):
    assert record(**changes) == ([], outcome, unused)


def test_where_nobody_knows_what_stopped_all_completions_count():
    assert len(record(stopped=None, verdicts=["correct", "wrong", "wrong"]).preferences) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdicts": ["right"] * 3}, "`verdicts`: expected correct, wrong, unparseable, timeout, but got 'right'"),
        ({"verdicts": ["correct"]}, "`verdicts`: expected 3 entries, one for each of `completions`, but got 1"),
        ({"stopped": [1, 1, 1]}, r"`stopped`: expected a list of bool, but got \[1, 1, 1\]"),
        ({"completions": "x"}, "`completions`: expected a list of str, but got 'x'"),
        ({"completions": ["x", "\ud800", "y"]}, r"`completions\[1\]`: expected Unicode text"),
        ({"problem": ""}, "`problem`: expected a non-empty text"),
    ],
)
def test_what_is_no_record_is_refused_with_key_and_value(changes, message):
    with pytest.raises(InputError, match=message):
        record(**changes)


def solutions(**models):
    row = Row("x.jsonl:1", "x/0", {"question": "2 + 2?", "ground_truth": "2 + 2 = 4\nA: 4"} | models)
    return solutions_to_preferences(row, "s", 9)


def test_solutions_lose_annotations_and_end_in_the_default_answer_format():
    right = {"solution": "Add: 1,200 + 2 = <<1200+2=1202>>1202\nA: 1,202", "is_correct": True}
    wrong = {"solution": "A: 10+John's age", "is_correct": False}
    [pair], _, _ = solutions(big=right, small=wrong)
    assert pair.chosen == "Add: 1,200 + 2 = 1202\nThe answer is \\boxed{1202}."
    assert pair.rejected == "The answer is \\boxed{10+John's age}."
    assert (pair.id, pair.kind, pair.prompt) == ("x/0/0", "right_over_wrong", "2 + 2?")


def test_a_solution_without_its_last_line_was_cut_and_the_ground_truth_is_not_used():
    cut = {"solution": "2 + 2 = 2 + 2 = 2 +", "is_correct": False}
    assert solutions(big=cut) == ([], "too few", {"unfinished": 1})
    assert solutions(big={"solution": "A: 5", "is_correct": False}) == ([], "only wrong", {})


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({}, r"no column holds {solution, is_correct}; the row has question, ground_truth"),
        ({"big": {"solution": "A: 4"}}, "`big.is_correct`: expected true or false, but got None"),
        ({"big": {"is_correct": True}}, "`big.solution`: expected a non-empty text, but got None"),
    ],
)
def test_a_row_without_solutions_is_refused(models, message):
    with pytest.raises(InputError, match=message):
        solutions(**models)


@pytest.mark.parametrize(
    ("worked", "expected"),
    [
        ("So.\nA: $1,600", ("So.", "$1600")),
        ("A: 4", ("", "4")),
        ("So.\nA:", ("So.\nA:", None)),
        ("A: 4\nThen.", ("A: 4\nThen.", None)),
        ("A lot: 4", ("A lot: 4", None)),
    ],
)
def test_the_answers_line_is_the_last_one(worked, expected):
    assert split_a_line(worked) == expected
