"""The tool that measures the grader counts every disagreement, whatever is said of it."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CASES = [
    {"gold": "1/2", "prediction": r"It is \boxed{0.5}.", "expected": True, "kind": "extract+verify"},
    {"gold": "x+1", "prediction": "1+x", "expected": True, "kind": "equiv"},
    {"gold": "5", "prediction": "5", "expected": False, "kind": "equiv"},  # a false label
    {"gold": " ", "prediction": "5", "expected": False, "kind": "equiv"},
]
OUTPUTS = [
    {"gold": "7", "response": r"So \boxed{7}.", "recorded_correct": True},
    {"gold": "7", "response": "That makes 7 eggs.", "recorded_correct": True},  # the text marks no answer
    {"gold": "7", "response": r"So \boxed{8}.", "recorded_correct": None},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, rows in (("grading/cases", CASES), ("outputs/mine", OUTPUTS)):
        path = tmp_path / f"{name}.jsonl"
        path.parent.mkdir()
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "tools/check_grader.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_both_graders_are_measured_and_disagreements_listed(data: Path):
    done = run("--data", str(data), "--json", str(data / "figures.json"))
    assert done.returncode == 0, done.stderr
    assert "14/14" in done.stderr  # every row twice
    figures = json.loads((data / "figures.json").read_text())
    cases, mine = figures["sets"]
    assert (cases["rows"], cases["judged"], cases["agreement"]) == (4, "flexible", 0.75)
    assert (cases["false_positives"], cases["false_negatives"], cases["reference_false_positives"]) == (1, 0, 1)
    assert (mine["labels"], mine["strict_agreement"], mine["flexible_agreement"]) == (2, 0.5, 1.0)
    assert (mine["judged"], mine["false_positives"], mine["false_negatives"]) == ("strict", 0, 1)
    for one in (cases, mine):
        assert one["ratio"] == pytest.approx(one["per_second"] / one["reference_per_second"])
        assert 0 < one["median_ms"] <= one["p99_ms"]
    wrong, unmarked = figures["disagreements"]
    assert (wrong["gold"], wrong["verdict"], wrong["label"], wrong["reason"]) == ("5", "correct", False, "unexplained")
    assert unmarked["id"].startswith("mine:2:")
    assert "2 disagreements with labels" in done.stdout
    assert "'5' is correct, labelled wrong: unexplained" in done.stdout


def test_a_folder_without_data_is_the_users_error(tmp_path: Path):
    done = run("--data", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("check_grader: error: --data")


def test_a_reason_explains_only_the_very_row_that_it_was_written_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tool = importlib.import_module("check_grader")
    grade = tool.Graded("correct", "correct", "5", "bare")
    one = tool.Measured("cases", "flexible", [tool.Row("5", "5", False, bare=True)], [grade])
    (unexplained,) = tool.disagreements(one, {})
    (explained,) = tool.disagreements(one, {unexplained["id"]: "a false label"})
    assert (unexplained["reason"], explained["reason"]) == ("unexplained", "a false label")
    one.rows[0] = tool.Row("5", "5.0", False, bare=True)
    (other,) = tool.disagreements(one, {unexplained["id"]: "a false label"})
    assert other["reason"] == "unexplained"


def test_the_reasons_on_file_are_texts_by_row():
    reasons = yaml.safe_load((ROOT / "tools" / "check_grader.yaml").read_text("utf-8"))
    assert reasons
    for key, reason in reasons.items():
        name, number, digest = key.split(":")
        assert name
        assert number.isdigit()
        assert len(digest) == 8
        assert len(reason) > 10
