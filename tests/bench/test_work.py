"""What counts as the same work, and how a difference is told."""

import pytest
import torch
from benchmark.work import check_adapters, check_counts, check_greedy, check_steps, expect_completions
from safetensors.torch import save_file

from lemma.types import InputError


def record(**changes) -> dict:
    same = {
        "tokens": [9, 8],
        "completion_tokens": [4, 5],
        "examples": [["a", "b"], ["c"]],
        "prompts": [["p", "p"], ["q"]],
        "losses": [2.0, 1.0],
        "seconds": [0.1, 0.1],
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
        ({"seconds": [0.1]}, "Lemma ran 2 steps, the reference 1"),
    ],
)
def test_a_step_that_differs_is_named(changes, message):
    assert check_steps(record(), record(), precision="32-true") == 0
    with pytest.raises(InputError, match=message):
        check_steps(record(), record(**changes), precision="32-true")


def test_completions_may_differ_but_not_their_prompts_and_tokens():
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
    drawn = {"examples": [["a", "b"], ["c", "d"]], "completion_tokens": [4, 4]}
    expect_completions("Lemma", drawn, number=2, length=2)
    with pytest.raises(InputError, match=message):
        expect_completions("Lemma", drawn | changes, number=2, length=2)


def test_losses_within_the_tolerance_pass_and_the_largest_difference_is_told():
    near = record(losses=[2.0001, 1.00002])  # 5e-5 and 2e-5 apart, of 1e-4 allowed
    assert check_steps(near, record(), precision="32-true") == pytest.approx(5e-5, rel=1e-3)


def test_adapters_may_differ_by_a_small_part_of_what_training_changed(tmp_path):
    for name, value in (("start", 1.0), ("one", 2.0), ("near", 2.01), ("far", 2.5)):
        (tmp_path / name).mkdir()
        save_file({"w": torch.full((4,), value)}, tmp_path / name / "adapter_model.safetensors")
    start, one, near, far = (tmp_path / name for name in ("start", "one", "near", "far"))
    found = check_adapters(start, near, one, precision="32-true")  # 0.01 apart, where training changed 1
    assert found["max_abs_difference"] == pytest.approx(0.01, rel=1e-4)
    assert found["difference_over_update"] == pytest.approx(0.01, rel=1e-4)
    with pytest.raises(InputError, match=r"50\.0% of the update"):
        check_adapters(start, far, one, precision="32-true")


@pytest.mark.parametrize(
    ("greedy", "message"),
    [
        ([[1, 2], [3, 5]], "greedy token 2 of prompt 2 is 5 with Lemma, 4 with the reference"),
        ([[1, 2], [3]], "Lemma decoded 2 greedy completions with 3 tokens, instead of 2 with 4"),
        ([[1, 2]], "Lemma decoded 1 greedy completions with 2 tokens, instead of 2 with 4"),
    ],
)
def test_a_greedy_token_that_differs_or_lacks_is_named(greedy, message):
    whole = {"greedy": [[1, 2], [3, 4]]}
    assert check_greedy(whole, whole, number=2, length=2) == 4
    with pytest.raises(InputError, match=message):
        check_greedy({"greedy": greedy}, whole, number=2, length=2)
