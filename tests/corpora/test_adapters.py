"""Each native format: one row in, one problem out, and what a bad value says."""

import re

import pytest

from lemma.corpora import CorpusArgs, gsm8k, load_corpus, mapped, math500, text
from lemma.corpora import math as hendrycks_math
from lemma.corpora.rows import Row
from lemma.types import InputError, Problem

GSM8K = {"question": "How many? ", "answer": "48/2 = <<48/2=24>>24 clips.\n24+48 = <<24+48=72>>72.\n#### 72"}
MATH = {"problem": "Find $x$.", "level": "Level 3", "type": "Counting & Probability", "solution": r"So $\boxed{5}$."}
MATH500 = {
    "problem": "Find $x$.",
    "solution": r"So $\boxed{5}$.",
    "answer": "5",
    "subject": "Intermediate Algebra",
    "level": 2,
    "unique_id": "test/intermediate_algebra/807.json",
}
FORMATS = {
    "gsm8k": (gsm8k.to_problem, GSM8K),
    "math": (hendrycks_math.to_problem, MATH),
    "math500": (math500.to_problem, MATH500),
}


def row(values, key="train/16"):
    return Row("x.jsonl:17", key, values)


def test_gsm8k_row_loses_annotations_and_marker():
    assert gsm8k.to_problem(row(GSM8K), "s") == Problem(
        id="train/16", source="s", problem="How many?", solution="48/2 = 24 clips.\n24+48 = 72.", answer="72"
    )


def test_gsm8k_id_is_the_same_from_the_hub_and_from_a_file():
    assert gsm8k.to_problem(row(GSM8K, "train/main/16"), "s").id == "train/16"


@pytest.mark.parametrize(
    ("gold", "answer"),
    [("1,600", "1600"), ("-1,234,567.50", "-1234567.50"), ("-5", "-5"), ("1,60", "1,60"), ("3, 4", "3, 4")],
)
def test_gsm8k_answer_loses_thousands_commas_and_no_others(gold, answer):
    assert gsm8k.to_problem(row(GSM8K | {"answer": f"So.\n#### {gold}"}), "s").answer == answer


def test_gsm8k_answer_without_a_worked_solution_has_none():
    assert gsm8k.to_problem(row(GSM8K | {"answer": "#### 72"}), "s").solution is None


@pytest.mark.parametrize("worked", ["The answer is 72.", "72\n####", "#### Step 1\nSo 72.\n"])
def test_gsm8k_answer_without_a_final_marker_is_bad(worked):
    with pytest.raises(InputError, match="`answer`: expected `#### <answer>`") as error:
        gsm8k.to_problem(row(GSM8K | {"answer": worked}), "s")
    assert repr(worked.strip()) in str(error.value)


def test_math_row_takes_level_subject_and_the_last_box():
    solution = r"First \boxed{1}, then $\boxed{\frac{1}{2}}$."
    problem = hendrycks_math.to_problem(row(MATH | {"solution": solution}, "MATH/train/algebra/17"), "s")
    assert problem == Problem(
        id="train/algebra/17",
        source="s",
        problem="Find $x$.",
        solution=solution,
        answer=r"\frac{1}{2}",
        level=3,
        subject="counting_and_probability",
    )


def test_math_level_question_mark_is_none():
    assert hendrycks_math.to_problem(row(MATH | {"level": "Level ?"}), "s").level is None


@pytest.mark.parametrize("solution", [r"So $\boxed{}$ primes.", "No box.", r"\boxed{ }", r"Open \boxed{3"])
def test_math_solution_without_an_answer_in_its_last_box_is_bad(solution):
    with pytest.raises(InputError, match=r"`solution`: expected an answer in its last \\boxed\{\}") as error:
        hendrycks_math.to_problem(row(MATH | {"solution": solution}), "s")
    assert repr(solution) in str(error.value)


def test_math500_row():
    assert math500.to_problem(row(MATH500), "s") == Problem(
        id="test/intermediate_algebra/807",
        source="s",
        problem="Find $x$.",
        solution=r"So $\boxed{5}$.",
        answer="5",
        level=2,
        subject="intermediate_algebra",
    )


@pytest.mark.parametrize(
    ("name", "column"), [(name, column) for name, (_, values) in FORMATS.items() for column in values]
)
def test_a_missing_column_is_named_with_those_that_exist(name, column):
    to_problem, values = FORMATS[name]
    others = {key: value for key, value in values.items() if key != column}
    with pytest.raises(InputError, match=f"no column `{column}`; the row has {', '.join(others)}"):
        to_problem(row(others), "s")


