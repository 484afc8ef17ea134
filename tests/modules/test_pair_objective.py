"""What a run minimises on its pairs: names, weights and tunables, and one message for what is wrong with them."""

import pytest
import torch

from lemma.modules.pair_objective import PairObjective
from lemma.objectives import DPO_LOSSES, PairLogps
from lemma.types import InputError

PAIRS = PairLogps(
    chosen=torch.tensor([-4.0, -6.0]),
    rejected=torch.tensor([-8.0, -5.0]),
    ref_chosen=torch.tensor([-5.0, -5.5]),
    ref_rejected=torch.tensor([-7.0, -6.0]),
    chosen_length=torch.tensor([2, 3]),
    rejected_length=torch.tensor([4, 5]),
)
FREE = {"simpo", "orpo", "sft"}
NONE = {"beta": None, "label_smoothing": None, "gamma": None}


def value(name: str, **tunables: float) -> torch.Tensor:
    return DPO_LOSSES[name].function(PAIRS, **DPO_LOSSES[name].tunables | tunables)


@pytest.mark.parametrize("name", DPO_LOSSES)
def test_a_name_is_the_loss_with_its_own_defaults(name):
    objective = PairObjective(name, NONE)
    torch.testing.assert_close(objective(PAIRS), value(name))
    assert objective.needs_reference == (name not in FREE)


def test_a_sum_weighs_its_terms():
    objective = PairObjective({"sigmoid": 1.0, "sft": 0.2, "hinge": 3}, NONE)
    torch.testing.assert_close(objective(PAIRS), value("sigmoid") + 0.2 * value("sft") + 3 * value("hinge"))


def test_shared_tunables_go_to_every_loss_that_has_them_and_own_ones_stand_above():
    types = {"sigmoid": 1.0, "robust": {"weight": 2.0, "label_smoothing": 0.3}, "ipo": {"beta": 0.7}, "sft": 1.0}
    objective = PairObjective(types, {"beta": 0.4, "label_smoothing": 0.05, "gamma": None})
    expected = value("sigmoid", beta=0.4, label_smoothing=0.05)
    expected = expected + 2 * value("robust", beta=0.4, label_smoothing=0.3) + value("ipo", beta=0.7) + value("sft")
    torch.testing.assert_close(objective(PAIRS), expected)
    assert objective.settings()["robust"] == {"weight": 2.0, "beta": 0.4, "label_smoothing": 0.3}


def test_rewards_are_beta_times_the_log_ratio_where_a_term_has_a_reference():
    chosen, rejected = PairObjective({"simpo": 1.0, "sigmoid": {"beta": 0.5}}, NONE).rewards(PAIRS)
    assert chosen.tolist() == [0.5, -0.25]
    assert rejected.tolist() == [-0.5, 0.5]


@pytest.mark.parametrize(("types", "beta"), [("simpo", 2.0), ("orpo", 0.1), ("sft", 1.0), ({"sft": 1, "simpo": 1}, 2)])
def test_rewards_without_a_reference_are_those_of_simpo(types, beta):
    objective = PairObjective(types, NONE)
    assert not objective.needs_reference
    chosen, rejected = objective.rewards(PAIRS._replace(ref_chosen=torch.zeros(2), ref_rejected=torch.zeros(2)))
    assert chosen.tolist() == pytest.approx([beta * -4 / 2, beta * -6 / 3])
    assert rejected.tolist() == pytest.approx([beta * -8 / 4, beta * -5 / 5])


@pytest.mark.parametrize(
    ("types", "shared", "message"),
    [
        ("sigmiod", {}, "model.loss_type: expected one of sigmoid, hinge, .*, but got 'sigmiod'"),
        ({"sigmoid": 1.0, "nll": 1.0}, {}, "model.loss_type: .*but got 'nll'"),
        ({}, {}, "model.loss_type: expected at least one loss"),
        ({"sigmoid": 0.0}, {}, "model.loss_type.sigmoid: expected a weight above 0, but got 0"),
        ({"sigmoid": float("nan")}, {}, "model.loss_type.sigmoid: expected a weight above 0, but got nan"),
        ({"sigmoid": float("inf")}, {}, "model.loss_type.sigmoid: expected a weight above 0, but got inf"),
        ({"sft": {"beta": 1.0}}, {}, "model.loss_type.sft: expected keys among weight, but got beta"),
        ({"simpo": {"gama": 1.0}}, {}, "model.loss_type.simpo: expected keys among weight, beta, gamma, but got gama"),
        ({"simpo": {"gamma": -1.0}}, {}, "model.loss_type.simpo: .*`gamma`.*>= 0, but got -1"),
        ("sigmoid", {"beta": 0.0}, "model.beta: .*> 0, but got 0"),
        ("sigmoid", {"label_smoothing": 0.5}, r"model.label_smoothing: .*in \[0, 0.5\), but got 0.5"),
        ("sigmoid", {"gamma": 1.0}, "model.gamma: no loss of model.loss_type sigmoid takes it"),
        ({"sft": 1.0, "orpo": 1.0}, {"label_smoothing": 0.1}, "model.label_smoothing: no loss .*sft, orpo takes it"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(types, shared, message):
    with pytest.raises(InputError, match=message):
        PairObjective(types, NONE | shared)
