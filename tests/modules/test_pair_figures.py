"""The figures of pairs by hand: what each one is, how pairs weigh, and what is asked of the device, and when."""

import math

import pytest
import torch

from lemma.modules.pair_figures import FIGURES, PairFigures, figures_of
from lemma.objectives import PairLogps

A, B = ("light", "given"), ("heavy", "given")


def pairs() -> tuple[PairLogps, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Return three pairs: a won, a tied and a lost one, their losses and their rewards."""
    logps = PairLogps(
        chosen=torch.tensor([-4.0, -6.0, -9.0], requires_grad=True),
        rejected=torch.tensor([-8.0, -6.0, -3.0], requires_grad=True),
        ref_chosen=torch.tensor([-6.0, -6.0, -6.0]),
        ref_rejected=torch.tensor([-5.0, -6.0, -6.0]),
        chosen_length=torch.tensor([2, 3, 4]),
        rejected_length=torch.tensor([3, 2, 6]),
    )
    losses = torch.tensor([0.1, 0.7, 2.0], requires_grad=True)
    return logps, losses, (logps.chosen - logps.ref_chosen, logps.rejected - logps.ref_rejected)


def row(**figures: float) -> torch.Tensor:
    """Return (1, F) figures, 0 where none is given; ``a__b`` is the figure a/b."""
    given = {name.replace("__", "/"): value for name, value in figures.items()}
    assert given.keys() <= set(FIGURES)
    return torch.tensor([[given.get(name, 0.0) for name in FIGURES]])


def test_figures_of_a_pair_by_hand():
    found = figures_of(*pairs())
    assert not found.requires_grad
    expected = {
        "rewards/chosen": [2, 0, -3],
        "rewards/rejected": [-3, 0, 3],
        "rewards/margin": [5, 0, -6],
        "rewards/accuracy": [1, 0.5, 0],  # a tie is half right
        "rewards/saturated": [1, 0, 0],
        "logps/chosen": [-4, -6, -9],
        "logps/rejected": [-8, -6, -3],
        "log_ratio/chosen": [2 / 2, 0, -3 / 4],
        "log_ratio/rejected": [-3 / 3, 0, 3 / 6],
        "length/chosen": [2, 3, 4],
        "length/rejected": [3, 2, 6],
        "loss": [0.1, 0.7, 2.0],
    }
    assert list(expected) == list(FIGURES)
    for column, name in zip(found.unbind(1), FIGURES, strict=True):
        assert column.tolist() == pytest.approx(expected[name]), name


def test_a_saturated_pair_has_less_than_a_hundredth_of_the_steepest_gradient():
    logps, losses, _ = pairs()
    margins = torch.tensor([-math.log(1 / 0.0099 - 1), -4.5, 4.7])
    found = figures_of(logps, losses, (margins.abs(), torch.zeros(3)))[:, FIGURES.index("rewards/saturated")]
    assert found.tolist() == [1, 0, 1]


def test_means_weigh_pairs_and_each_source_and_kind_has_its_own():
    figures = PairFigures()
    figures.add(row(loss=1.0, rewards__margin=2.0), torch.tensor([1.0]), [A])
    figures.add(row(loss=4.0, rewards__margin=5.0), torch.tensor([3.0]), [B])
    figures.add(row(loss=9.0, rewards__margin=9.0), torch.tensor([0.0]), [B])  # it only fills a turn
    found = figures.means("train")
    assert found["train/rewards/margin"] == pytest.approx((2 + 3 * 5) / 4)
    assert found["train/light/given/rewards/margin"] == 2
    assert found["train/heavy/given/rewards/margin"] == 5
    assert found["train/heavy/given/loss"] == 4
    assert "train/loss" not in found, "PolicyModule logs that, of the window"
    assert len(found) == 3 * len(FIGURES) - 1


def test_one_source_and_kind_is_not_logged_twice():
    figures = PairFigures()
    figures.add(row(loss=1.0).expand(2, -1), torch.ones(2), [A, A])
    figures.add(row(loss=3.0), torch.tensor([0.0]), [B])  # of weight 0: no kind of its own
    assert set(figures.means("val")) == {f"val/{name}" for name in FIGURES} - {"val/loss"}


def test_means_are_of_the_pairs_since_the_last_call_and_empty_without_any():
    figures = PairFigures()
    assert figures.means("train") == {}
    figures.add(row(rewards__margin=1.0), torch.ones(1), [A])
    assert figures.means("train")["train/rewards/margin"] == 1
    assert figures.means("train") == {}
    figures.add(row(rewards__margin=7.0), torch.ones(1), [A])
    assert figures.means("train")["train/rewards/margin"] == 7


def test_without_a_reference_there_are_no_log_ratios_to_it():
    figures = PairFigures(compares=False)
    figures.add(row(log_ratio__chosen=1.0, length__rejected=3.0), torch.ones(1), [A])
    found = figures.means("train")
    assert found["train/length/rejected"] == 3
    assert not [name for name in found if "log_ratio" in name]


def test_nothing_waits_for_the_device_until_it_is_asked_for():
    # a tensor of the meta device has no values: whoever waited for one would fail
    meta = PairLogps(*(tensor.to("meta") for tensor in pairs()[0]))
    weights, figures = torch.ones(3, device="meta"), PairFigures()
    figures.add(figures_of(meta, meta.chosen, (meta.chosen, meta.rejected)), weights, [A, A, B])
    with pytest.raises(NotImplementedError):
        figures.means("train")