@pytest.mark.parametrize(
    ("name", "column"), [(name, column) for name, (_, values) in FORMATS.items() for column in values]
)
@pytest.mark.parametrize("value", [["x"], True, float("nan"), "x\ud800"])
def test_a_value_of_the_wrong_kind_is_named_with_its_column(name, column, value):
    to_problem, values = FORMATS[name]
    with pytest.raises(InputError, match=f"`{column}`: expected") as error:
        to_problem(row(values | {column: value}), "s")
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    ("name", "column"),
    [(name, column) for name, (_, values) in FORMATS.items() for column in values if column != "level"],
)
@pytest.mark.parametrize("value", ["", "  ", None])
def test_an_empty_text_is_named_with_its_column(name, column, value):
    to_problem, values = FORMATS[name]
    with pytest.raises(InputError, match=f"`{column}`: expected a non-empty text, but got {value!r}"):
        to_problem(row(values | {column: value}), "s")


@pytest.mark.parametrize(
    ("value", "level"), [(3, 3), ("3", 3), (3.0, 3), ("Level 3", 3), ("Level ?", None), (None, None), ("", None)]
)
def test_levels_of_every_spelling(value, level):
    assert hendrycks_math.to_problem(row(MATH | {"level": value}), "s").level == level


@pytest.mark.parametrize("value", ["hard", "Level", 2.5, -1, "1 2"])
def test_another_level_is_bad(value):
    with pytest.raises(InputError, match=f"`level`: expected a level .* but got {re.escape(repr(value))}"):
        hendrycks_math.to_problem(row(MATH | {"level": value}), "s")


def test_mapped_row_takes_the_columns_that_the_user_names():
    columns = {
        "problem": "question",
        "answer": "gold",
        "solution": "cot",
        "level": "difficulty",
        "subject": "topic",
        "id": "uid",
    }
    values = {"question": "q", "gold": 42, "cot": "c", "difficulty": "2", "topic": "Number Theory", "uid": 7}
    assert mapped.to_problem(row(values), "s", columns=columns) == Problem(
        id="7", source="s", problem="q", solution="c", answer="42", level=2, subject="number_theory"
    )


def test_mapped_row_with_a_problem_only_has_no_answer_and_its_place_as_id():
    assert mapped.to_problem(row({"q": "x"}), "s", columns={"problem": "q"}) == Problem("train/16", "s", "x")


@pytest.mark.parametrize(
    ("worked", "solution", "answer"),
    [
        ("1+1 = <<1+1=2>>2\n#### 1,200", "1+1 = 2", "1200"),
        (r"So \boxed{3}.", r"So \boxed{3}.", "3"),
        ("1+2 = 3.\nThe answer is: 3", "1+2 = 3.", "3"),
        ("#### Part (a):\n" + r"So \boxed{3}.", "#### Part (a):\n" + r"So \boxed{3}.", "3"),
        (r"$a << b$ and $c >> d$, so \boxed{3}", r"$a << b$ and $c >> d$, so \boxed{3}", "3"),
    ],
)
def test_mapped_answer_comes_from_the_solution_where_no_answer_column_is_mapped(worked, solution, answer):
    problem = mapped.to_problem(row({"q": "x", "s": worked}), "s", columns={"problem": "q", "solution": "s"})
    assert (problem.solution, problem.answer) == (solution, answer)


@pytest.mark.parametrize(
    ("given", "answer"), [("7", "7"), (" 1,2 ", "1,2"), ("So 7.\n#### 7", "7"), (r"$\boxed{7}$", "7"), (7.0, "7")]
)
def test_mapped_answer_column_may_hold_a_marker(given, answer):
    problem = mapped.to_problem(row({"q": "x", "a": given}), "s", columns={"problem": "q", "answer": "a"})
    assert problem.answer == answer


def test_mapped_answer_column_wins_over_the_solution():
    columns = {"problem": "q", "answer": "a", "solution": "s"}
    assert mapped.to_problem(row({"q": "x", "a": "1", "s": r"\boxed{2}"}), "s", columns=columns).answer == "1"


@pytest.mark.parametrize("worked", ["no marker", "####", r"\boxed{}"])
def test_mapped_solution_without_an_answer_is_bad(worked):
    with pytest.raises(InputError, match="`s`: expected an answer after ####"):
        mapped.to_problem(row({"q": "x", "s": worked}), "s", columns={"problem": "q", "solution": "s"})


def test_mapped_solution_that_marks_no_answer_is_kept_as_it_is_where_the_answer_is_null():
    columns = {"problem": "q", "solution": "s", "answer": None}
    worked = r"<<1+1=2>> so \boxed{2}, in 1st place.\n#### 2"
    assert mapped.to_problem(row({"q": "x", "s": worked}), "s", columns=columns) == Problem(
        "train/16", "s", "x", solution=worked
    )


