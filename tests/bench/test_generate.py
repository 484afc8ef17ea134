"""Generation is compared where both sides draw as much for the same prompts, and the same when nothing is drawn."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

OPTIONS = [
    *("--layers=1", "--hidden=32", "--vocab=512", "--lora_r=4", "--steps=2", "--warmup=1", "--repeats=1"),
    *("--prompts=2", "--group_size=3", "--prompt_tokens=60", "--new_tokens=6"),
]


@pytest.fixture(scope="module")
def finished(bench):
    return bench("generate", *OPTIONS)


def test_both_sides_draw_as_much_for_the_same_prompts_and_decode_alike(finished):
    error, stdout, report, image = finished
    assert error is None
    assert report["checks"] == [{"equal_greedy_tokens": 2 * 6}]
    for side in ("lemma", "reference"):
        (record,) = report["records"][side]
        assert record["num_examples"] == [2 * 3] * 3
        assert record["completion_tokens"] == [2 * 3 * 6] * 3
        assert all(abs(tokens - 6 * (60 + 6)) <= 6 * 4 for tokens in record["tokens"])
        assert record["rates"]["completions"] == pytest.approx([6 / time for time in record["seconds"][1:]])
    assert report["flops_per_token"] == 2 * report["facts"]["parameters_without_input_embedding"]
    assert "Transformers, repeat 1 of 1" in stdout
    assert image.is_file()


def fewer_tokens(job: dict) -> None:
    job["new_tokens"] = 5


def without_adapter(job: dict) -> None:
    weights = Path(job["adapter"], "adapter_model.safetensors")
    save_file({name: torch.zeros_like(weight) for name, weight in load_file(weights).items()}, weights)


def other_prompts(job: dict) -> None:
    job["prompts"][1][0] = job["prompts"][1][0][1:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (fewer_tokens, "step 1: the reference drew 6 different completions with 30 tokens, instead of 6 with 36"),
        (without_adapter, "greedy token "),
        (other_prompts, "step 2: "),
    ],
)
def test_a_side_that_does_other_work_ends_the_run(bench, doctored, change, message):
    error, _, report, _ = bench("generate", *OPTIONS, doctor=doctored(change))
    assert error.startswith(f"bench: error: the sides did different work: {message}")
    assert "summary" not in report
