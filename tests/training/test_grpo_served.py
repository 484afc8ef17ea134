"""Rollouts drawn by a server are the local ones; adapters that are not there, and servers that die, are noticed."""

import json
import os
import re
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from serving import serve_policy

from lemma.generation import ServedArgs
from lemma.generation.served import dialect
from lemma.modules import serving
from lemma.modules.serving import AgreedEnd, agreed, check_served
from lemma.types import InputError

CUT = ("--data.batch_size", "8", "--trainer.max_steps", "6", "--last_checkpoint.every_n_steps", "100")
UNCORRECTED = ("--model.sampler_correction", "none")


@pytest.fixture(autouse=True)
def whole_seeds(monkeypatch):
    """Let the client send seeds as they are, so that the server draws what the local engine does."""
    monkeypatch.setattr(dialect, "fold_seed", lambda seed: seed)


@pytest.fixture
def served(grpo):
    """Return a function that runs a verb over a server, with ``grpo``'s arguments."""

    def run(server, verb: str, name: str, *flags: str, deadline: float = 60.0, **options):
        servers = ("--model.engine", "served", "--model.served.urls", json.dumps([server.url]))
        return grpo(verb, name, *servers, "--model.served.deadline", str(deadline), *flags, **options)

    return run


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "adapter_model.safetensors")


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def loads(server) -> list[str]:
    return [body["lora_name"] for path, body in server.asked if path.endswith("/load_lora_adapter")]


def test_a_run_over_a_server_is_the_local_run(grpo, served, figures):
    # Adam's epsilon keeps updates in proportion to gradients, so that rounding is not taken for a direction
    smooth = (*CUT, "--model.optimizer.eps", "1.0", "--model.optimizer.lr", "0.2")
    local = grpo("fit", "local", *smooth)
    with serve_policy() as server:
        run = served(server, "fit", "served", *smooth)
    ours, theirs = figures(run), figures(local)
    for a, b in zip(ours, theirs, strict=True):
        for name in ("rollout/reward", "rollout/correct", "rollout/completion_length", "rollout/advantages_std"):
            assert a[name] == pytest.approx(b[name]), (a["step"], name)
        assert a["served/probe_difference"] < 1e-4
        assert a["train/sampler_weight"] == pytest.approx(1, abs=1e-4)
        assert a["train/sampler_beyond_cap"] == 0
    assert {"train/sampler_difference", "train/sampler_kl"} <= ours[0].keys()
    assert "train/sampler_weight" not in theirs[0]
    assert difference(adapter(run), adapter(local)) < 1e-5
    names = loads(server)
    assert [name[-7:] for name in names] == ["v000001", "v000002", "v000003"]
    assert not server.adapters, "every version was unloaded"
    assert not (run / "served").exists(), "and its folder removed"


def dying(after: int):
    """Return faults of a server that dies in the middle of a rollout; its first 4 completions are probes."""
    return lambda number: "die" if number == 4 + after else None


MEASURED = ("--data.benchmarks", '[{"name": "arithmetic", "split": "test", "max_rows": 3}]')
MEASURED += ("--trainer.limit_val_batches", "1.0", "--trainer.val_check_interval", "2")


