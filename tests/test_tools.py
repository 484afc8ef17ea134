"""The command lines under tools/ run as printed."""

import json
import subprocess
import sys
from pathlib import Path

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


def test_compare_runs_prints_both_gains_and_refuses_what_is_no_run(tmp_path):
    for name, correct in (("base", 1), ("sft", 3)):
        completions = [{"sample": -1, "verdict": "correct"}]
        record = {"source": "toy", "problem_id": "a", "num_correct": correct, "num_samples": 4}
        estimate = {"value": correct / 4, "low": 0.1, "high": 0.9, "num_problems": 1}
        (tmp_path / name).mkdir()
        (tmp_path / name / "records.jsonl").write_text(json.dumps({**record, "completions": completions}))
        results = {"benchmarks": {"toy": {"metrics": {"pass@1": estimate}}}}
        (tmp_path / name / "results.json").write_text(json.dumps(results))
    done = tool("compare_runs.py", str(tmp_path / "base"), str(tmp_path / "sft"))
    assert done.returncode == 0, done.stderr
    assert "accuracy +0.0 points" in done.stdout
    assert "pass@1 +50.0 points" in done.stdout
    missing = tool("compare_runs.py", str(tmp_path / "nothing"))
    assert missing.returncode != 0
    assert missing.stderr.startswith("compare_runs: error: ")
