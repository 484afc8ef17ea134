"""Each further native format on rows in its documented columns: one row in, one problem out, and what is refused."""

import csv

import pytest

from lemma.corpora import ADAPTERS, CorpusArgs, load_corpus
from lemma.corpora.rows import Row
from lemma.types import InputError, Problem

ROWS = {
    "aime": {"id": "aime24-0", "problem": "Find $x$.", "expected_answer": "73", "reference_solution": "So 073."},
    "aimo": {"id": "229ee8", "problem": "Let $k$ be.\nFind $k$.", "answer": "52"},
    "aqua": {"question": "How fast?", "options": ["A)21", "B)21.5"], "rationale": "So B.", "correct": "B"},
    "gsm8k_backward": {"question": "What is x?", "answer": "15", "output": "x = 15.\n#### 15\nThe answer is: 15"},
    "gsm8k_platinum": {"question": "How many?", "answer": "So 2.\n#### 2", "cleaning_status": "verified"},
    "limo": {"question": "Find $x$.", "solution": "Okay, so 5.", "answer": "5"},
    "mathinstruct": {"source": "data/CoT/aqua_rat.json", "instruction": "Which?", "output": "So 60. The answer is B."},
    "metamathqa": {
        "query": "How many?",
        "response": "3 + 12 = 15.\n#### 15\nThe answer is: 15",
        "type": "GSM_Rephrased",
        "original_question": "How many eggs?",
    },
    "nemotron_cc_math": {"text": "Let $x$ be.", "metadata": {"url": "u"}},
    "numinamath": {"source": "cn_k12", "problem": "Find $x$.", "solution": r"So $\boxed{5}$.", "messages": []},
    "openmathinstruct2": {
        "problem": "Find $x$.",
        "generated_solution": r"So $\boxed{5}$.",
        "expected_answer": "5",
        "problem_source": "augmented_math",
    },
    "orca_math": {"question": "How many?", "answer": "There are 4."},
}
PROBLEMS = {
    "aime": Problem("aime24-0", "s", "Find $x$.", "So 073.", "73"),
    "aimo": Problem("229ee8", "s", "Let $k$ be.\nFind $k$.", None, "52"),
    "aqua": Problem("k/0", "s", "How fast?\nA) 21\nB) 21.5\nAnswer with the letter of the right choice.", "So B.", "B"),
    "gsm8k_backward": Problem("k/0", "s", "What is x?", "x = 15.", "15"),
    "gsm8k_platinum": Problem("k/0", "s", "How many?", "So 2.", "2", subject="verified"),
    "limo": Problem("k/0", "s", "Find $x$.", "Okay, so 5.", "5"),
    "mathinstruct": Problem("k/0", "s", "Which?", "So 60.", "B", subject="cot_aqua_rat"),
    "metamathqa": Problem("k/0", "s", "How many?", "3 + 12 = 15.", "15", subject="gsm_rephrased"),
    "nemotron_cc_math": Problem("k/0", "s", "", "Let $x$ be."),
    "numinamath": Problem("k/0", "s", "Find $x$.", r"So $\boxed{5}$.", "5", subject="cn_k12"),
    "openmathinstruct2": Problem("k/0", "s", "Find $x$.", r"So $\boxed{5}$.", "5", subject="augmented_math"),
    "orca_math": Problem("k/0", "s", "How many?", "There are 4."),
}
UNREAD = {  # columns that a problem can do without
    ("aime", "id"),
    ("aime", "reference_solution"),
    ("gsm8k_backward", "output"),
    ("metamathqa", "original_question"),
    ("nemotron_cc_math", "metadata"),
    ("numinamath", "messages"),
}
NEEDED = [(name, key) for name, values in ROWS.items() for key in values if (name, key) not in UNREAD]


def adapt(name, values, key="k/0"):
    return ADAPTERS[name].to_problem(Row("x.jsonl:17", key, values), "s")


@pytest.mark.parametrize("name", ROWS)
def test_a_row_in_the_documented_columns(name):
    assert adapt(name, ROWS[name]) == PROBLEMS[name]


PAIRS = {"graded", "gsm8k_solutions", "preferences"}  # in test_pairing.py and test_preferences.py


def test_every_native_format_is_tested_here_or_with_the_first_ones():
    assert set(ADAPTERS) == set(ROWS) | {"gsm8k", "math", "math500", "text"} | PAIRS


