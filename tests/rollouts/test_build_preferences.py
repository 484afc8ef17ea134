"""The tool that makes preference pairs: from files to rows that the corpus reads, counts, warnings and errors."""

import json
import runpy
import sys
import tracemalloc
from pathlib import Path

import pytest

from lemma.corpora.preferences import to_preference
from lemma.corpora.rows import Row
from lemma.rollouts.preferences import PairingArgs, build_preferences

ROOT = Path(__file__).parents[2]
SCORES = {"s_end": 0.5, "s_path": 0.5, "s_cf": None}


def trajectories(number: int, *, source: str = "toy", right: int = 4, wrong: int = 4, **changes) -> dict:
    """Return a row with right and wrong trajectories, the right ones less and less coherent."""
    verdicts = ["correct"] * right + ["wrong"] * wrong
    size = len(verdicts)
    return {
        "problem_id": f"train/{number}", "source": source, "level": number % 3 + 1, "subject": "Counting & Probability",
        "problem": f"What is {number} + {number}?", "answer": str(2 * number), "samples": list(range(size)),
        "completions": [f"{number}, {verdict} by way {i}" for i, verdict in enumerate(verdicts)],
        "predictions": [None] * size, "strategies": [None] * size, "verdicts": verdicts, "flexible_verdicts": verdicts,
        "votes": [0] * right + [1] * wrong, "stopped": [True] * size, "tokens_in": None,
        "tokens_out": [10 + i for i in range(size)], "seconds": None, "arms": [f"arm{i}" for i in range(size)],
        "scores": [{**SCORES, "s_wm": 1 - i / 10} for i in range(size)],
        "rewards": [2 - i / 10 for i in range(right)] + [0.5] * wrong, "variants": [], **changes,
    }  # fmt: skip


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


