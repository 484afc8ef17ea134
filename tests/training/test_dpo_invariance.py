"""Neither a gradient of DPO nor a figure depends on how a window is cut, on how many ranks, or under which layout."""

import pytest
import torch
from safetensors.torch import load_file

# 21 pairs of two weights: two windows of 8 and a short one of 5, of which the second rank's last turn is empty
CUTS = {"whole": ("8", "1", 1), "accumulated": ("2", "4", 1), "ranks": ("1", "4", 2)}
DDP = ("--trainer.strategy", "ddp")
VALIDATED = ("--trainer.limit_val_batches", "1.0")
# Adam's epsilon keeps updates in proportion to gradients, so that rounding is not taken for a direction
GRADUAL = ("--model.optimizer.eps", "1.0", "--model.optimizer.lr", "0.2")


@pytest.fixture
def gradients(dpo, tmp_path):
    """Return a function to the gradients of an epoch of full fine-tuning at a rate that moves no weight noticeably."""

    def run(name: str, batch_size: str, accumulate: str, ranks: int, *flags: str) -> list[torch.Tensor]:
        probes = (("SaveGradients", {"folder": str(tmp_path / name)}),)
        cut = ["--data.batch_size", batch_size, "--trainer.accumulate_grad_batches", accumulate]
        still = ["--model.policy.method", "full", "--model.optimizer.lr", "1e-15"]
        still += ["--last_checkpoint.every_n_steps", "1000", *(DDP if ranks > 1 else ())]
        folder = dpo("fit", name, *still, *cut, *flags, probes=probes, ranks=ranks)
        return [torch.load(folder / f"gradient-{step}.pt", weights_only=True) for step in range(3)]

    return run


def assert_equal_gradients(one, other, tolerance: float) -> None:
    assert len(one) == len(other) == 3
    for step, (a, b) in enumerate(zip(one, other, strict=True)):
        assert a.norm() > 1e-3
        assert (a - b).norm() / a.norm() <= tolerance, step


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-6), ("64-true", 1e-12)])
def test_gradient_does_not_depend_on_how_the_window_is_cut(gradients, untrained_base, precision, tolerance):
    flags = ("--model.policy.base", untrained_base, "--trainer.precision", precision)
    whole, *others = (gradients(name, *cut, *flags) for name, cut in CUTS.items())
    for other in others:
        assert_equal_gradients(whole, other, tolerance)


@pytest.fixture
def packs_all_that_fits(monkeypatch):
    monkeypatch.setattr("lemma.datamodule.layout.attention_break_even", lambda config: float("inf"))


@pytest.mark.usefixtures("packs_all_that_fits")
def test_gradient_does_not_depend_on_the_layout(gradients, untrained_base):
    flags = ("8", "1", 1, "--model.policy.base", untrained_base, "--data.layout")
    padded = gradients("padded", *flags, "padded")
    for layout in ("packed", "shared_prefix"):
        assert_equal_gradients(padded, gradients(layout, *flags, layout), 1e-6)


@pytest.mark.usefixtures("packs_all_that_fits")
def test_figures_do_not_depend_on_the_layout(dpo, figures):
    flags = (*VALIDATED, "--trainer.precision", "64-true", "--trainer.accumulate_grad_batches", "2", "--data.layout")
    padded, *others = (figures(dpo("fit", name, *flags, name)) for name in ("padded", "packed", "shared_prefix"))
    for other in others:
        assert_same_figures(padded, other, rel=1e-6)
    assert others[1][-1]["train/padding"] < padded[-1]["train/padding"]


def assert_same_figures(one, other, rel: float) -> None:
    """Compare every step's losses, rewards, log-probabilities, log-ratios and lengths, by source and kind too."""
    assert len(one) == len(other) > 2
    for ours, theirs in zip(one, other, strict=True):
        names = {name for name in ours if name.startswith(("train/", "val/"))}
        names -= {"train/tokens_per_second", "train/padding", "train/lr"}
        assert {name for name in theirs if name in ours or "rewards" in name} >= names
        for name in names:
            if name.endswith("accuracy") and abs(ours[name.replace("accuracy", "margin")]) < 1e-9:
                continue  # the signs of rounding errors
            assert ours[name] == pytest.approx(theirs[name], rel=rel, abs=1e-6), (ours["step"], name)


def test_two_ranks_train_log_and_measure_as_one_process(dpo, figures):
    # in a micro-batch of one pair a rank has no pair of the other kinds, and in the last window none at all
    flags = (*VALIDATED, "--trainer.precision", "64-true", "--trainer.max_epochs", "2", "--trainer.val_check_interval")
    flags += ("1.0", "--trainer.accumulate_grad_batches", "2", *GRADUAL)
    one = dpo("fit", "one", *flags, "--data.batch_size", "2")
    two = dpo("fit", "two", *flags, *DDP, "--data.batch_size", "1", ranks=2)

    for name, tensor in load_file(one / "adapter" / "adapter_model.safetensors").items():
        other = load_file(two / "adapter" / "adapter_model.safetensors")[name]
        assert torch.allclose(tensor, other, rtol=0, atol=1e-9), name
    ours, theirs = figures(one), figures(two)
    assert_same_figures(ours, theirs, rel=1e-6)
    for part in ("train/light/given", "train/heavy/right_over_wrong", "val/kept/given", "train", "val"):
        assert ours[-1][f"{part}/rewards/margin"] != 0
        assert f"{part}/logps/chosen" in theirs[-1]
    assert ours[-1]["val/loss"] < 0.69
