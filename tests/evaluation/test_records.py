"""A record is written and read back whole; what is no record is named by file, line and key."""

import json
from dataclasses import replace

import pytest

from lemma.answers import Grader
from lemma.evaluation import Record, graded, read_records
from lemma.types import GREEDY, Completion, InputError, Problem, Verdict

KEYS = {
    *("problem_id", "source", "level", "subject", "problem", "answer", "n_correct", "n_total", "greedy_correct"),
    *("samples", "completions", "predictions", "strategies", "verdicts", "flexible_verdicts", "votes"),
    *("stopped", "tokens_in", "tokens_out", "seconds"),
}


def test_a_row_has_parallel_lists_and_counts_of_the_sampled_completions(make_record):
    row = make_record(3, "CWCUF", level=2).as_json()
    assert set(row) == KEYS
    assert row["samples"] == [-1, 0, 1, 2, 3]
    assert row["verdicts"] == ["correct", "wrong", "correct", "unparseable", "unparseable"]
    assert row["flexible_verdicts"] == ["correct", "wrong", "correct", "unparseable", "correct"]
    assert row["strategies"] == ["boxed", "boxed", "boxed", None, "number"]
    assert (row["n_correct"], row["n_total"], row["greedy_correct"]) == (1, 4, True)
    assert all(len(row[key]) == 5 for key in ("completions", "predictions", "votes", "stopped", "tokens_out"))


def test_what_was_not_measured_is_null_and_never_0(make_record):
    only_greedy, only_sampled = make_record(0, "C").as_json(), make_record(0, "CW", greedy=False).as_json()
    assert (only_greedy["n_total"], only_greedy["greedy_correct"]) == (0, True)
    assert (only_sampled["n_total"], only_sampled["greedy_correct"]) == (2, None)
    unknown = replace(make_record(0, "CW"), tokens_in=None, tokens_out=None, stopped=None, seconds=None).as_json()
    assert [unknown[key] for key in ("tokens_in", "tokens_out", "stopped", "seconds")] == [None] * 4


def test_records_are_read_back_as_they_were(make_record, tmp_path):
    records = [
        make_record(0, "CWTU", level=3, subject="algebra"),
        replace(make_record(1, "F", greedy=False), tokens_in=None, tokens_out=None, stopped=None, seconds=None),
        make_record(0, "C", source="other"),
    ]
    records[0].completions[1] = "a line\u2028separator \x85 inside"  # no end of a row
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(record.as_json(), ensure_ascii=False) + "\n" for record in records), "utf-8")
    assert list(read_records(path)) == records


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": None}, "`samples`"),
        ({"samples": []}, "`samples`: expected at least one completion"),
        ({"verdicts": ["correct"]}, "`verdicts`: expected 2 entries"),
        ({"verdicts": ["correct", "maybe"]}, "`verdicts`: expected correct, .* but got 'maybe'"),
        ({"completions": ["a", None]}, "`completions`: expected str, but got None"),
        ({"votes": [0, True]}, "`votes`: expected int, but got True"),
        ({"tokens_out": [1]}, "`tokens_out`: expected 2 entries"),
        ({"answer": None}, "`answer`: expected str"),
    ],
)
def test_a_bad_record_is_named_by_file_line_and_key(make_record, tmp_path, change, message):
    path = tmp_path / "records.jsonl"
    good = make_record(0, "CW").as_json()
    path.write_text(f"{json.dumps(good)}\n\n{json.dumps({**good, **change})}\n")
    with pytest.raises(InputError, match=rf"records\.jsonl:3: not a record: {message}"):
        list(read_records(path))


@pytest.mark.parametrize("line", ['{"problem_id": "x"', "[1, 2]", "null", "{}"])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    path = tmp_path / "records.jsonl"
    path.write_text(line)
    with pytest.raises(InputError, match=r"records\.jsonl:1: not a record"):
        list(read_records(path))


def test_grading_finds_verdicts_and_votes_of_each_record():
    texts = [r"\boxed{\frac{1}{2}}", r"\boxed{0.5}", r"\boxed{3}", "nothing at all", r"\boxed{3.0}", "it is about 1/2"]
    completions = [Completion("p0", "toy", GREEDY + i, text, 4, True) for i, text in enumerate(texts)]
    problem = Problem("p0", "toy", "?", answer="1/2")
    with Grader() as grader:
        [record] = graded([Record.of(0, problem, completions, 9)], grader)
    assert [grade.verdict for grade in record.grades[:5]] == [
        Verdict.CORRECT, Verdict.CORRECT, Verdict.WRONG, Verdict.UNPARSEABLE, Verdict.WRONG,
    ]  # fmt: skip
    assert record.votes[:5] == [0, 0, 1, -1, 1]
    # an answer that only flexible extraction finds is none in strict figures: it does not vote either
    assert (record.grades[5].verdict, record.votes[5]) == (Verdict.UNPARSEABLE, -1)
    assert (record.greedy, record.num_correct) == (record.grades[0], 1)