@pytest.mark.parametrize("measured", [(), MEASURED], ids=["in the third rollout", "in the validation before it"])
def test_a_server_that_dies_leaves_a_checkpoint_from_which_the_run_is_the_one_undisturbed(
    served, last_checkpoint, measured
):
    flags = (*CUT, *UNCORRECTED, "--model.sampling.max_new_tokens", "16", "--data.batch_size", "16")
    flags += ("--trainer.max_steps", "4")
    with serve_policy() as server:
        straight = last_checkpoint(served(server, "fit", "straight", *flags))
    third = 2 * 16 + 5
    with serve_policy(faults=dying(third)) as server, pytest.raises(SystemExit) as error:
        served(server, "fit", "broken", *flags, *measured, deadline=10.0)
    path = re.search(r"Saved (\S+last\.ckpt); go on with --ckpt_path \1$", str(error.value))[1]
    saved = torch.load(path, weights_only=True)
    assert (saved["global_step"], saved["lemma"]["ranks"][0]["rollout_number"]) == (2, 2)
    assert (saved["lemma"]["ranks"][0]["rollout"] is None) == (not measured)
    with serve_policy() as server:
        resumed = last_checkpoint(served(server, "fit", "broken", *flags, *measured, "--ckpt_path", path))
    assert resumed["global_step"] == 4
    for name, tensor in straight["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name
    ours, theirs = (dict(each["MathDataModule"], data=None) for each in (resumed, straight))
    assert ours == theirs, "the stream of prompts, and the position in it"


def test_sigterm_ends_the_wait_for_a_server_at_once_with_the_last_step_saved(served, last_checkpoint, tmp_path, caplog):
    """The wait went on for all of the patience, 300 s, and in silence."""

    def said(words: str) -> int:
        return sum(words in record.getMessage() for record in caplog.records)

    def end_when_told():
        while not said("does not answer"):
            time.sleep(0.05)
        began.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    def die_in_the_second_rollout(number):
        if number == 4 + 16 + 2:
            threading.Thread(target=end_when_told, daemon=True).start()
            return "die"
        return None

    began = []
    with serve_policy(faults=die_in_the_second_rollout) as server, pytest.raises(SystemExit) as ended:
        served(server, "fit", "run", *CUT, "--data.batch_size", "16", deadline=120.0)
    assert ended.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - began[0] < 20, "mostly for what a loaded machine takes to save"
    assert last_checkpoint(tmp_path / "run")["global_step"] == 1
    assert said(f"{server.url} does not answer") == 1
    assert said(f"SIGTERM: Saved {tmp_path / 'run'}") == 1


def test_a_signal_that_ends_the_wait_of_one_rank_ends_all(monkeypatch):
    monkeypatch.setattr(serving, "gather_objects", lambda mine: [mine, (None, "no server is healthy", signal.SIGTERM)])
    with pytest.raises(AgreedEnd) as ended:
        agreed(lambda: "done")
    assert ended.value.code == 128 + signal.SIGTERM


def test_a_run_that_fails_before_its_first_step_leaves_no_checkpoint_that_blocks_the_corrected_one(served, tmp_path):
    with serve_policy() as server:
        with pytest.raises(SystemExit, match="it has no model 'qwen'; it has 'base'"):
            served(server, "fit", "run", *CUT, "--model.served.model", "qwen")
        assert not (tmp_path / "run" / "checkpoints").exists()
        assert loads(server) == []


class Deaf:
    """Answers by the tiny policy until the second rollout, of which it never answers one problem."""

    def __init__(self, brain) -> None:
        self.brain = brain
        self.prompts: list[tuple[int, ...]] = []

    async def score(self, model, ids):
        return await self.brain.score(model, ids)

    async def __call__(self, model, prompt_ids, body):
        prompt = tuple(prompt_ids)
        if model.endswith("v000002") and body["max_tokens"] == 16:
            self.prompts.append(prompt)
            if prompt == self.prompts[0]:
                raise RuntimeError("one problem too many")
        return await self.brain(model, prompt_ids, body)


def test_both_ranks_end_where_the_server_fails_one_of_them(served, last_checkpoint, tmp_path):
    flags = (*CUT, "--model.sampling.max_new_tokens", "16")
    with serve_policy() as server:
        server.brain = Deaf(server.brain)
        served(server, "fit", "two", *flags, ranks=2, status=1, deadline=15.0)
        assert loads(server)
        assert not server.adapters, "also where a run ends by an error"
    saved = last_checkpoint(tmp_path / "two")
    assert [rank["rollout_number"] for rank in saved["lemma"]["ranks"]] == [1, 1]
    assert [rank["rollout"] for rank in saved["lemma"]["ranks"]] == [None, None]
    assert saved["global_step"] == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model.policy.method", "full"), r"model\.engine: servers take an adapter's weights"),
        (("--model.served.probe_tolerance", "0"), r"model\.served\.probe_tolerance: expected a number above 0"),
        (("--model.sampler_correction", "tokens"), r"model\.sampler_correction: expected one of none, token, seq"),
        (
            ("--model.sampler_correction_cap", "0.5"),
            r"model\.sampler_correction_cap: expected .* at least 1, but got 0",
        ),
    ],
)
def test_what_servers_cannot_do_is_refused_by_key(served, flags, message):
    class Nowhere:
        url = "http://127.0.0.1:9/v1"

    with pytest.raises(SystemExit, match=message):
        served(Nowhere, "fit", "run", *flags)


def test_a_deadline_beyond_which_other_ranks_do_not_wait_is_refused():
    trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(_timeout=timedelta(seconds=1800)))
    check_served(trainer, ServedArgs(deadline=1799.0))
    with pytest.raises(InputError, match=r"model\.served\.deadline: expected less than the 1800 s .* got 1800"):
        check_served(trainer, ServedArgs(deadline=1800.0))
    check_served(SimpleNamespace(world_size=1, strategy=trainer.strategy), ServedArgs(deadline=5000.0))
