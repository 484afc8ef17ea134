"""A benchmark that trains compares equal work only: one run of each, and two whose reference is told something else."""

import json
import math
from pathlib import Path

import pytest

TINY = {"layers": 1, "hidden": 32, "vocab": 512, "lora_r": 4, "batch_size": 2, "steps": 2, "warmup": 1, "repeats": 1}
GRPO = {"batch_size": 4, "group_size": 2, "new_tokens": 6}


def options(**own) -> list[str]:
    return [f"--{name}={value}" for name, value in (TINY | own).items()]


@pytest.fixture(scope="module")
def runs(bench) -> dict:
    """Return a run of each workload."""
    return {
        "sft": bench("sft", *options(profile=True)),
        "dpo": bench("dpo", *options()),
        "grpo": bench("grpo", *options(**GRPO)),
    }


@pytest.mark.parametrize(
    ("workload", "units"),
    [("sft", ["tokens"]), ("dpo", ["pairs", "tokens"]), ("grpo", ["completions", "tokens"])],
)
def test_both_sides_do_the_same_work_and_the_file_says_so(runs, workload, units):
    error, stdout, report, image = runs[workload]
    assert error is None
    (check,) = report["checks"]
    assert check.get("loss_relative_difference", 0) < 1e-5
    assert check["adapter_difference_over_update"] < 1e-3
    for side in ("lemma", "reference"):
        (record,) = report["records"][side]
        assert len(record["seconds"]) == len(record["losses"]) == 3
        assert list(record["rates"]) == units
        assert all(len(rates) == 2 for rates in record["rates"].values())  # the warm-up is not measured
        assert record["rates"]["tokens"][0] == pytest.approx(record["tokens"][1] / record["seconds"][1])
        assert record["memory_before_training"] <= record["peak_memory"] < 20e9
        assert {"python", "torch", "transformers", "peft"} < set(record["versions"])
    assert report["records"]["lemma"][0]["tokens"] == report["records"]["reference"][0]["tokens"]
    ratio = report["summary"]["ratio"][f"{units[0]}_per_second"]
    assert ratio["low"] == ratio["value"] == ratio["high"] > 0
    assert report["machine"]["cpu"]
    assert report["options"]["precision"] == "32-true"
    assert 1e8 < report["matmul_flops"] < 1e14
    assert "error" not in report
    assert "TRL, repeat 1 of 1" in stdout
    assert f" {units[0]}/s, " in stdout
    assert image.read_bytes().startswith(b"\x89PNG")


def test_a_profile_says_which_operations_took_the_time(runs):
    _, stdout, report, _ = runs["sft"]
    shares = [row["share"] for row in report["profile"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert {"aten::mm", "FusedLoraBackward"} <= {row["operation"] for row in report["profile"]}
    assert report["profile"][0]["operation"] in stdout
    assert "profile" not in runs["dpo"].report


def test_the_speed_of_preference_optimisation_is_in_pairs(runs):
    report = runs["dpo"].report
    for side in ("lemma", "reference"):
        (record,) = report["records"][side]
        seconds = record["seconds"][1:]  # after the warm-up, two pairs a step
        assert record["rates"]["pairs"] == pytest.approx([2 / time for time in seconds])
    rates = {side: report["summary"][side]["pairs_per_second"] for side in ("lemma", "reference")}
    ratio = report["summary"]["ratio"]["pairs_per_second"]["value"]
    assert ratio == pytest.approx(rates["lemma"] / rates["reference"])


def test_the_reference_of_both_sides_is_the_adapter_that_is_continued(runs):
    report = runs["dpo"].report
    for side in ("lemma", "reference"):
        losses = report["records"][side][0]["losses"]
        assert losses[0] == pytest.approx(math.log(2), rel=1e-6)  # the base as the reference would give another
        assert max(abs(loss - math.log(2)) for loss in losses[1:]) > 1e-5


def test_a_pair_the_wrong_way_round_ends_the_run_with_its_step_and_without_ratios(bench):
    def swap(path: Path) -> None:
        rows = Path(json.loads(path.read_text())["rows"])
        lines = rows.read_text().splitlines()
        row = json.loads(lines[5])  # of two rows a step: the second row of step 3
        row["chosen_ids"], row["rejected_ids"] = row["rejected_ids"], row["chosen_ids"]
        rows.write_text("\n".join([*lines[:5], json.dumps(row)]))

    error, stdout, report, _ = bench("dpo", *options(), doctor=swap)
    message = "the sides did different work: step 3: 1 of Lemma's 2 examples"
    assert error.startswith(f"bench: error: {message}")
    assert report["error"].startswith(message)
    assert len(report["records"]["reference"]) == 1
    assert "summary" not in report
    assert "ratio" not in stdout


def test_both_sides_draw_and_train_as_many_tokens_for_each_prompt(runs):
    report = runs["grpo"].report
    for side in ("lemma", "reference"):
        (record,) = report["records"][side]
        assert record["completion_tokens"] == [4 * 6] * 3, "4 completions a step, none ended before 6 tokens"
        seconds = record["seconds"][1:]
        assert record["rates"]["completions"] == pytest.approx([4 / time for time in seconds])


def test_a_side_that_learns_less_from_the_same_completions_ends_the_run(bench, doctored):
    slower = doctored(lambda job: job.update(learning_rate=0.9 * job["learning_rate"]))
    error, _, report, _ = bench("grpo", *options(**GRPO), doctor=slower)
    assert error.startswith("bench: error: the sides did different work: after the last step the adapters are")
    assert "summary" not in report


def test_sequences_are_as_long_as_asked(bench):
    error, _, report, _ = bench("sft", *options(length=300, against="none"))
    assert error is None
    (record,) = report["records"]["lemma"]
    assert all(abs(tokens - 2 * 300) <= 2 * 6 for tokens in record["tokens"])