@pytest.mark.parametrize(("name", "column"), NEEDED)
def test_a_missing_empty_or_odd_column_is_named(name, column):
    values = ROWS[name]
    asked = "answer" if column == "expected_answer" and name == "aime" else column  # the first of several names
    with pytest.raises(InputError, match=f"no column `{asked}`; the row has "):
        adapt(name, {key: value for key, value in values.items() if key != column})
    for value in ("", None, True, "x\ud800"):
        with pytest.raises(InputError, match=f"`{column}`: expected") as error:
            adapt(name, values | {column: value})
        assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"problem": "p", "solution": "s", "answer": "015", "year": 2023, "aime_number": 2, "problem_number": 7}
            | {"difficulty": 4.25},
            Problem("2023-II-7", "s", "p", "s", "15", 4, "2023_ii"),
        ),
        (
            {"id": 60, "problem": "p", "solution": "s", "answer": "204", "url": "u", "year": "2024"},
            Problem("60", "s", "p", "s", "204", subject="2024"),
        ),
        ({"problem": "p", "answer": "70", "id": "0"}, Problem("0", "s", "p", None, "70")),
        ({"question": "p", "answer": r"336^\circ"}, Problem("k/0", "s", "p", None, "336")),
        (
            {"ID": "2024-I-4", "Problem": "p", "Solution": "s", "Answer": 116},
            Problem("2024-I-4", "s", "p", "s", "116"),
        ),
        (
            {"ID": "1983-1", "Year": 1983, "Problem Number": 1, "Question": "p", "Answer": 60, "Part": None},
            Problem("1983-1", "s", "p", None, "60", subject="1983"),
        ),
        (
            {"ID": "2000-I-1", "Year": 2000, "Problem Number": 1, "Question": "p", "Answer": "8", "Part": "I"},
            Problem("2000-I-1", "s", "p", None, "8", subject="2000_i"),
        ),
        (
            {"problem": "p", "answer": 0.0, "source_dataset": "AIME 2025-II", "original_id": "1", "global_id": 31},
            Problem("31", "s", "p", None, "0", subject="aime_2025_ii"),
        ),
    ],
)
def test_aime_in_each_published_form(values, expected):
    assert adapt("aime", values) == expected


@pytest.mark.parametrize("answer", ["1000", "-1", "3.5", "1,000", "7 or 8", "x", r"\frac{1}{2}", r"33\circ"])
def test_aime_answer_that_is_no_whole_number_up_to_999_is_bad(answer):
    with pytest.raises(InputError, match="`answer`: expected a whole number from 0 to 999, but got ") as error:
        adapt("aime", ROWS["aime"] | {"expected_answer": answer})
    assert repr(answer) in str(error.value)


@pytest.mark.parametrize(("key", "value"), [("aime_number", 3), ("difficulty", "hard"), ("difficulty", float("nan"))])
def test_aime_column_of_another_kind_is_bad(key, value):
    row = {"problem": "p", "answer": "1", "year": 1999, "aime_number": 1, "problem_number": 2, "difficulty": 2.0}
    with pytest.raises(InputError, match=f"`{key}`: expected"):
        adapt("aime", row | {key: value})


def test_aime_exams_of_one_year_do_not_share_ids():
    forms = [{"question": "p", "answer": "1"}] * 2
    ids = {adapt("aime", row, key=f"test/AIME2025-{exam}/0").id for exam, row in zip(("I", "II"), forms, strict=True)}
    assert len(ids) == 2


