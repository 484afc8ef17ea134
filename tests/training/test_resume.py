"""A run that was killed and resumed is bit for bit the run that was not."""

import json
import signal
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_flatten


def assert_same_training_state(one: dict, other: dict) -> None:
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "lemma"):
        ours, spec = tree_flatten(one[key])
        theirs, other_spec = tree_flatten(other[key])
        assert spec == other_spec
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, key


def kill_at(batches: int, signum: int, rank: int = 0) -> str:
    init_args = {"batches": batches, "signum": int(signum), "rank": rank}
    return json.dumps([{"class_path": "probes.SignalAt", "init_args": init_args}])


@pytest.fixture(autouse=True)
def _importable_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


# 31 examples an epoch and windows of 2 x 3: an epoch is 5 windows of 3 micro-batches and a short one of 1.
ACCUMULATE = ("--trainer.accumulate_grad_batches", "3")


@pytest.mark.parametrize(
    ("batches", "where", "signum"),
    [
        (4, "mid-window", signal.SIGTERM),
        (6, "mid-epoch", signal.SIGTERM),
        (16, "end of an epoch", signal.SIGTERM),
        (21, "second epoch, mid-window", signal.SIGINT),
    ],
)
def test_resume_after_sigterm_or_ctrl_c_is_bit_exact(lemma, last_checkpoint, tmp_path, batches, where, signum):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    lemma("fit", *ACCUMULATE, "--trainer.default_root_dir", str(straight))
    run = (*ACCUMULATE, "--trainer.default_root_dir", str(broken))
    with pytest.raises(SystemExit) as exit_info:
        lemma("fit", *run, "--trainer.callbacks", kill_at(batches, signum))
    assert exit_info.value.code == 128 + signum
    lemma("fit", *run, "--ckpt_path", str(broken / "checkpoints" / "last.ckpt"))
    assert_same_training_state(last_checkpoint(straight), last_checkpoint(broken))


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit"])
def test_resume_is_bit_exact_with_eight_bits_of_optimiser_state(lemma, last_checkpoint, tmp_path, name):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    flags = (*ACCUMULATE, "--model.optimizer.name", name, "--model.policy.lora.r", "32", "--trainer.max_steps", "4")
    lemma("fit", *flags, "--trainer.default_root_dir", str(straight))
    run = (*flags, "--trainer.default_root_dir", str(broken))
    with pytest.raises(SystemExit):
        lemma("fit", *run, "--trainer.callbacks", kill_at(7, signal.SIGTERM))
    lemma("fit", *run, "--ckpt_path", str(broken / "checkpoints" / "last.ckpt"))
    assert_same_training_state(last_checkpoint(straight), last_checkpoint(broken))
    states = last_checkpoint(straight)["optimizer_states"][0]["state"].values()
    tensors, _ = tree_flatten(list(states))
    assert any(isinstance(one, torch.Tensor) and one.dtype == torch.uint8 for one in tensors), "nothing was in 8 bits"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model.optimizer.name", "adamw_8bit"), "model.optimizer.name = adamw, this run has adamw_8bit"),
        (("--model.loss_type", "dft"), "model.loss_type = nll, this run has dft"),
        (("--model.policy.quantization.method", "nf4"), "model.policy.quantization.method = none, this run has nf4"),
    ],
)
def test_resume_as_another_run_is_refused(lemma, tmp_path, flags, message):
    run = ("--trainer.default_root_dir", str(tmp_path))
    lemma("fit", *run, "--trainer.max_steps", "1")
    with pytest.raises(SystemExit, match=f"ckpt_path: the checkpoint was written with {message}"):
        lemma("fit", *run, *flags, "--ckpt_path", str(tmp_path / "checkpoints" / "last.ckpt"))


def test_resume_after_kill_9_is_bit_exact(lemma, lemma_process, last_checkpoint, tmp_path):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    lemma("fit", *ACCUMULATE, "--trainer.default_root_dir", str(straight))
    run = (*ACCUMULATE, "--trainer.default_root_dir", str(broken))
    killed = lemma_process("fit", *run, "--trainer.callbacks", kill_at(8, signal.SIGKILL))
    assert killed.returncode == -signal.SIGKILL
    lemma("fit", *run, "--ckpt_path", str(broken / "checkpoints" / "last.ckpt"))
    assert_same_training_state(last_checkpoint(straight), last_checkpoint(broken))


def test_resume_on_two_ranks_is_bit_exact_after_sigterm_of_either(
    lemma_process, lemma_ranks, last_checkpoint, tmp_path
):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    ddp = (*ACCUMULATE, "--trainer.strategy", "ddp", "--data.batch_size", "1")
    finished = lemma_ranks("fit", *ddp, "--trainer.default_root_dir", str(straight))
    assert finished.returncode == 0, finished.stderr
    run = (*ddp, "--trainer.default_root_dir", str(broken))
    kill = ("--trainer.devices", "2", "--trainer.callbacks", kill_at(5, signal.SIGTERM, rank=1))
    killed = lemma_process("fit", *run, *kill)
    assert killed.returncode != 0
    assert len(last_checkpoint(broken)["lemma"]["ranks"]) == 2
    assert last_checkpoint(broken)["lemma"]["ranks"][1]["gradients"], "killed in the middle of a window"
    resumed = lemma_ranks("fit", *run, "--ckpt_path", str(broken / "checkpoints" / "last.ckpt"))
    assert resumed.returncode == 0, resumed.stderr
    assert_same_training_state(last_checkpoint(straight), last_checkpoint(broken))


def test_resume_to_more_steps_continues_where_the_run_ended(lemma, last_checkpoint, tmp_path):
    constant = ("--model.optimizer.schedule", "constant", *ACCUMULATE)
    straight, longer = tmp_path / "straight", tmp_path / "longer"
    lemma("fit", *constant, "--trainer.max_steps", "9", "--trainer.default_root_dir", str(straight))
    run = (*constant, "--trainer.default_root_dir", str(longer))
    lemma("fit", *run, "--trainer.max_steps", "4")
    lemma("fit", *run, "--trainer.max_steps", "9", "--ckpt_path", str(longer / "checkpoints" / "last.ckpt"))
    assert_same_training_state(last_checkpoint(straight), last_checkpoint(longer))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--data.batch_size", "3"), "num_micro_batches = 16, this run has 11"),
        (("--data.prompt.template", "bare"), "the checkpoint was trained with the prompt"),
        (("--model.policy.lora.target_modules", "[q_proj]"), "trained weights of checkpoint and policy differ"),
    ],
)
def test_resume_with_other_settings_is_refused(lemma, tmp_path, change, message):
    run = (*ACCUMULATE, "--trainer.default_root_dir", str(tmp_path / "run"))
    lemma("fit", *run, "--trainer.max_steps", "2")
    with pytest.raises(SystemExit, match=message):
        lemma("fit", *run, *change, "--ckpt_path", str(tmp_path / "run" / "checkpoints" / "last.ckpt"))
