"""A run on rollouts that was stopped and resumed is bit for bit the run that was not, wherever it stopped."""

import signal

import pytest
import torch
from torch.utils._pytree import tree_flatten

# Rollouts of 4 micro-batches, in 2 windows, gone through twice: 4 steps a rollout
CUT = ("--data.batch_size", "4", "--trainer.accumulate_grad_batches", "2", "--model.num_iterations", "2")
CUT += ("--trainer.max_steps", "6", "--last_checkpoint.every_n_steps", "100")
TERMINATED = 128 + signal.SIGTERM


def assert_same_training_state(one: dict, other: dict) -> None:
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "lemma", "reference"):
        ours, spec = tree_flatten(one.get(key))
        theirs, other_spec = tree_flatten(other.get(key))
        assert spec == other_spec
        for a, b in zip(ours, theirs, strict=True):
            if isinstance(a, torch.Tensor):
                torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
            else:
                assert a == b, key


@pytest.fixture
def stopped_and_not(grpo, last_checkpoint, tmp_path):
    """Return a function that stops a run after some micro-batches; gives that checkpoint, and those of both ends."""

    def run(batches: int, *flags: str, ranks: int = 1):
        flags = (*CUT, *flags)
        probes = (("SignalAt", {"batches": batches, "signum": int(signal.SIGTERM), "rank": ranks - 1}),)
        straight = grpo("fit", "straight", *flags, ranks=ranks)
        if ranks == 1:
            with pytest.raises(SystemExit) as exit_info:
                grpo("fit", "broken", *flags, probes=probes)
            assert exit_info.value.code == TERMINATED
        else:
            grpo("fit", "broken", *flags, probes=probes, ranks=ranks, status=TERMINATED)
        stopped = last_checkpoint(tmp_path / "broken")
        path = str(tmp_path / "broken" / "checkpoints" / "last.ckpt")
        broken = grpo("fit", "broken", *flags, "--ckpt_path", path, ranks=ranks)
        return stopped, last_checkpoint(straight), last_checkpoint(broken)

    return run


@pytest.mark.parametrize(
    ("batches", "flags"),
    [
        (3, ("--model.dynamic_sampling", "2")),
        (6, ("--model.kl_coef", "0.1", "--model.policy.method", "full")),
        (7, ("--model.entropy_coef", "0.01", "--model.disable_dropout", "false", "--model.policy.lora.dropout", "0.2")),
        (8, ()),
    ],
    ids=["mid-window", "second pass", "mid-window of the second pass with dropout", "between rollouts"],
)
def test_resume_is_bit_exact(stopped_and_not, batches, flags):
    stopped, straight, broken = stopped_and_not(batches, *flags)
    mine = stopped["lemma"]["ranks"][0]
    assert (mine["turn"], mine["rollout_number"]) == (batches, 1)
    assert bool(mine["gradients"]) == bool(batches % 2)
    assert mine["rollout"]["logps"]["old_logps"].shape[0] == 16
    assert_same_training_state(straight, broken)
    assert straight["lemma"]["ranks"][0]["rollout_number"] == 2


def test_resume_is_bit_exact_on_two_ranks(stopped_and_not):
    flags = ("--data.batch_size", "2", "--model.dynamic_sampling", "1")
    stopped, straight, broken = stopped_and_not(7, *flags, ranks=2)
    first, second = stopped["lemma"]["ranks"]
    assert (first["turn"], second["turn"]) == (7, 7)
    problems = [{group["index"] for group in rank["rollout"]["groups"]} for rank in (first, second)]
    assert problems[0].isdisjoint(problems[1])
    assert_same_training_state(straight, broken)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model.loss_type", "grpo"), "model.loss_type = dapo, this run has grpo. A run"),
        (("--model.delta", "5"), "model.delta = inf, this run has 5.0. A run"),
        (("--model.rewards", '["correctness"]'), "model.rewards = "),
        (("--model.num_iterations", "1"), "num_iterations = 2, this run has 1"),
        (("--model.sampling.temperature", "0.9"), "model.sampling = "),
    ],
)
def test_resume_as_another_run_is_refused(grpo, tmp_path, flags, message):
    grpo("fit", "run", *CUT, "--trainer.max_steps", "1")
    path = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    with pytest.raises(SystemExit, match=f"ckpt_path: the checkpoint was written with .*{message}"):
        grpo("fit", "run", *CUT, *flags, "--ckpt_path", path)