@pytest.fixture
def run_tool(monkeypatch, tmp_path):
    """Run the tool on files, and return the path of its pairs."""

    def run(*arguments: object) -> Path:
        output = tmp_path / "made" / "pairs.jsonl"
        command = ["build_preferences.py", "--output", str(output), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        runpy.run_path(str(ROOT / "tools" / "build_preferences.py"), run_name="__main__")
        return output

    return run


def test_rows_are_read_by_the_corpus_and_keep_where_they_come_from(tmp_path, run_tool, capsys):
    one = write(tmp_path / "one.jsonl", [trajectories(n) for n in range(6)])
    two = write(tmp_path / "two.jsonl", [trajectories(n, source="other") for n in range(3)])
    rows = read(run_tool("--trajectories", one, two, "--pairs.balance", "none"))
    assert len(rows) == 9 * 4
    row = rows[2]
    assert (row["id"], row["problem_id"], row["rank"]) == ("toy/train/0/coherence-0", "train/0", 0)
    assert (row["kind"], row["pair_type"], row["grades"]) == ("coherence", "coherence", ["right", "right"])
    assert (row["arms"], row["tokens"], row["rewards"]) == (["arm0", "arm3"], [10, 13], [2.0, 1.7])
    assert row["scores"] == [{**SCORES, "s_wm": 1.0}, {**SCORES, "s_wm": 0.7}]
    preferences = [to_preference(Row("", "", row), "mine") for row in rows]
    assert len({preference.id for preference in preferences}) == len(rows)
    assert preferences[2].messages == (("user", "What is 0 + 0?"),)
    assert (preferences[2].form, preferences[2].kind, preferences[2].level) == ("plain", "coherence", 1)
    assert preferences[2].subject == "counting_and_probability"
    report = json.loads((tmp_path / "made" / "pairs-report.json").read_text())
    assert report["kinds"]["coherence"]["tokens"] == {
        "chosen": 10.5, "rejected": 12.5, "bias": pytest.approx(((10 - 13) / 23 + (11 - 12) / 23) / 2)
    }  # fmt: skip
    assert [(g["kind"], g["source"], g["level"], g["kept"]) for g in report["groups"]][:2] == [
        ("correctness", "other", 1, 2), ("correctness", "other", 2, 2)
    ]  # fmt: skip
    printed = capsys.readouterr()
    assert "toy: 6 of 6 problems have both a right and a wrong completion." in printed.out
    assert "chosen (tokens)" in printed.out
    assert "there are but 18 pairs of kind coherence (--pairs.warn_below 100)" in printed.err


def test_a_larger_source_is_thinned_in_the_file_and_both_counts_are_told(tmp_path, run_tool):
    rows = [trajectories(n, level=None) for n in range(40)]
    rows += [trajectories(n, level=None, source="small") for n in range(5)]
    path = write(tmp_path / "x.jsonl", rows)
    kept = read(run_tool("--trajectories", path, "--pairs.balance", "source", "--pairs.balance_keep", "0.5"))
    # of each kind 80 and 10 pairs: 35 and 10 are half of them; the first pairs of 35 of 40 problems
    counts = {(kind, source): 0 for kind in ("correctness", "coherence") for source in ("toy", "small")}
    for row in kept:
        counts[row["kind"], row["source"]] += 1
        assert row["rank"] == 0 or row["source"] == "small"
    assert set(counts.values()) == {35, 10}
    report = json.loads((tmp_path / "made" / "pairs-report.json").read_text())
    assert (report["kinds"]["coherence"]["found"], report["kinds"]["coherence"]["kept"]) == (90, 45)


def test_the_same_input_gives_the_same_bytes_and_what_stood_there_is_kept(tmp_path, run_tool):
    path = write(tmp_path / "x.jsonl", [trajectories(n) for n in range(4)])
    config = tmp_path / "pairs.yaml"
    config.write_text(f"trajectories: [{path}]\npairs: {{order: reward, reward_margin: 1.2, balance: none}}\n")
    first = run_tool("--config", config).read_bytes()
    assert run_tool("--config", config).read_bytes() == first
    folder = tmp_path / "made"
    assert (folder / "pairs-1.jsonl").read_bytes() == first
    assert sorted(file.name for file in folder.iterdir()) == [
        "pairs-1.jsonl", "pairs-report-1.json", "pairs-report.json", "pairs.jsonl"
    ]  # fmt: skip
    assert [row["rewards"] for row in read(folder / "pairs.jsonl")][:4] == [
        [2.0, 0.5], [1.9, 0.5], [1.8, 0.5], [1.7, 0.5]
    ]  # fmt: skip


def test_none_of_a_kind_is_an_error_with_counts_and_the_way_on(tmp_path, run_tool):
    path = write(tmp_path / "x.jsonl", [trajectories(n, right=1) for n in range(3)])
    with pytest.raises(SystemExit, match=r"no pair of kind coherence: lower the margin.*toy: 3 of 3 problems"):
        run_tool("--trajectories", path)
    assert list((tmp_path / "made").iterdir()) == []
    assert len(read(run_tool("--trajectories", path, "--pairs.order", "correctness_only"))) == 12
    path = write(tmp_path / "x.jsonl", [trajectories(n, wrong=0) for n in range(3)])
    with pytest.raises(SystemExit, match=r"no pair of kind correctness: .*3 only right ones"):
        run_tool("--trajectories", path)
    with pytest.raises(SystemExit, match=r"no pair: lower --pairs\.reward_margin"):
        run_tool("--trajectories", path, "--pairs.order", "reward", "--pairs.reward_margin", "9")


def test_a_wrong_over_a_right_completion_is_a_warning(tmp_path, run_tool, capsys):
    row = trajectories(1, right=1, wrong=1, rewards=[0.1, 0.9])
    run_tool("--trajectories", write(tmp_path / "x.jsonl", [row]), "--pairs.order", "reward")
    assert "1 pairs put a wrong completion over a right one" in capsys.readouterr().err


def test_a_problem_that_comes_again_and_a_bad_row_are_errors_that_can_be_skipped(tmp_path, run_tool, capsys):
    one = write(tmp_path / "one.jsonl", [trajectories(1), {"version": 1}])
    two = write(tmp_path / "two.jsonl", [trajectories(1, source="other"), trajectories(1, wrong=2)])
    with pytest.raises(SystemExit, match=r"error: .*one\.jsonl:2: `samples` is missing"):
        run_tool("--trajectories", one)
    with pytest.raises(SystemExit, match=r"error: .*two\.jsonl:2: problem train/1 of toy was there before"):
        run_tool("--trajectories", write(tmp_path / "one.jsonl", [trajectories(1)]), two)
    write(tmp_path / "one.jsonl", [trajectories(1), {"version": 1}])
    assert len(read(run_tool("--trajectories", one, two, "--on_bad_row", "skip"))) == 8
    assert "2 rows are left out; the first: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trajectories", "nothing.jsonl"], "trajectories: nothing.jsonl: no such file"),
        (["--trajectories", "x.csv"], r"trajectories: expected a file ending in \.jsonl, but got x\.csv"),
        (["--trajectories", "x.jsonl", "--output", "x.jsonl"], "output: x.jsonl is one of the inputs"),
        (["--trajectories", "x.jsonl", "--pairs.margin", "2"], "pairs.margin: expected a number above 0 and at most 1"),
        (["--trajectories", "x.jsonl", "--max_length", "0"], "max_length: expected null or a number of at least 1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, run_tool, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x.jsonl", [trajectories(1)])
    with pytest.raises(SystemExit, match=f"^build_preferences: error: {message}"):
        run_tool(*arguments)


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(num_problems: int) -> int:
        long = " and so on" * 400
        rows = (trajectories(n) for n in range(num_problems))
        path = tmp_path / f"{num_problems}.jsonl"
        with path.open("w") as stream:
            for row in rows:
                row["completions"] = [text + long for text in row["completions"]]
                stream.write(json.dumps(row) + "\n")
        tracemalloc.start()
        build_preferences([path], tmp_path / "pairs.jsonl", PairingArgs(balance="none"))
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(2)
    small, large = peak(10), peak(300)  # 0.3 and 10 MB
    assert large < small + 1e6
