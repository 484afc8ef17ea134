"""Under DeepSpeed a policy trains, stops, resumes and is saved as on one device."""

import json
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._pytree import tree_flatten

pytest.importorskip("deepspeed")

DEVICES = ("--trainer.devices", "2", "--trainer.strategy")
STRATEGIES = pytest.mark.parametrize("strategy", ["deepspeed_stage_2", "deepspeed_stage_3"])
# 7 problems on 2 ranks in batches of 3: rank 0 has 3 + 1, rank 1 has 3 and an empty batch
BENCHMARKS = ("--data.benchmarks", '[{"name": "arithmetic", "split": "test", "max_rows": 7}]')
VALIDATION = (*BENCHMARKS, "--data.benchmark_batch_size", "3", "--trainer.limit_val_batches", "1.0")
HELD_OUT = ("--data.held_out", '[{"name": "arithmetic", "split": "validation", "max_rows": 5}]')
# Adam's epsilon keeps updates in proportion to gradients, so that one of the wrong size shows
GRADUAL = ("--model.optimizer.eps", "1.0", "--model.optimizer.lr", "1.0", "--model.policy.lora.dropout", "0")


def assert_same_evaluation(one, other):
    ours, theirs = (json.loads((folder / "results.json").read_text()) for folder in (one, other))
    for name in ("metrics", "verdicts"):
        assert ours["benchmarks"]["arithmetic"][name] == theirs["benchmarks"]["arithmetic"][name]
    assert ours["held_out_loss"] == pytest.approx(theirs["held_out_loss"], rel=1e-5)


@STRATEGIES
@pytest.mark.parametrize("method", ["lora", "full", "nf4"])
def test_two_ranks_train_measure_and_save_as_one_process(
    lemma, lemma_process, last_checkpoint, assert_close, tmp_path, method, strategy
):
    # 31 examples: windows of 8, the last one of 7, clipped hard, and validation in the middle of an epoch
    common = [*VALIDATION, *HELD_OUT, "--trainer.max_epochs", "1", "--trainer.accumulate_grad_batches", "2", *GRADUAL]
    common += ["--trainer.gradient_clip_val", "0.05", "--trainer.val_check_interval", "4", "--model.policy.lora.r", "3"]
    if method == "nf4":
        common += ["--model.policy.quantization.method", "nf4"]
    else:
        common += ["--model.policy.method", method]
    one, two = tmp_path / "one", tmp_path / "two"
    lemma("fit", *common, "--data.batch_size", "4", "--trainer.default_root_dir", str(one))
    common += [*DEVICES, strategy]
    done = lemma_process("fit", *common, "--data.batch_size", "2", "--trainer.default_root_dir", str(two))
    assert done.returncode == 0, done.stderr

    ours, theirs = last_checkpoint(one), last_checkpoint(two)
    assert ours["global_step"] == theirs["global_step"] == 4
    for key in ("state_dict", "optimizer_states"):  # whole tensors, under the same names and numbers
        assert_close(ours[key], theirs[key], 1e-6)
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    assert_close(load_file(one / "adapter" / name), load_file(two / "adapter" / name), 1e-6)
    assert_same_evaluation(one / "fit" / "step-000004", two / "fit" / "step-000004")


@STRATEGIES
def test_a_run_goes_on_under_other_strategies(lemma_process, last_checkpoint, assert_close, tmp_path, strategy):
    flags = (*GRADUAL, "--model.optimizer.schedule", "constant", "--trainer.devices", "2", "--model.policy.lora.r", "3")
    straight, moved = tmp_path / "straight", tmp_path / "moved"
    for run, strategies in ((straight, ["ddp"]), (moved, ["ddp", strategy, "fsdp2"])):
        for number, name in enumerate(strategies):
            steps = 4 - len(strategies) + 1 + number  # one run of 4; or of 2, to 3 and to 4
            more = ["--trainer.strategy", name, "--trainer.default_root_dir", str(run)]
            more += ["--ckpt_path", str(run / "checkpoints" / "last.ckpt")] if number else []
            done = lemma_process("fit", *flags, *more, "--trainer.max_steps", str(steps))
            assert done.returncode == 0, done.stderr
    ours, theirs = last_checkpoint(straight), last_checkpoint(moved)
    assert ours["global_step"] == theirs["global_step"] == 4
    assert_close(ours["state_dict"], theirs["state_dict"], 1e-6)


def test_validate_measures_a_partitioned_policy_as_on_one_device(lemma, lemma_process, tmp_path):
    flags = (*VALIDATION, *HELD_OUT, "--model.policy.quantization.method", "int8")
    lemma("validate", *flags, "--trainer.default_root_dir", str(tmp_path / "one"))
    run = ("--trainer.default_root_dir", str(tmp_path / "two"))
    done = lemma_process("validate", *flags, *DEVICES, "deepspeed_stage_3", *run)
    assert done.returncode == 0, done.stderr
    assert_same_evaluation(tmp_path / "one" / "validate", tmp_path / "two" / "validate")


@STRATEGIES
def test_resume_in_the_middle_of_a_window_is_bit_exact(lemma_process, last_checkpoint, tmp_path, strategy):
    flags = (
        *DEVICES,
        strategy,
        "--trainer.accumulate_grad_batches",
        "3",
        "--data.batch_size",
        "1",
        "--model.policy.lora.r",
        "3",
    )
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    finished = lemma_process("fit", *flags, "--trainer.max_steps", "4", "--trainer.default_root_dir", str(straight))
    assert finished.returncode == 0, finished.stderr
    run = (*flags, "--trainer.max_steps", "4", "--trainer.default_root_dir", str(broken))
    kill = {"class_path": "probes.SignalAt", "init_args": {"batches": 5, "signum": int(signal.SIGTERM), "rank": 1}}
    assert lemma_process("fit", *run, "--trainer.callbacks", json.dumps([kill])).returncode != 0
    assert last_checkpoint(broken)["lemma"]["ranks"][0]["gradients"], "killed in the middle of a window"
    last = str(broken / "checkpoints" / "last.ckpt")
    elsewhere = lemma_process("fit", *run, "--trainer.strategy", "ddp", "--ckpt_path", last)
    assert "under another strategy" in elsewhere.stderr
    resumed = lemma_process("fit", *run, "--ckpt_path", last)
    assert resumed.returncode == 0, resumed.stderr
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "lemma"):
        ours, theirs = last_checkpoint(straight)[key], last_checkpoint(broken)[key]
        assert tree_flatten(ours)[1] == tree_flatten(theirs)[1]
        for a, b in zip(tree_flatten(ours)[0], tree_flatten(theirs)[0], strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, key
