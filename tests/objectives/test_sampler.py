"""The weights of what another engine drew: by hand, by their identities, and on what they must not see."""

import math

import pytest
import torch
from torch import Tensor

from lemma.objectives import RL_LOSSES, SAMPLER_CORRECTIONS, RolloutLogps, Window, policy_loss
from lemma.objectives.sampler import sampler_weights

NAN = math.nan
MASK = torch.tensor([[True, True, False], [True, True, True]])
WINDOW = Window(torch.tensor(2), torch.tensor(5), max_length=10)


def tensor(rows) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# The trainer's probability of each token over the sampler's; by completion 3/2 and 4
RATIOS = tensor([[3, 1 / 2, NAN], [4, 2, 1 / 2]])
LOGPS = tensor([[-1, -2, NAN], [-1, -3, -2]])
WEIGHTS = {
    "token": [[2, 1 / 2, 0], [2, 2, 1 / 2]],
    "sequence": [[3 / 2, 3 / 2, 0], [2, 2, 2]],
    "token_mask": [[0, 1 / 2, 0], [0, 2, 1 / 2]],
    "sequence_mask": [[3 / 2, 3 / 2, 0], [0, 0, 0]],
}
BEYOND = {"token": 2, "sequence": 3, "token_mask": 2, "sequence_mask": 3}


def rollout(ratios: Tensor) -> RolloutLogps:
    """Return what a policy that has not moved is given: ratios to the policy that sampled are 1."""
    every = torch.tensor([True, True])
    sampler = LOGPS - ratios.log()
    return RolloutLogps(LOGPS.clone().requires_grad_(), LOGPS, None, None, MASK, tensor([1, -2]), every, sampler)


def test_every_correction_is_worked_by_hand():
    assert {"none", *WEIGHTS} == SAMPLER_CORRECTIONS.keys()


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_by_hand(name):
    logps, sampler = (values.masked_fill(~MASK, 0) for values in (LOGPS, LOGPS - RATIOS.log()))
    weights, beyond = sampler_weights(name, logps, sampler, MASK, cap=2.0)
    torch.testing.assert_close(weights * MASK, tensor(WEIGHTS[name]))
    assert (beyond & MASK).sum() == BEYOND[name]


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_loss_and_its_gradient_are_weighted_token_by_token(name):
    given = rollout(RATIOS)
    loss, figures = policy_loss("dapo", given, WINDOW, sampler_correction=name, sampler_correction_cap=2.0)
    # each token costs -A, and its gradient is -A, over 5 tokens
    expected = tensor(WEIGHTS[name]) * tensor([[-1], [2]]) / 5
    assert loss.item() == pytest.approx(expected.sum().item())
    torch.testing.assert_close(torch.autograd.grad(loss, given.logps)[0], expected)
    assert figures["sampler_weight"].item() == pytest.approx(tensor(WEIGHTS[name]).sum().item())
    assert figures["sampler_beyond_cap"].item() == BEYOND[name]


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("loss_type", RL_LOSSES)
def test_where_the_two_agree_the_loss_is_that_without_a_correction_bit_for_bit(loss_type, name):
    given = rollout(torch.ones(2, 3, dtype=torch.float64))
    losses = [policy_loss(loss_type, given, WINDOW, sampler_correction=each)[0] for each in ("none", name)]
    gradients = [torch.autograd.grad(loss, given.logps)[0] for loss in losses]
    assert losses[0] == losses[1]
    assert torch.equal(*gradients)


def test_without_a_correction_the_samplers_log_probabilities_are_not_looked_at():
    given = rollout(RATIOS)
    seen, unseen = (policy_loss("dapo", each, WINDOW) for each in (given, given._replace(sampler_logps=None)))
    assert seen[0] == unseen[0]
    assert not any(name.startswith("sampler") for name in seen[1])


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_token_that_the_sampler_held_for_impossible_gives_finite_losses(name):
    ratios = RATIOS.clone()
    ratios[1, 0] = math.inf
    loss, _ = policy_loss("dapo", rollout(ratios), WINDOW, sampler_correction=name)
    assert loss.isfinite()


def test_the_penalty_is_not_weighted():
    given = rollout(RATIOS)._replace(ref_logps=LOGPS - 0.3)
    with_penalty, without = (
        [policy_loss("dapo", given, WINDOW, kl_coef=coef, sampler_correction=name)[0] for name in ("none", "token")]
        for coef in (0.5, 0.0)
    )
    assert (with_penalty[0] - without[0]).item() == pytest.approx((with_penalty[1] - without[1]).item())


def test_a_correction_needs_what_it_corrects():
    with pytest.raises(ValueError, match="`sampler_logps` for a `sampler_correction` by token, but got None"):
        policy_loss("dapo", rollout(RATIOS)._replace(sampler_logps=None), WINDOW, sampler_correction="token")
