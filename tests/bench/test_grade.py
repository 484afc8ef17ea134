"""Graders are compared on verdicts that they both give, and that are mostly the same."""

import json
from pathlib import Path

import pytest
from benchmark.grade import GradeBenchArgs, check, generated_answers
from benchmark.harness import Run

from lemma.types import InputError

OPTIONS = ["--steps=2", "--warmup=1", "--repeats=1", "--batch_size=6"]


def test_both_sides_grade_every_generated_completion_as_it_is_labelled(bench):
    error, stdout, report, image = bench("grade", *OPTIONS)
    assert error is None
    assert set(report["checks"][0].values()) == {0.0}
    for side in ("lemma", "reference"):
        (record,) = report["records"][side]
        assert record["num_answers"] == [6] * 3
        assert record["rates"]["answers"] == pytest.approx([6 / time for time in record["seconds"][1:]])
    assert report["matmul_flops"] is None
    assert "of matmul" not in stdout
    assert image.is_file()


def test_outputs_of_a_file_are_graded_as_its_columns_say(bench, tmp_path):
    path = tmp_path / "outputs.jsonl"
    rows = [{"q": f"{i}?", "gold": f"So\n#### {i}", "by": {"a": f"It is {i}.", "b": "It is -1."}} for i in range(9)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    columns = ["--completions=[by.a, by.b]", "--problem=q", "--answer=gold", "--extract_gold=true"]
    error, _, report, _ = bench("grade", *OPTIONS, f"--rows={path}", *columns)
    assert error is None
    assert list(report["checks"][0]) == ["the sides disagree on"]  # nobody says what is right
    assert report["facts"]["rows"] == 18
    error = bench("grade", *OPTIONS, "--steps=3", f"--rows={path}", *columns).error
    assert "take 24 rows, but there are 18" in error


def test_a_side_that_skips_rows_ends_the_run(bench):
    def skip(path: Path) -> None:
        batches = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(f"{json.dumps(batch)}\n" for batch in [batches[0], batches[1][:-1], batches[2]]))

    error, _, report, _ = bench("grade", *OPTIONS, doctor=skip)
    assert error.endswith("the reference has 17 verdicts in 3 batches, instead of 18 in 3.")
    assert "summary" not in report


@pytest.mark.parametrize(
    ("mine", "theirs", "message"),
    [
        ([True, False, True, True], [True, False, True, False], "the sides agree on 75.00% of 4 completions"),
        ([True] * 4, [True] * 4, "Lemma and labels agree on 75.00% of 4 completions"),
    ],
)
def test_sides_that_say_otherwise_too_often_are_refused(tmp_path, mine, theirs, message):
    (tmp_path / "labels.json").write_text("[[true, false], [true, true]]")
    runs = [Run(tmp_path, {"verdicts": [each[:2], each[2:]]}) for each in (mine, theirs)]
    with pytest.raises(InputError, match=message):
        check(GradeBenchArgs(agreement=0.9), tmp_path, *runs)
    found = check(GradeBenchArgs(agreement=0.5), tmp_path, *runs)
    assert found["the sides disagree on"] == sum(map(bool.__ne__, mine, theirs)) / 4


def test_every_second_generated_completion_is_wrong():
    answers = list(generated_answers(20, seed=1))
    for each in answers:
        assert each.text.endswith(f"{each.gold}}}.") == each.label or f"{{{each.gold}}}" not in each.text
    assert [each.label for each in answers] == [True, False] * 10