def test_aimo_csv_with_multi_line_problems_and_without_answers(tmp_path):
    rows = [("229ee8", 'Let $k, l > 0$ be "parameters".\n\nFind the sum.', 52), ("246d26", "How many,\nthen?", 99999)]
    with (tmp_path / "train.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "problem", "answer"), *rows])
    problems = load_corpus(CorpusArgs("aimo", str(tmp_path / "train.csv")), root=None, seed=0).problems
    assert [(one.id, one.problem, one.answer) for one in problems] == [(a, b, str(c)) for a, b, c in rows]
    (tmp_path / "test.csv").write_text('id,problem\n000aaa,"What is $1-1$?"\n')
    with pytest.raises(InputError, match=r"test.csv:2: no column `answer`; the row has id, problem"):
        load_corpus(CorpusArgs("aimo", str(tmp_path / "test.csv")), root=None, seed=0)


def test_aimo_answer_is_a_whole_number_up_to_99999():
    assert adapt("aimo", ROWS["aimo"] | {"answer": 142.0}).answer == "142"
    with pytest.raises(InputError, match="from 0 to 99999, but got '100000'"):
        adapt("aimo", ROWS["aimo"] | {"answer": 100000})


@pytest.mark.parametrize(
    "options", ["A)1", [], ["A)1"], ["A)1", 2], ["A)1", "C)2"], ["B)1", "A)2"], ["A)1", "no letter"], None]
)
def test_aqua_options_that_are_not_lettered_in_turn_are_bad(options):
    with pytest.raises(InputError, match="`options`: expected a list such as"):
        adapt("aqua", ROWS["aqua"] | {"options": options})


def test_aqua_letter_of_no_option_is_bad():
    with pytest.raises(InputError, match="`correct`: expected one of A, B, but got 'E'"):
        adapt("aqua", ROWS["aqua"] | {"correct": "E"})


def test_gsm8k_platinum_refuses_a_rejected_problem_and_chooses_by_status(write_lines):
    rows = [ROWS["gsm8k_platinum"] | {"cleaning_status": s} for s in ("consensus", "rejected", "revised")]
    path = str(write_lines("test.jsonl", *rows))
    with pytest.raises(InputError, match=r"test.jsonl:2: `cleaning_status`: .* revised, but got 'rejected'"):
        load_corpus(CorpusArgs("gsm8k_platinum", path), root=None, seed=0)
    args = CorpusArgs("gsm8k_platinum", path, on_bad_row="skip", where={"subject": ["revised"]})
    assert [problem.id for problem in load_corpus(args, root=None, seed=0).problems] == ["test/2"]


@pytest.mark.parametrize(
    ("part", "output", "solution", "answer"),
    [
        ("CoT/MATH_train", r"So $x = \boxed{5}$.", r"So $x = \boxed{5}$.", "5"),
        ("CoT/gsm_rft", "3*4 = 12.\nThe answer is 12", "3*4 = 12.", "12"),
        ("CoT/college_math", "So it converges.", "So it converges.", None),
        ("CoT/college_math", r"So \boxed{}.", r"So \boxed{}.", None),
        ("PoT/gsm_gpt4", "x = 5\n# The answer is 5\nprint(x)", "x = 5\n# The answer is 5\nprint(x)", None),
        ("PoT/TheoremQA", "print(5)\n#### 5", "print(5)\n#### 5", None),
    ],
)
def test_mathinstruct_takes_answers_of_chains_and_never_of_programs(part, output, solution, answer):
    problem = adapt("mathinstruct", ROWS["mathinstruct"] | {"source": f"data/{part}.json", "output": output})
    assert (problem.solution, problem.answer) == (solution, answer)
    assert problem.subject == part.replace("/", "_").lower()


@pytest.mark.parametrize("response", ["So 15.", "The answer is: 15\nOr not.", r"So \boxed{15}.", "#### 15"])
def test_metamathqa_response_that_does_not_end_in_its_answer_is_bad(response):
    with pytest.raises(InputError, match="`response`: expected `The answer is: <answer>` at its end, but got "):
        adapt("metamathqa", ROWS["metamathqa"] | {"response": response})


def test_gsm8k_backward_leaves_out_a_solution_that_marks_another_answer():
    row = ROWS["gsm8k_backward"]
    assert adapt("gsm8k_backward", row | {"answer": "16"}).solution is None
    unmarked = {"question": "q", "answer": "2", "inv_question_pred_answer": "x is 2."}
    assert adapt("gsm8k_backward", unmarked).solution == "x is 2."
    assert adapt("gsm8k_backward", {"question": "q", "answer": "2"}).solution is None


def test_numinamath_proof_has_no_answer_whatever_another_column_says():
    for solution in ("Clear.", r"Clear. $\boxed{}$"):
        row = ROWS["numinamath"] | {"solution": solution, "answer": "See solution", "original_id": "numinamath_7"}
        problem = adapt("numinamath", row)
        assert (problem.id, problem.answer) == ("numinamath_7", None)
