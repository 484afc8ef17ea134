"""Near duplicates: words may differ, mathematics and answers may not, and what is tested stays."""

from dataclasses import replace

import pytest

pytest.importorskip("datasketch")

from lemma.corpora import CorpusArgs, load_corpus
from lemma.corpora.near_duplicates import SHINGLE, near_duplicates, shingles
from lemma.types import InputError, Problem

TEXT = (
    "Amanda received $50 as a gift. She plans to buy two cassette tapes that cost $9 each and a headphone set that "
    "costs $25. How much money will she have left?"
)
FIRST = Problem("first", "toy", TEXT, answer="7")


def found(*problems: Problem, threshold: float = 0.6, **options) -> list[tuple[int, int]]:
    return [(each.row, each.like) for each in near_duplicates(problems, threshold, **options)]


def other(text: str, answer: str | None = "7") -> Problem:
    return Problem("other", "toy", text, answer=answer)


def test_another_name_and_other_layout_are_the_same_problem():
    assert found(FIRST, other(TEXT.replace("Amanda", "Josie").replace("$50", "$$50$"))) == [(1, 0)]
    assert found(FIRST, other(TEXT.replace("two", "2"))) == [(1, 0)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("50", "60"),
        ("two", "three"),
        ("$25", "$-25"),
        ("cassette tapes", "TAPES"),
        ("two", "half"),
        ("she have", "x have"),
    ],
)
def test_other_mathematics_makes_another_problem(old, new):
    assert old in TEXT
    assert found(FIRST, other(TEXT.replace(old, new), answer=None), threshold=0.1) == []


def test_another_answer_makes_another_problem_and_another_spelling_of_it_does_not():
    asked = TEXT.replace("have left", "have spent")
    assert found(FIRST, other(asked, "43")) == []
    assert found(FIRST, other(asked, "07.0")) == [(1, 0)]
    assert found(FIRST, other(asked, None)) == [(1, 0)]


def test_the_first_stays_and_what_is_tested_stays_in_any_case():
    again, third = other(TEXT.replace("Amanda", "Josie")), other(TEXT.replace("Amanda", "Mona"))
    assert found(FIRST, again, third) == [(1, 0), (2, 0)]
    assert found(FIRST, again, third, num_kept=2) == [(2, 0)]


def test_similarity_is_the_jaccard_index_of_runs_of_five():
    assert SHINGLE == 5
    assert shingles("She buys $2$ pens, then 3 more.") == {
        "she buys 2 pens then",
        "buys 2 pens then 3",
        "2 pens then 3 more",
    }
    words = [f"word{'abcdefghijklmnopqrst'[i]}" for i in range(20)]
    problem = other(" ".join(words), None)
    changed = other(" ".join([*words[:-1], "another"]), None)  # 15 of 16 runs agree on each side
    (pair,) = near_duplicates([problem, changed], 0.8)
    assert pair.similarity == pytest.approx(15 / 17)
    assert abs(pair.estimated - 15 / 17) < 0.15
    assert near_duplicates([problem, changed], 0.9) == []


def test_no_problems_and_short_ones_are_no_error():
    assert found() == []
    assert found(other("2+2?"), other("2 + 2")) == [(1, 0)]


def test_a_threshold_that_is_no_similarity_is_refused():
    for threshold in (0, 1.01):
        with pytest.raises(InputError, match="--near_duplicates"):
            near_duplicates([], threshold)


def test_of_math_only_true_pairs_are_found_and_problems_with_other_numbers_are_not(data):
    args = CorpusArgs("math", path="math/MATH_train.tar.gz", on_bad_row="skip", where={"subject": ["algebra"]})
    problems = list(load_corpus(args, root=str(data), seed=0).problems)
    pairs = {(problems[each.row].id, problems[each.like].id) for each in near_duplicates(problems, 0.65)}
    assert pairs == {("train/algebra/2463", "train/algebra/24377"), ("train/algebra/950", "train/algebra/2244")}


def test_without_answers_brackets_and_figures_must_agree():
    asked, figure = "What is 88 - 4 - 2 in the picture below, as it was drawn", "[asy]draw((0,0)--(1,{0}));[/asy]"
    one, other_figure = (other(f"{asked}? {figure.replace('{0}', end)}", None) for end in "12")
    assert found(one, other_figure) == []
    assert found(one, one) == [(1, 0)]
    assert found(other(asked, None), other(asked.replace("4 - 2", "(4 - 2)"), None)) == []
    assert found(replace(one, answer="82"), replace(other_figure, answer="82")) == [(1, 0)]
