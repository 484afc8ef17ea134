"""The layout of a batch changes speed and nothing else: same trajectory, exact resume, any number of ranks."""

import json
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from torch.utils._pytree import tree_flatten

# 31 examples an epoch; in double precision, so that rounding hides nothing
EXACT = ("--model.policy.lora.dropout", "0", "--trainer.precision", "64-true", "--trainer.max_epochs", "1")


class SaveFigures(Callback):
    """Saves rank 0's last logged figures in a folder.

    Args:
        folder: Where to.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "figures.json"

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        if trainer.global_rank == 0:
            figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self.path.write_text(json.dumps(figures))


@pytest.fixture(autouse=True)
def _importable_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def trajectory(lemma, lemma_ranks, tmp_path):
    """Run an epoch; return the gradient of each step, the final adapter, and the last logged figures."""

    def run(name: str, *flags: str, ranks: bool = False):
        folder = tmp_path / name
        probes = [
            {"class_path": f"{path}", "init_args": {"folder": str(folder)}}
            for path in ("probes.SaveGradients", "test_layouts.SaveFigures")
        ]
        arguments = [*EXACT, *flags, "--trainer.default_root_dir", str(folder)]
        arguments += ["--trainer.callbacks", json.dumps(probes)]
        if ranks:
            done = lemma_ranks("fit", *arguments, "--trainer.strategy", "ddp")
            assert done.returncode == 0, done.stderr
        else:
            lemma("fit", *arguments)
        number = len(list(folder.glob("gradient-*.pt")))
        gradients = [torch.load(folder / f"gradient-{step}.pt", weights_only=True) for step in range(number)]
        adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
        return gradients, adapter, json.loads((folder / "figures.json").read_text())

    return run


def assert_same_trajectory(one, other, *, num_steps: int) -> None:
    assert len(one[0]) == len(other[0]) == num_steps
    for step, (a, b) in enumerate(zip(one[0], other[0], strict=True)):
        assert a.norm() > 1e-3
        assert (a - b).norm() / a.norm() < 1e-7, step
    for name, tensor in one[1].items():
        torch.testing.assert_close(tensor, other[1][name], rtol=0, atol=1e-8)
    assert one[2]["train/loss"] == pytest.approx(other[2]["train/loss"], rel=1e-6)


def test_packed_and_padded_train_alike(trajectory, monkeypatch):
    infinite = "lemma.datamodule.layout.attention_break_even"
    monkeypatch.setattr(infinite, lambda config: float("inf"))  # pack all that fits
    cut = ("--data.batch_size", "4", "--trainer.accumulate_grad_batches", "2")
    padded = trajectory("padded", *cut, "--data.layout", "padded")
    packed = trajectory("packed", *cut, "--data.layout", "packed")
    assert_same_trajectory(padded, packed, num_steps=4)
    assert packed[2]["train/padding"] < padded[2]["train/padding"]


def test_two_ranks_of_packed_rows_train_as_one_of_padded_and_fillers_count_as_padding(trajectory):
    one = trajectory("one", "--data.batch_size", "6", "--data.layout", "padded")
    two = trajectory("two", "--data.batch_size", "3", "--data.layout", "packed", ranks=True)
    assert_same_trajectory(one, two, num_steps=6)
    # the last window is one example: rank 0 computes it, rank 1 a filler as long
    assert one[2]["train/padding"] == 0
    assert two[2]["train/padding"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "layout", [("--data.layout", "packed"), ("--data.layout", "padded", "--data.group_by_length", "true")]
)
def test_resume_is_bit_exact_under_every_layout(lemma, last_checkpoint, tmp_path, layout):
    flags = (*layout, "--trainer.accumulate_grad_batches", "3", "--trainer.max_epochs", "2")
    kill = [{"class_path": "probes.SignalAt", "init_args": {"batches": 7, "signum": int(signal.SIGTERM)}}]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    lemma("fit", *flags, "--trainer.default_root_dir", str(straight))
    run = (*flags, "--trainer.default_root_dir", str(broken))
    with pytest.raises(SystemExit):
        lemma("fit", *run, "--trainer.callbacks", json.dumps(kill))
    lemma("fit", *run, "--ckpt_path", str(broken / "checkpoints" / "last.ckpt"))
    states = [last_checkpoint(folder) for folder in (straight, broken)]
    ours, theirs = (tree_flatten([state["state_dict"], state["optimizer_states"]])[0] for state in states)
    assert len(ours) > 50
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_resume_with_another_grouping_is_refused(lemma, tmp_path):
    run = ("--trainer.default_root_dir", str(tmp_path / "run"))
    lemma("fit", *run, "--trainer.max_steps", "2", "--data.layout", "packed")
    with pytest.raises(SystemExit, match="grouped_windows = 0, this run has 1"):
        lemma(
            "fit", *run, "--data.layout", "padded", "--ckpt_path", str(tmp_path / "run" / "checkpoints" / "last.ckpt")
        )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--data.layout", "dense"),
            "data.layout: expected one of auto, padded, packed, shared_prefix, but got 'dense'",
        ),
        (("--data.layout", "padded", "--data.row_length", "512"), "data.row_length: expected null under layout padded"),
        (("--data.layout", "packed", "--data.group_by_length", "true"), "data.group_by_length: expected false"),
        (("--data.row_length", "20"), r"data.row_length: expected at least \d+, the tokens of the longest sequence"),
    ],
)
def test_settings_that_cannot_work_are_refused(lemma, tmp_path, flags, message):
    with pytest.raises(SystemExit, match=message):
        lemma("fit", "--trainer.default_root_dir", str(tmp_path / "run"), *flags)
