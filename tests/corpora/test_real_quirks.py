"""The real data sets: every row is read, and each known quirk of theirs comes out as documented."""

import json
import re
import tarfile

import pytest

from lemma.answers import extract_answer, normalize
from lemma.corpora import CorpusArgs, load_corpus
from lemma.corpora.reading import read_local

MATH = "math/MATH_train.tar.gz"


@pytest.fixture(scope="module")
def load(data):
    """Return a function of (format, path) to the problems of a real file, which skips bad rows where it is told to."""
    loaded = {}

    def problems(name, path, on_bad_row="error"):
        if path not in loaded:
            args = CorpusArgs(name, path, on_bad_row=on_bad_row)
            loaded[path] = load_corpus(args, root=str(data), seed=0).problems
        return loaded[path]

    return problems


@pytest.fixture(scope="module")
def math_rows(data):
    """Return MATH's training rows by name, read without this project."""
    with tarfile.open(data / MATH) as archive:
        members = [member for member in archive if member.name.endswith(".json")]
        return {member.name: json.loads(archive.extractfile(member).read()) for member in members}


@pytest.mark.parametrize(
    ("name", "path", "num_rows"),
    [
        ("aime", "aime/aime_1983_2023.json", 975),
        ("aime", "aime/aime24_test.jsonl", 30),
        ("aime", "aime/aime25_test.jsonl", 30),
        ("aqua", "aqua/dev.json", 254),
        ("gsm8k", "gsm8k/train.jsonl", 7473),
        ("gsm8k", "gsm8k/test.jsonl", 1319),
        ("gsm8k_backward", "gsm8k_backward/GSM8K_Backward.jsonl", 1270),
        ("math500", "math500/test.jsonl", 500),
        ("numinamath", "numinamath/numinamath_subset_raw.json", 102),
        ("openmathinstruct2", "openmathinstruct2/openmathinstruct2_sample.jsonl", 100),
    ],
)
def test_every_row_is_read_and_has_an_id_of_its_own(load, name, path, num_rows):
    problems = load(name, path)
    assert len(problems) == len({problem.id for problem in problems}) == num_rows


def test_gsm8k_golds_lose_thousands_commas_and_keep_their_sign(load, data):
    for split, num_commas, negatives in (("train", 79, ["-7", "-47", "-12"]), ("test", 14, ["-10", "-3"])):
        path = f"gsm8k/{split}.jsonl"
        golds = [row.values["answer"].rpartition("####")[2].strip() for row in read_local(data / path, split)]
        answers = [problem.answer for problem in load("gsm8k", path)]
        assert sum("," in gold for gold in golds) == num_commas
        assert answers == [gold.replace(",", "") for gold in golds]
        assert [answer for answer in answers if answer.startswith("-")] == negatives


def test_line_separators_within_a_row_do_not_cut_it(data, write_lines):
    rows = [row.values for row in read_local(data / "gsm8k" / "train.jsonl", "train")]
    assert [text.count("\u2028") for row in rows for text in row.values() if "\u2028" in text] == [2]
    raw = write_lines("raw.jsonl", *rows)  # written as the characters themselves, not as escapes
    assert len(raw.read_text("utf-8").splitlines()) == 7475
    assert [row.values for row in read_local(raw, "train")] == rows


def test_openai_solutions_hold_no_hashes_and_end_in_their_answer(load, data):
    rows = [row.values for row in read_local(data / "gsm8k" / "example_model_solutions.jsonl", "test")]
    answers = {problem.problem: problem.answer for problem in load("gsm8k", "gsm8k/test.jsonl")}
    assert "####" not in json.dumps(rows)
    found = [extract_answer(row["ground_truth"]) for row in rows]
    assert {one.strategy for one in found} <= {"number", "phrase"}
    assert [one.answer.replace(",", "") for one in found] == [answers[row["question"].strip()] for row in rows]


