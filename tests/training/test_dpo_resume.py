"""A run on pairs that was killed and resumed is bit for bit the run that was not, its reference included."""

import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._pytree import tree_flatten

CUT = ("--data.batch_size", "2", "--trainer.accumulate_grad_batches", "2")  # 21 pairs: 5 windows of 4, and one of 1


def assert_same_training_state(one: dict, other: dict) -> None:
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "lemma", "reference"):
        ours, spec = tree_flatten(one.get(key))
        theirs, other_spec = tree_flatten(other.get(key))
        assert spec == other_spec
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, key


def killed_at(batches: int) -> tuple[tuple[str, dict], ...]:
    return (("SignalAt", {"batches": batches, "signum": int(signal.SIGTERM)}),)


@pytest.fixture
def adapter(dpo):
    """Return the folder of an adapter that has moved away from its base."""
    return dpo("fit", "before", "--trainer.max_steps", "2") / "adapter"


@pytest.fixture
def killed_and_not(dpo, last_checkpoint, tmp_path):
    """Return a function that kills a run after some micro-batches, and gives the checkpoints of both runs' ends."""

    def run(batches: int, *flags: str, meanwhile=lambda: None):
        flags = (*CUT, *flags, "--data.cache_dir", str(tmp_path / "cache"))
        straight = dpo("fit", "straight", *flags)
        with pytest.raises(SystemExit) as exit_info:
            dpo("fit", "broken", *flags, probes=killed_at(batches))
        assert exit_info.value.code == 128 + signal.SIGTERM
        stopped = last_checkpoint(tmp_path / "broken")
        meanwhile()
        broken = dpo("fit", "broken", *flags, "--ckpt_path", str(tmp_path / "broken" / "checkpoints" / "last.ckpt"))
        return stopped, last_checkpoint(straight), last_checkpoint(broken)

    return run


MODES = {
    "fresh": (),
    "precomputed": ("--model.reference", "precomputed"),
    "full": ("--model.policy.method", "full"),
    "full precomputed": ("--model.policy.method", "full", "--model.reference", "precomputed"),
}


@pytest.mark.parametrize(("mode", "batches"), [("fresh", 3), ("fresh", 6), *((m, 3) for m in list(MODES)[1:])])
def test_resume_is_bit_exact(killed_and_not, mode, batches):
    stopped, straight, broken = killed_and_not(batches, *MODES[mode])
    assert bool(stopped["lemma"]["ranks"][0]["gradients"]) == (batches == 3), "mid-window or between windows"
    assert_same_training_state(straight, broken)
    assert "reference" not in straight


def test_resume_keeps_the_reference_of_a_continued_adapter_though_its_folder_has_changed(
    killed_and_not, adapter, tmp_path
):
    started_from = load_file(adapter / "adapter_model.safetensors")
    moved = {name: 2 * tensor for name, tensor in started_from.items()}

    continued = ("--model.policy.adapter", str(adapter))
    _, straight, broken = killed_and_not(
        3, *continued, meanwhile=lambda: save_file(moved, adapter / "adapter_model.safetensors")
    )
    assert_same_training_state(straight, broken)
    saved = {name.removeprefix("model.").replace(".reference", ""): t for name, t in broken["reference"].items()}
    assert saved.keys() == started_from.keys()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in started_from.items())


def test_without_its_cache_a_run_from_the_base_computes_the_reference_again(killed_and_not, tmp_path):
    flags = MODES["precomputed"]
    _, straight, broken = killed_and_not(3, *flags, meanwhile=lambda: shutil.rmtree(tmp_path / "cache"))
    assert_same_training_state(straight, broken)


@pytest.mark.parametrize("mode", ["full", "continued"])
def test_without_its_cache_another_run_says_that_its_reference_is_gone(dpo, request, tmp_path, mode):
    flags = (*CUT, "--data.cache_dir", str(tmp_path / "cache"), *MODES["precomputed"])
    if mode == "full":
        flags += MODES["full"]
    else:
        flags += ("--model.policy.adapter", str(request.getfixturevalue("adapter")))
    run = dpo("fit", "run", *flags, "--trainer.max_steps", "1")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(SystemExit, match=r"data.cache_dir: the reference's .*not in .*cache any more. Start again"):
        dpo("fit", "run", *flags, "--ckpt_path", str(run / "checkpoints" / "last.ckpt"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model.loss_type", "ipo"), "model.loss_type = .*sigmoid.*, this run has .*ipo"),
        (("--model.beta", "0.2"), 'model.loss_type = .*"beta": 0.1.*, this run has .*"beta": 0.2'),
        (("--model.reference", "precomputed"), "model.reference = live, this run has precomputed"),
    ],
)
def test_resume_as_another_run_is_refused(dpo, flags, message):
    run = dpo("fit", "run", "--trainer.max_steps", "1")
    with pytest.raises(SystemExit, match=f"ckpt_path: the checkpoint was written with {message}"):
        dpo("fit", "run", *flags, "--ckpt_path", str(run / "checkpoints" / "last.ckpt"))
