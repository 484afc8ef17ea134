"""A sharded policy trains, measures, stops, resumes and is saved as the same policy on one device."""

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._pytree import tree_flatten

# 7 problems on 2 ranks in batches of 3: rank 0 has 3 + 1, rank 1 has 3 and an empty batch
BENCHMARKS = ("--data.benchmarks", '[{"name": "arithmetic", "split": "test", "max_rows": 7}]')
VALIDATION = (*BENCHMARKS, "--data.benchmark_batch_size", "3", "--trainer.limit_val_batches", "1.0")
HELD_OUT = ("--data.held_out", '[{"name": "arithmetic", "split": "validation", "max_rows": 5}]')


def assert_same_evaluation(one: Path, other: Path) -> None:
    ours, theirs = (json.loads((folder / "results.json").read_text()) for folder in (one, other))
    metrics, verdicts = (
        [side["benchmarks"]["arithmetic"][name] for side in (ours, theirs)] for name in ("metrics", "verdicts")
    )
    assert metrics[0] == metrics[1]
    assert verdicts[0] == verdicts[1]
    assert ours["held_out_loss"] == pytest.approx(theirs["held_out_loss"], rel=1e-6)
    lines = [(folder / "records.jsonl").read_text().splitlines() for folder in (one, other)]
    texts = [[json.loads(line)["completions"] for line in side] for side in lines]
    assert len(texts[0]) == 7
    assert texts[0] == texts[1]


@pytest.mark.parametrize("strategy", ["fsdp2", "fsdp"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_two_shards_train_measure_and_save_as_one_process(
    lemma, lemma_ranks, last_checkpoint, assert_close, tmp_path, strategy, method
):
    # 31 examples: windows of 8, the last one of 7, clipped hard, and validation in the middle of an epoch
    common = [*VALIDATION, *HELD_OUT, "--trainer.precision", "64-true", "--trainer.max_epochs", "1"]
    common += ["--trainer.accumulate_grad_batches", "2", "--trainer.gradient_clip_val", "0.05"]
    common += ["--model.policy.method", method, "--model.policy.lora.dropout", "0", "--model.policy.lora.r", "3"]
    common += ["--trainer.val_check_interval", "4", "--model.optimizer.lr", "0.002"]
    one, two = tmp_path / "one", tmp_path / "two"
    lemma("fit", *common, "--data.batch_size", "4", "--trainer.default_root_dir", str(one))
    done = lemma_ranks(
        "fit", *common, "--trainer.strategy", strategy, "--data.batch_size", "2", "--trainer.default_root_dir", str(two)
    )
    assert done.returncode == 0, done.stderr

    ours, theirs = last_checkpoint(one), last_checkpoint(two)
    for key in ("state_dict", "optimizer_states"):  # whole tensors, under the same names and numbers
        assert_close(ours[key], theirs[key], 1e-9)
    name = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    assert_close(load_file(one / "adapter" / name), load_file(two / "adapter" / name), 1e-9)
    assert_same_evaluation(one / "fit" / "step-000004", two / "fit" / "step-000004")


@pytest.mark.parametrize("strategy", ["fsdp2", "fsdp"])
def test_resume_of_two_shards_in_the_middle_of_a_window_is_bit_exact(lemma_ranks, last_checkpoint, tmp_path, strategy):
    # rank 3 on two devices: shares of two rows and of one
    flags = (
        "--trainer.strategy",
        strategy,
        "--trainer.accumulate_grad_batches",
        "3",
        "--data.batch_size",
        "1",
        "--model.policy.lora.r",
        "3",
    )
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    finished = lemma_ranks("fit", *flags, "--trainer.max_steps", "4", "--trainer.default_root_dir", str(straight))
    assert finished.returncode == 0, finished.stderr
    run = (*flags, "--trainer.max_steps", "4", "--trainer.default_root_dir", str(broken))
    kill = {"class_path": "probes.SignalAt", "init_args": {"batches": 5, "signum": int(signal.SIGTERM), "rank": 1}}
    assert lemma_ranks("fit", *run, "--trainer.callbacks", json.dumps([kill])).returncode != 0
    gradients = [rank["gradients"] for rank in last_checkpoint(broken)["lemma"]["ranks"]]
    assert {name: share.shape for name, share in gradients[0].items()} != {n: s.shape for n, s in gradients[1].items()}
    resumed = lemma_ranks("fit", *run, "--ckpt_path", str(broken / "checkpoints" / "last.ckpt"))
    assert resumed.returncode == 0, resumed.stderr
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "lemma"):
        ours, theirs = last_checkpoint(straight)[key], last_checkpoint(broken)[key]
        assert tree_flatten(ours)[1] == tree_flatten(theirs)[1]
        for a, b in zip(tree_flatten(ours)[0], tree_flatten(theirs)[0], strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, key


@pytest.mark.parametrize("strategy", ["fsdp2", "fsdp"])
def test_validate_measures_a_quantised_policy_on_two_devices_as_on_one(lemma, lemma_ranks, tmp_path, strategy):
    flags = (*VALIDATION, *HELD_OUT, "--model.policy.quantization.method", "nf4")
    lemma("validate", *flags, "--trainer.default_root_dir", str(tmp_path / "one"))
    done = lemma_ranks(
        "validate", *flags, "--trainer.strategy", strategy, "--trainer.default_root_dir", str(tmp_path / "two")
    )
    assert done.returncode == 0, done.stderr
    assert_same_evaluation(tmp_path / "one" / "validate", tmp_path / "two" / "validate")