def test_a_text_is_a_solution_without_question_and_answer():
    assert text.to_problem(row({"text": " Let $x$ be.\n", "url": "u"}), "s") == Problem(
        "train/16", "s", problem="", solution="Let $x$ be."
    )
    with pytest.raises(InputError, match="no column `text`; the row has url"):
        text.to_problem(row({"url": "u"}), "s")


@pytest.mark.parametrize("given", ["", None, r"\boxed{}"])
def test_mapped_answer_that_is_empty_is_bad(given):
    with pytest.raises(InputError, match="`a`: expected"):
        mapped.to_problem(row({"q": "x", "a": given}), "s", columns={"problem": "q", "answer": "a"})


@pytest.mark.parametrize("key", ["level", "subject"])
def test_mapped_level_and_subject_may_be_absent_from_some_rows_but_not_from_all(write_lines, key):
    path = write_lines("x.jsonl", {"q": "x", "a": "1", "extra": "2"}, {"q": "y", "a": "1"})
    args = CorpusArgs("mapped", str(path), columns={"problem": "q", key: "extra"})
    assert [getattr(p, key) is None for p in load_corpus(args, root=None, seed=0).problems] == [False, True]
    typo = CorpusArgs("mapped", str(path), columns={"problem": "q", key: "exrta"})
    with pytest.raises(InputError, match=rf"x.jsonl: no row has a value in column `exrta` \(mapped to {key}\)"):
        load_corpus(typo, root=None, seed=0)


@pytest.mark.parametrize("key", ["problem", "answer", "solution", "id"])
def test_mapped_column_that_is_not_there_is_named_with_file_line_and_those_that_exist(write_lines, key):
    path = write_lines("x.jsonl", {"q": "x", "a": "1"})
    args = CorpusArgs("mapped", str(path), columns={"problem": "q"} | {key: "quesiton"})
    with pytest.raises(InputError, match=r"x.jsonl:1: no column `quesiton`; the row has q, a\."):
        load_corpus(args, root=None, seed=0)


def test_real_gsm8k_has_no_bad_row(data):
    train = load_corpus(CorpusArgs("gsm8k", "gsm8k/train.jsonl"), root=str(data), seed=0)
    test = load_corpus(CorpusArgs("gsm8k", "gsm8k", split="test"), root=str(data), seed=0)
    assert (len(train.problems), len(test.problems)) == (7473, 1319)
    assert train.bad_rows == test.bad_rows == []
    for problem in (*train.problems, *test.problems):
        assert re.fullmatch(r"-?\d+", problem.answer)
        assert "<<" not in problem.solution
        assert "####" not in problem.solution


def test_real_math_has_two_rows_with_an_empty_box_and_two_without_a_level(data):
    args = CorpusArgs("math", "math/MATH_train.tar.gz", on_bad_row="skip")
    corpus = load_corpus(args, root=str(data), seed=0)
    assert len(corpus.problems) == 7498
    assert [re.search(r"MATH/train/\w+/\d+.json: `solution`", bad)[0] for bad in corpus.bad_rows] == [
        "MATH/train/number_theory/7115.json: `solution`",
        "MATH/train/number_theory/7117.json: `solution`",
    ]
    unleveled = [problem.id for problem in corpus.problems if problem.level is None]
    assert unleveled == ["train/geometry/377", "train/geometry/471"]
    assert {problem.subject for problem in corpus.problems} == set(hendrycks_math.SUBJECTS)
    answers = {problem.id: problem.answer for problem in corpus.problems}
    assert (answers["train/algebra/24014"], answers["train/algebra/25040"]) == ("2", "9")  # \boxed 2, \boxed 9


def test_real_math_names_the_first_empty_box_unless_told_to_skip(data):
    with pytest.raises(InputError, match=r"number_theory/7115.json: `solution`: .*`on_bad_row: skip`"):
        load_corpus(CorpusArgs("math", "math/MATH_train.tar.gz"), root=str(data), seed=0)


def test_real_math500_has_500_rows_of_five_levels(data):
    corpus = load_corpus(CorpusArgs("math500", "math500/test.jsonl"), root=str(data), seed=0)
    assert len(corpus.problems) == 500
    assert {problem.level for problem in corpus.problems} == {1, 2, 3, 4, 5}
    assert {problem.subject for problem in corpus.problems} == set(hendrycks_math.SUBJECTS)


def test_real_aime_reads_by_its_columns(data):
    columns = {"problem": "problem", "answer": "expected_answer", "id": "id"}
    args = CorpusArgs("mapped", "aime/aime25_test.jsonl", source="aime25", columns=columns)
    corpus = load_corpus(args, root=str(data), seed=0)
    assert len(corpus.problems) == 30
    assert corpus.problems[0].answer == "70"
