"""The command lines under tools/ run as printed."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parents[1]


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, f"tools/{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


def test_the_shell_scripts_parse():
    scripts = [*ROOT.glob("tools/*.sh"), ROOT / ".ci" / "run"]
    assert len(scripts) == 4
    for script in scripts:
        assert subprocess.run(["bash", "-n", script]).returncode == 0, script


def test_a_tiny_policy_is_made_twice_the_same_and_has_the_shape_of_the_shipped_one(tmp_path):
    for name in ("one", "two"):
        made = tool("make_tiny_policy.py", "--steps", "2", "--out", str(tmp_path / name))
        assert made.returncode == 0, made.stderr
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (ROOT / "src/lemma/assets/tiny").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    for name in ("tokenizer.json", "chat_template.jinja", "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (ROOT / "src/lemma/assets/tiny" / name).read_bytes(), name
    assert AutoTokenizer.from_pretrained(tmp_path / "one").eos_token == "<|im_end|>"
    assert 0.9e6 < AutoModelForCausalLM.from_pretrained(tmp_path / "one").num_parameters() < 1.2e6
    assert sum(path.stat().st_size for path in (ROOT / "src/lemma/assets/tiny").iterdir()) < 3e6


def outputs(path: Path, **models: list[bool]) -> None:
    """Write one completion of each model for each of some problems; all are labelled as right."""
    rows = [
        {"problem": f"{i} + 1?", "answer": str(i + 1)}
        | {name: {"text": rf"\boxed{{{i + 1 if right[i] else 0}}}", "ok": True} for name, right in models.items()}
        for i in range(len(next(iter(models.values()))))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_outputs_of_two_models_are_regraded_and_compared(tmp_path):
    outputs(tmp_path / "theirs.jsonl", base=[True, False, False], sft=[True, True, True])
    flags = ["--completions", "base.text", "sft.text", "--labels", "base.ok", "sft.ok", "--output", str(tmp_path)]
    done = tool("regrade.py", str(tmp_path / "theirs.jsonl"), *flags)
    assert done.returncode == 0, done.stderr
    assert "Agreement with 3 labels: strict 1 (33.33 %)" in done.stdout
    assert "Agreement with 3 labels: strict 3 (100.00 %)" in done.stdout
    assert "3/3" in done.stderr  # the progress bar
    base, sft = tmp_path / "base.text", tmp_path / "sft.text"
    assert len((base / "disagreements.jsonl").read_text().splitlines()) == 2
    assert not (sft / "disagreements.jsonl").exists()
    done = tool("compare_runs.py", str(base), str(sft), "--output", str(tmp_path / "both"))
    assert done.returncode == 0, done.stderr
    assert "+66.7" in done.stdout
    assert "2 / 0 / 3" in done.stdout
    assert f"theirs: 2 solved by {sft} and not by {base}" in done.stdout
    assert {path.name for path in (tmp_path / "both").iterdir()} == {
        "comparison.md", "comparison.json", "comparison.png",
    }  # fmt: skip


@pytest.fixture
def run_tool(monkeypatch):
    """Return a function that runs a tool's command line in this process."""

    def run(name: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / "tools" / name), run_name="__main__")

    return run


def test_what_is_no_run_and_no_file_is_an_error_of_one_line(tmp_path, run_tool):
    with pytest.raises(SystemExit, match=r"^compare_runs: error: \S+/nothing: no evaluation found"):
        run_tool("compare_runs.py", tmp_path / "nothing")
    with pytest.raises(SystemExit, match=r"^regrade: error: \S+/nothing.jsonl: no such file"):
        run_tool("regrade.py", tmp_path / "nothing.jsonl", "--output", tmp_path)


def test_records_are_regraded_beside_and_never_over_themselves(tmp_path, run_tool, capsys):
    outputs(tmp_path / "theirs.jsonl", base=[True, False])
    one, two = tmp_path / "one", tmp_path / "two"
    run_tool("regrade.py", tmp_path / "theirs.jsonl", "--completions", "base.text", "--output", one)
    before = (one / "records.jsonl").read_bytes()
    with pytest.raises(SystemExit, match=r"regrade: error: --output: .* is where the input stands"):
        run_tool("regrade.py", one / "records.jsonl", "--output", one)
    assert (one / "records.jsonl").read_bytes() == before
    results = json.loads((one / "results.json").read_text())
    (one / "results.json").write_text(json.dumps({**results, "template_hash": "abc", "sampling": {"seed": 3}}))
    run_tool("regrade.py", one / "records.jsonl", "--output", two)
    assert "Agreement with 2 labels: strict 2 (100.00 %)" in capsys.readouterr().out
    assert (two / "records.jsonl").read_bytes() == before
    again = json.loads((two / "results.json").read_text())
    assert (again["template_hash"], again["sampling"]) == ("abc", {"seed": 3})
    assert again["data_hashes"] == results["data_hashes"]
    run_tool("regrade.py", one / "records.jsonl", "--output", two)
    assert (two / "records-1.jsonl").read_bytes() == before