def test_math_golds_with_a_latex_thousands_separator_are_kept_as_written_and_normalise(load):
    golds = [one.answer for one in load("math", MATH, "skip") if r",\!" in one.answer]
    assert len(golds) == 40
    assert normalize(r"112,\!875") == normalize("112875")
    assert all(r",\!" not in normalize(gold) for gold in golds)


def test_math_takes_the_last_of_several_boxes(load, math_rows):
    several = {name for name, row in math_rows.items() if len(re.findall(r"\\f?boxed", row["solution"])) > 1}
    assert len(several) == 114
    answers = {f"MATH/{problem.id}.json": problem.answer for problem in load("math", MATH, "skip")}
    last = {name: math_rows[name]["solution"].rpartition(r"\boxed{")[2].partition("}")[0] for name in several}
    plain = {name: answer for name, answer in last.items() if "{" not in answer}  # else its end takes counting braces
    assert len(plain) > 60
    assert {name: answers[name] for name in plain} == plain


def test_math_has_two_levels_that_are_a_question_mark(load, math_rows):
    assert sum(row["level"] == "Level ?" for row in math_rows.values()) == 2
    assert sum(problem.level is None for problem in load("math", MATH, "skip")) == 2


def test_one_problem_of_math_train_is_in_math_500_but_for_its_punctuation(load):
    def words(problem):
        return re.sub(r"[\W_]+", "", problem.problem.casefold())

    train = {words(problem): problem.id for problem in load("math", MATH, "skip")}
    both = [(train[words(one)], one.id) for one in load("math500", "math500/test.jsonl") if words(one) in train]
    assert both == [("train/precalculus/474", "test/precalculus/285")]


def test_aime_answers_lose_their_leading_zeros(load, data):
    rows = json.loads((data / "aime" / "aime_1983_2023.json").read_bytes())
    problems = load("aime", "aime/aime_1983_2023.json")
    assert sum(row["answer"].startswith("0") and row["answer"] != "0" for row in rows) == 8
    assert [problem.answer for problem in problems] == [str(int(row["answer"])) for row in rows]


def test_aime_exams_have_fifteen_problems_each_and_problem_0_of_2023_is_15(load):
    problems = load("aime", "aime/aime_1983_2023.json")
    assert {problem.id for problem in problems} == {
        f"{year}-{exam}-{number}"
        for year in range(1983, 2024)
        for exam in (("I", "II") if year >= 2000 else ("I",))
        for number in range(1, 16)
    }
    assert {problem.subject for problem in problems} >= {"1983_i", "2000_ii", "2023_i"}
    assert {problem.level for problem in problems} == {2, 3, 4, 5, 6}


def test_numinamath_has_23_problems_without_a_short_answer(load):
    problems = load("numinamath", "numinamath/numinamath_subset_raw.json")
    assert sum(problem.answer is None for problem in problems) == 23
    assert "See solution" not in {problem.answer for problem in problems}
    assert {problem.subject for problem in problems} == {"olympiads", "aops_forum", "cn_k12"}


def test_gsm8k_backward_leaves_out_the_7_solutions_that_say_another_answer(load):
    problems = load("gsm8k_backward", "gsm8k_backward/GSM8K_Backward.jsonl")
    assert sum(problem.solution is None for problem in problems) == 7
    assert all(re.fullmatch(r"\d+", problem.answer) for problem in problems)
    assert not any("The answer is" in (problem.solution or "") for problem in problems)


def test_aqua_shows_its_five_choices_and_answers_with_a_letter(load):
    problems = load("aqua", "aqua/dev.json")
    assert {problem.answer for problem in problems} == set("ABCDE")
    assert all(re.search(r"\nA\) .*\nB\) .*\nC\) .*\nD\) .*\nE\) ", one.problem, re.DOTALL) for one in problems)


def test_openmathinstruct2_answers_are_those_in_the_solutions_boxes(load):
    problems = load("openmathinstruct2", "openmathinstruct2/openmathinstruct2_sample.jsonl")
    assert [extract_answer(problem.solution).answer for problem in problems] == [problem.answer for problem in problems]
