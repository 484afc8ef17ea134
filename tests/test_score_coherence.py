"""The tool that measures coherence: several columns as arms, samples of a file, records, and errors of one line."""

import json
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run_tool(monkeypatch):
    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["score_coherence.py", *map(str, arguments)])
        runpy.run_path(str(ROOT / "tools" / "score_coherence.py"), run_name="__main__")

    return run


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def text(left: int, right: int, result: int) -> str:
    return rf"{left} + {right} = {result}, so \boxed{{{result}}}."


def test_columns_are_arms_of_the_same_problems(tmp_path, run_tool, capsys):
    rows = [
        {
            "question": f"{i} + 2?",
            "gold": str(i + 2),
            "a": text(i, 2, i + 2),
            "b": text(2, i, i + 2),
            "c": text(i, 2, i),
        }
        for i in range(1, 5)
    ]
    path, json_file = write(tmp_path / "outputs.jsonl", rows), tmp_path / "figures.json"
    columns = ("--problem", "question", "--answer", "gold", "--completions", "a", "b", "c")
    run_tool(path, *columns, "--json", json_file, "--coherence.arm_weights", '{"c": 3}')
    figures = json.loads(json_file.read_text())
    assert (figures["problems"], figures["trajectories"]) == (4, 12)
    assert figures["coherence"]["arm_weights"] == {"c": 3}
    for name in ("s_end", "agreement", "truth", "s_path", "s_wm"):
        assert figures["scores"][name]["defined"] == 12
        assert figures["scores"][name]["right"] == 8
        assert figures["scores"][name]["auroc_within"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert "12 of 12" in capsys.readouterr().out


def test_labels_go_before_verdicts_and_rows_of_a_problem_are_its_trajectories(tmp_path, run_tool):
    results = ((2, True), (2, True), (3, False))
    rows = [{"problem": "1 + 1?", "answer": "2", "completion": text(1, 1, r), "ok": not ok} for r, ok in results]
    run_tool(write(tmp_path / "x.jsonl", rows), "--labels", "ok", "--json", tmp_path / "figures.json")
    scores = json.loads((tmp_path / "figures.json").read_text())["scores"]
    assert scores["s_end"]["auroc"]["value"] == 0.0
    assert scores["s_end"]["right"] == 1


def test_the_difference_to_another_file_is_paired_by_problem(tmp_path, run_tool, capsys):
    def rows(problem: int, results: tuple[int, ...]) -> list[dict]:
        row = {"kind": "sums", "problem": f"{problem} + 1?", "answer": "2"}
        return [row | {"completion": text(problem, 1, result)} for result in results]

    one = write(tmp_path / "one.jsonl", [*rows(1, (2, 2, 2)), *rows(2, (3, 3, 3)), *rows(9, (1, 2))])
    other = write(tmp_path / "other.jsonl", [*rows(2, (3, 3, 4)), *rows(1, (2, 2, 2)), *rows(8, (1, 2))])
    columns = ("--id", "problem", "--source", "kind")
    run_tool(one, "--against", other, *columns, "--json", tmp_path / "figures.json")
    found = json.loads((tmp_path / "figures.json").read_text())["differences"]
    # s_end is 1 but for 2 + 1 in the other file: (1/2 + 1/2 + 0) / 3
    assert found["s_end"] == pytest.approx(
        {"num_problems": 2, "before": 2 / 3, "after": 1.0, "difference": 1 / 3, "low": 0.0, "high": 2 / 3}
    )
    assert "+0.3333 [+0.0000, +0.6667]" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--against: the two files have no problem in common"):
        run_tool(one, "--against", write(tmp_path / "third.jsonl", rows(7, (1, 2))), *columns)


def test_a_greedy_completion_beside_samples_is_no_trajectory(tmp_path, run_tool):
    texts, verdicts = [text(1, 1, 3), text(1, 1, 2), text(1, 1, 2)], ["wrong", "correct", "correct"]
    row = {"problem_id": "a", "source": "toy", "problem": "1 + 1?", "answer": "2", "samples": [-1, 0, 1]}
    row |= {"completions": texts, "verdicts": verdicts, "flexible_verdicts": verdicts, "predictions": ["3", "2", "2"]}
    row |= {"strategies": ["boxed"] * 3, "votes": [1, 0, 0]}
    row |= dict.fromkeys(("level", "subject", "tokens_in", "seconds"))
    run_tool(write(tmp_path / "records.jsonl", [row]), "--json", tmp_path / "figures.json")
    scores = json.loads((tmp_path / "figures.json").read_text())["scores"]
    assert (scores["s_end"]["defined"], scores["s_end"]["right"]) == (2, 2)


def test_a_file_without_a_second_trajectory_is_refused_in_one_line(tmp_path, run_tool):
    path = write(tmp_path / "x.jsonl", [{"problem": "1 + 1?", "answer": "2", "completion": "2"}])
    with pytest.raises(SystemExit, match=r"^score_coherence: error: no problem has two trajectories"):
        run_tool(path)
    with pytest.raises(SystemExit, match=r"^score_coherence: error: \S+/nothing.jsonl: no such file"):
        run_tool(tmp_path / "nothing.jsonl")
