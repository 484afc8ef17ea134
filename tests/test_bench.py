"""The benchmark compares equal work only: what it measures, what it refuses, and one run of it from end to end."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from transformers import AutoConfig

from lemma.corpora import arithmetic
from lemma.encoding import Batch, ChatEncoder, TokenizerArgs, load_tokenizer
from lemma.prompts import PromptArgs
from lemma.types import InputError

TOOLS = Path(__file__).parents[1] / "tools"
TINY = {"layers": 1, "hidden": 32, "vocab": 512, "lora_r": 4, "batch_size": 2, "steps": 3, "warmup": 1, "repeats": 1}
GRPO = ["--batch_size=4", "--group_size=2", "--new_tokens=6"]
DOCTOR = """#!{python}
import json, os, pathlib, sys
path = pathlib.Path(sys.argv[-2])
job = json.loads(path.read_text())
{change}
path.write_text(json.dumps(job))
os.execv("{python}", ["{python}", *sys.argv[1:]])
"""
SWAPPED_PAIR = """
rows = pathlib.Path(job["rows"])
lines = rows.read_text().splitlines()
row = json.loads(lines[5])  # of two rows a step: the second row of step 3
row["chosen_ids"], row["rejected_ids"] = row["rejected_ids"], row["chosen_ids"]
lines[5] = json.dumps(row)
rows.write_text("\\n".join(lines))
"""
SMALLER_STEPS = """
job["learning_rate"] *= 0.9
"""


class Finished(NamedTuple):
    status: int
    stdout: str
    stderr: str
    report: dict


@pytest.fixture(autouse=True)
def _tools_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Finished]:
    """Runs of the tool, side by side: one a workload, and two whose reference is told something else than Lemma."""
    folder = tmp_path_factory.mktemp("bench")
    options = [f"--{name}={value}" for name, value in TINY.items()]
    processes = {}
    for name, workload, change in (
        ("sft", "sft", None),
        ("dpo", "dpo", None),
        ("grpo", "grpo", None),
        ("swapped pair", "dpo", SWAPPED_PAIR),
        ("smaller steps", "grpo", SMALLER_STEPS),
    ):
        python = sys.executable
        if change is not None:
            doctor = folder / f"{name} python"
            doctor.write_text(DOCTOR.format(python=python, change=change))
            doctor.chmod(0o755)
            python = str(doctor)
        out = ["--threads=1", f"--reference_python={python}", f"--out={folder / name}.json"]
        own = GRPO if workload == "grpo" else []
        command = [sys.executable, str(TOOLS / "bench.py"), workload, *options, *own, *out]
        processes[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finished = {}
    for name, process in processes.items():
        try:
            stdout, stderr = process.communicate(timeout=1200)
        finally:
            process.kill()  # does nothing to one that has ended
        path = folder / f"{name}.json"
        report = json.loads(path.read_text()) if path.is_file() else {}
        finished[name] = Finished(process.returncode, stdout, stderr, report)
    return finished


@pytest.mark.parametrize(
    ("workload", "units"),
    [("sft", ["tokens"]), ("dpo", ["pairs", "tokens"]), ("grpo", ["completions", "tokens"])],
)
def test_both_sides_do_the_same_work_and_the_file_says_so(runs, workload, units):
    status, stdout, stderr, report = runs[workload]
    assert status == 0, stderr
    (check,) = report["checks"]
    assert check.get("loss_relative_difference", 0) < 1e-5
    assert check["adapter_difference_over_update"] < 1e-3
    for side in ("lemma", "reference"):
        (record,) = report["records"][side]
        assert len(record["seconds"]) == len(record["losses"]) == 4
        assert list(record["rates"]) == units
        assert all(len(rates) == 3 for rates in record["rates"].values())  # the warm-up is not measured
        assert record["rates"]["tokens"][0] == pytest.approx(record["tokens"][1] / record["seconds"][1])
        assert record["threads"] == 1
        assert record["memory_before_training"] <= record["peak_memory"] < 20e9
        assert {"python", "torch", "transformers", "peft"} < set(record["versions"])
    assert report["records"]["lemma"][0]["tokens"] == report["records"]["reference"][0]["tokens"]
    ratio = report["summary"]["speed_ratio"]
    assert ratio["low"] == ratio["value"] == ratio["high"] > 0
    assert report["machine"]["cpu"]
    assert report["options"]["precision"] == "32-true"
    assert 1e8 < report["matmul_flops"] < 1e14
    assert "error" not in report
    assert "TRL, repeat 1 of 1" in stdout
    assert f" {units[0]}/s, " in stdout


def test_the_speed_of_preference_optimisation_is_in_pairs(runs):
    report = runs["dpo"].report
    for side in ("lemma", "reference"):
        (record,) = report["records"][side]
        seconds = record["seconds"][1:]  # after the warm-up, two pairs a step
        assert record["rates"]["pairs"] == pytest.approx([2 / time for time in seconds])
    rates = {side: report["summary"][side]["pairs_per_second"] for side in ("lemma", "reference")}
    assert report["summary"]["speed_ratio"]["value"] == pytest.approx(rates["lemma"] / rates["reference"])


def test_the_reference_of_both_sides_is_the_adapter_that_is_continued(runs):
    report = runs["dpo"].report
    for side in ("lemma", "reference"):
        losses = report["records"][side][0]["losses"]
        assert losses[0] == pytest.approx(math.log(2), rel=1e-6)  # the base as the reference would give another
        assert max(abs(loss - math.log(2)) for loss in losses[1:]) > 1e-5


def test_a_pair_the_wrong_way_round_ends_the_run_with_its_step_and_without_ratios(runs):
    status, stdout, stderr, report = runs["swapped pair"]
    assert status == 1
    message = "the sides did different work: step 3: 1 of Lemma's 2 examples"
    assert f"bench: error: {message}" in stderr
    assert report["error"].startswith(message)
    assert len(report["records"]["reference"]) == 1
    assert "summary" not in report
    assert "ratio" not in stdout


def test_both_sides_draw_and_train_as_many_tokens_for_each_prompt(runs):
    report = runs["grpo"].report
    for side in ("lemma", "reference"):
        (record,) = report["records"][side]
        assert record["completion_tokens"] == [4 * 6] * 4, "4 completions a step, none ended before 6 tokens"
        seconds = record["seconds"][1:]
        assert record["rates"]["completions"] == pytest.approx([4 / time for time in seconds])


def test_a_side_that_learns_less_from_the_same_completions_ends_the_run(runs):
    status, _, stderr, report = runs["smaller steps"]
    assert status == 1
    assert "bench: error: the sides did different work: after the last step the adapters are" in stderr
    assert "summary" not in report


def record(**changes) -> dict:
    same = {
        "tokens": [9, 8],
        "completion_tokens": [4, 5],
        "examples": [["a", "b"], ["c"]],
        "prompts": [["p", "p"], ["q"]],
        "losses": [2.0, 1.0],
    }
    return same | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": [9, 7]}, "step 2: 8 tokens with Lemma, 7 with the reference"),
        ({"completion_tokens": [3, 5]}, "step 1: 4 completion tokens with Lemma, 3"),
        ({"examples": [["a", "b"], ["d"]]}, "step 2: 1 of Lemma's 1 examples"),
        ({"losses": [2.0, 1.0003]}, "step 2: loss 1.000000 with Lemma, 1.000300"),
        ({"losses": [float("nan"), 1.0]}, "step 1: loss"),
        ({"losses": [2.0]}, "Lemma ran 2 steps, the reference 1"),
    ],
)
def test_a_step_that_differs_is_named(changes, message):
    from benchmark.work import check_steps

    assert check_steps(record(), record(), precision="32-true") == 0
    with pytest.raises(InputError, match=message):
        check_steps(record(), record(**changes), precision="32-true")


def test_completions_may_differ_but_not_their_prompts_and_tokens():
    from benchmark.work import check_counts

    others = record(examples=[["d", "e"], ["f"]], losses=[7.0, 8.0])
    check_counts(others, record(), same="prompts")
    with pytest.raises(InputError, match="step 1: 1 of Lemma's 2 prompts"):
        check_counts(record(prompts=[["p", "q"], ["q"]]), record(), same="prompts")
    with pytest.raises(InputError, match="step 2: 4 completion tokens with Lemma, 5"):
        check_counts(record(completion_tokens=[4, 4]), record(), same="prompts")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"examples": [["a", "a"], ["b", "c"]]}, "step 1: Lemma drew 1 different completions with 4 tokens"),
        ({"examples": [["a", "b"], ["c"]]}, "step 2: Lemma drew 1 different completions with 4 tokens"),
        (
            {"completion_tokens": [4, 3]},
            "step 2: Lemma drew 2 different completions with 3 tokens, instead of 2 with 4",
        ),
    ],
)
def test_a_side_that_draws_too_little_is_named(changes, message):
    from benchmark.work import expect_completions

    drawn = {"examples": [["a", "b"], ["c", "d"]], "completion_tokens": [4, 4]}
    expect_completions("Lemma", drawn, number=2, length=2)
    with pytest.raises(InputError, match=message):
        expect_completions("Lemma", drawn | changes, number=2, length=2)


def test_losses_within_the_tolerance_pass_and_the_largest_difference_is_told():
    from benchmark.work import check_steps

    near = record(losses=[2.0001, 1.00002])  # 5e-5 and 2e-5 apart, of 1e-4 allowed
    assert check_steps(near, record(), precision="32-true") == pytest.approx(5e-5, rel=1e-3)


def test_adapters_may_differ_by_a_small_part_of_what_training_changed(tmp_path):
    from benchmark.work import check_adapters
    from safetensors.torch import save_file

    for name, value in (("start", 1.0), ("one", 2.0), ("near", 2.01), ("far", 2.5)):
        (tmp_path / name).mkdir()
        save_file({"w": torch.full((4,), value)}, tmp_path / name / "adapter_model.safetensors")
    start, one, near, far = (tmp_path / name for name in ("start", "one", "near", "far"))
    found = check_adapters(start, near, one, precision="32-true")  # 0.01 apart, where training changed 1
    assert found["max_abs_difference"] == pytest.approx(0.01, rel=1e-4)
    assert found["difference_over_update"] == pytest.approx(0.01, rel=1e-4)
    with pytest.raises(InputError, match=r"50\.0% of the update"):
        check_adapters(start, far, one, precision="32-true")


def rates(*tokens: float, memory: int) -> dict:
    return {"rates": {"pairs": [rate / 8 for rate in tokens], "tokens": list(tokens)}, "peak_memory": memory}


def test_medians_are_over_all_steps_and_extremes_over_repeats():
    from benchmark.report import summarise, table

    lemma = [rates(10.0, 30.0, memory=5), rates(40.0, 60.0, memory=7)]
    other = [rates(10.0, 10.0, memory=10), rates(20.0, 20.0, memory=10)]
    # steps 10 30 40 60 -> 35 against 10 10 20 20 -> 15; repeats 20 / 10 and 50 / 20; memory 6 / 10, 5 / 10, 7 / 10
    summary = summarise(lemma, other, flops_per_token=4.0, matmul=700.0)
    assert summary["lemma"] == {
        "pairs_per_second": 4.375,
        "tokens_per_second": 35.0,
        "peak_memory": 6.0,
        "model_flops_utilisation": pytest.approx(0.2),
    }
    assert summary["speed_ratio"] == {"value": 35 / 15, "low": 2.0, "high": 2.5}
    assert summary["memory_ratio"] == {"value": 0.6, "low": 0.5, "high": 0.7}
    header, _, mine, *_ = table(summary, {"lemma": "Lemma", "reference": "TRL"}, ["pairs", "tokens"]).splitlines()
    assert header.split()[:2] == ["pairs/s", "tokens/s"]
    assert mine.split()[:3] == ["Lemma", "4.38", "35"]


def common(num_sequences: int, num_completions: list[int]) -> dict:
    """What the batches below have besides their tokens: completions of 2 tokens, the last of 1."""
    mask = torch.ones(num_sequences, 2, dtype=torch.bool)
    mask[-1, 1] = False
    labels = [("s", "")] * len(num_completions)
    weights = {"weights": torch.ones(num_sequences), "window_weight": torch.tensor(float(mask.sum()))}
    return {"mask": mask, "num_tokens": 6, "num_completions": num_completions, "labels": labels} | weights


def test_a_prompt_counts_with_each_of_its_completions():
    from benchmark.meter import Meter

    meter = Meter("cpu")
    meter.start()
    meter.end_step(torch.tensor(0.5), [[([1, 2], [3]), ([1, 2], [4, 5])], [([1], [2]), ([1], [3])]])
    found = meter.record(iter, ())
    assert (found["tokens"], found["completion_tokens"], found["losses"]) == ([11], [5], [0.5])
    assert len(found["examples"][0]) == 2


def test_sequences_are_found_again_in_a_padded_and_in_a_packed_batch():
    from benchmark.lemma_side import examples, sequences

    padded = Batch(
        input_ids=torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0]]),  # prompts 1 and 4
        attention_mask=torch.tensor([[True, True, True, False], [True, True, False, False]]),
        position_ids=None,
        completion_index=torch.tensor([1, 2, 5]),
        **common(2, [1, 1]),
    )
    packed = Batch(
        input_ids=torch.tensor([[4, 5, 1, 2, 3, 0, 0]]),
        attention_mask=None,
        position_ids=torch.tensor([[0, 1, 0, 1, 2, 0, 0]]),
        completion_index=torch.tensor([3, 4, 1]),
        **common(2, [1, 1]),
    )
    assert list(sequences(padded)) == list(sequences(packed)) == [([1], [2, 3]), ([4], [5])]
    assert list(examples(packed)) == [[([1], [2, 3])], [([4], [5])]]


def test_pairs_are_found_again_whether_the_prompt_stands_once_or_twice():
    from benchmark.lemma_side import examples

    expected = [[([1, 2], [3, 4]), ([1, 2], [5, 6])], [([7], [8, 9]), ([7], [3])]]
    shared = Batch(
        input_ids=torch.tensor([[7, 8, 9, 3, 0, 0], [1, 2, 3, 4, 5, 6]]),
        attention_mask=None,
        position_ids=torch.tensor([[0, 1, 2, 1, 0, 1], [0, 1, 2, 3, 2, 3]]),
        completion_index=torch.tensor([8, 9, 10, 11, 1, 2, 3]),
        previous_index=torch.tensor([7, 8, 7, 10, 0, 1, 0]),
        groups=torch.tensor([[1, 1, 1, 1, -1, -1], [0, 0, 0, 0, 0, 0]]),
        branches=torch.tensor([[0, 1, 1, 2, 0, 0], [0, 0, 1, 1, 2, 2]]),
        **common(4, [2, 2]),
    )
    padded = Batch(
        input_ids=torch.tensor([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0], [7, 3, 0, 0]]),
        attention_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]).bool(),
        position_ids=None,
        completion_index=torch.tensor([2, 3, 6, 7, 9, 10, 13]),
        **common(4, [2, 2]),
    )
    assert list(examples(shared)) == list(examples(padded)) == expected


def test_worked_examples_make_every_prompt_as_long_as_asked():
    from benchmark.grpo import lengthened

    problems = list(arithmetic.generate("train", num_problems=12, seed=0))
    encoder = ChatEncoder(load_tokenizer(TokenizerArgs("tiny")), PromptArgs())
    rows = list(lengthened(problems, encoder, 300))
    for row, problem in zip(rows, problems, strict=True):
        assert row["question"].endswith(problem.problem)
        assert row["answer"].endswith(f"#### {problem.answer}")
        assert abs(len(encoder.encode_prompt(row["question"])) - 300) <= 4
    assert problems[1].problem in rows[0]["question"]


def test_a_model_whose_stop_token_has_no_row_in_the_head_cannot_end_a_completion(tmp_path):
    from benchmark.base import NEVER, BaseArgs, make_base

    texts = [([{"role": "user", "content": "1 + 1 ="}], "2")]
    make_base(BaseArgs(layers=1, hidden=32, vocab=512), texts, tmp_path, seed=0, endless=True)
    encoder = ChatEncoder(load_tokenizer(TokenizerArgs(str(tmp_path))), PromptArgs())
    assert encoder.stop_ids == [512] == encoder.tokenizer.convert_tokens_to_ids([NEVER])
    assert max(encoder.encode_prompt("1 + 1 =")) < 512
    assert AutoConfig.from_pretrained(tmp_path).vocab_size == 512


def test_generated_pairs_are_a_right_solution_and_one_of_the_same_problem_with_another_answer():
    from benchmark.dpo import generated_pairs

    pairs = list(generated_pairs(50, seed=3))
    assert len(pairs) == len({pair["prompt"] for pair in pairs}) == 50
    for pair in pairs:
        right, wrong = (pair[side].rpartition("boxed{")[2] for side in ("chosen", "rejected"))
        assert right != wrong
    assert pairs[:9] == list(generated_pairs(9, seed=3)) != list(generated_pairs(9, seed=4))


def test_peak_memory_is_the_process_s_own_and_not_inherited(tmp_path):
    child = "from benchmark.meter import peak_memory; print(peak_memory(False))"
    code = f"import subprocess, sys; x = b'x' * 1_000_000_000; subprocess.run([sys.executable, '-c', {child!r}])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TOOLS, capture_output=True, text=True, check=True, timeout=60
    )
    assert 50e6 < int(done.stdout) < 0.8e9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "--steps: expected at least 1, but got 0"),
        (["--hidden", "100"], "--hidden: expected a multiple of 32, but got 100"),
        (["--batch_size", "0"], "--batch_size: expected at least 1, but got 0"),
        (["--reference_python", "/no/python"], "--reference_python: expected null or an interpreter"),
        (["--rows", "nowhere.jsonl", "--reference_python", sys.executable], "nowhere.jsonl"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(monkeypatch, tmp_path, options, message):
    import bench

    monkeypatch.setattr(sys, "argv", ["bench.py", "sft", *options, f"--out={tmp_path / 'out.json'}"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code.startswith("bench: error: ")
    assert message in ended.value.code


def test_the_reference_is_pinned_to_the_versions_that_lemma_is_tested_with():
    constraints = (TOOLS / "constraints.txt").read_text().splitlines()
    pins = [line for line in (TOOLS / "benchmark/trl-requirements.txt").read_text().splitlines() if line[0] != "#"]
    assert "trl==1.16.0" in pins
    assert set(pins) <= set(constraints)
