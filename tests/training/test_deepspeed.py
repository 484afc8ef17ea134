"""Under DeepSpeed a policy trains, stops, resumes and is saved as on one device."""

import json
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._pytree import tree_flatten

pytest.importorskip("deepspeed")

STAGE_2 = ("--trainer.strategy", "deepspeed_stage_2", "--trainer.devices", "2")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_two_ranks_train_and_save_as_one_process(lemma, lemma_process, last_checkpoint, assert_close, tmp_path, method):
    # 31 examples: windows of 8, the last one of 7, clipped hard; Adam's epsilon keeps updates like gradients
    common = ["--trainer.max_epochs", "1", "--trainer.accumulate_grad_batches", "2"]
    common += ["--trainer.gradient_clip_val", "0.05", "--model.optimizer.eps", "1.0", "--model.optimizer.lr", "1.0"]
    common += ["--model.policy.method", method, "--model.policy.lora.dropout", "0", "--model.policy.lora.r", "3"]
    one, two = tmp_path / "one", tmp_path / "two"
    lemma("fit", *common, "--data.batch_size", "4", "--trainer.default_root_dir", str(one))
    done = lemma_process("fit", *common, *STAGE_2, "--data.batch_size", "2", "--trainer.default_root_dir", str(two))
    assert done.returncode == 0, done.stderr

    ours, theirs = last_checkpoint(one), last_checkpoint(two)
    assert ours["global_step"] == theirs["global_step"] == 4
    for key in ("state_dict", "optimizer_states"):  # whole tensors, under the same names and numbers
        assert_close(ours[key], theirs[key], 1e-6)
    name = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    assert_close(load_file(one / "adapter" / name), load_file(two / "adapter" / name), 1e-6)


def test_resume_in_the_middle_of_a_window_is_bit_exact(lemma_process, last_checkpoint, tmp_path):
    flags = (*STAGE_2, "--trainer.accumulate_grad_batches", "3", "--data.batch_size", "1", "--model.policy.lora.r", "3")
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
