"""Advantages by hand, by their identities, and where rewards are missing, equal or alone."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from lemma.objectives import BASELINES, COMBINATIONS, SCALES, advantages, alike, group_advantages, total_rewards
from lemma.objectives.advantages import EPSILON

NAN = math.nan
WAYS = list(itertools.product(SCALES, BASELINES))
ALL_WAYS = list(itertools.product(SCALES, BASELINES, COMBINATIONS))


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Group 0 has rewards 1, 2, 6: mean 3, sample variance (4 + 1 + 9) / 2 = 7; the others' means are 4, 7/2, 3/2.
# Group 1 has rewards 0, 4, and one None: mean 2, sample variance (4 + 4) / 1 = 8; the others' means are 4 and 0.
# All five: mean 13/5, squares 1 + 4 + 36 + 0 + 16 = 57, variance (57 - 5 * (13/5)^2) / 4 = 116/20 = 29/5.
REWARDS, GROUPS = tensor(1, 2, 6, 0, NAN, 4), torch.tensor([0, 0, 0, 1, 1, 1])
CENTRED = {"mean": [-2, -1, 3, -2, 0, 2], "leave_one_out": [-3, -3 / 2, 9 / 2, -4, 0, 4]}
DEVIATIONS = {"group": [7**0.5] * 3 + [8**0.5] * 3, "batch": [5.8**0.5] * 6, "none": [1 - EPSILON] * 6}


@pytest.mark.parametrize(("scale", "baseline"), WAYS)
def test_two_groups_by_hand(scale, baseline):
    found = group_advantages(REWARDS, GROUPS, scale=scale, baseline=baseline)
    pairs = zip(CENTRED[baseline], DEVIATIONS[scale], strict=True)
    assert found.tolist() == pytest.approx([c / (d + EPSILON) for c, d in pairs], abs=1e-12)


def test_baselines_by_hand():
    # the last completion is alone in its group
    rewards, groups = tensor(1, 2, 6, 5), torch.tensor([0, 0, 0, 1])
    assert BASELINES["mean"](rewards, groups).tolist() == [3, 3, 3, 5]
    assert BASELINES["leave_one_out"](rewards, groups).tolist() == [4, 3.5, 1.5, 5]


def test_known_digits():
    # one of four solved, rewards 5 and 0: mean 5/4, sample deviation sqrt((225/16 + 3 * 25/16) / 3) = 5/2
    found = group_advantages(tensor(5, 0, 0, 0), torch.zeros(4).long(), scale="group", baseline="mean")
    assert found.tolist() == pytest.approx([3.75 / 2.5001] + [-1.25 / 2.5001] * 3)
    assert found[0].item() == pytest.approx(1.49994, abs=1e-5)


def test_every_row_of_the_tables_is_worked_by_hand():
    assert CENTRED.keys() == BASELINES.keys()
    assert DEVIATIONS.keys() == SCALES.keys()
    assert len(ALL_WAYS) == 12


def test_the_deviation_is_the_samples_as_torchs_is():
    rewards = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = group_advantages(rewards, torch.zeros(8).long(), scale="group", baseline="mean")
    torch.testing.assert_close(found, (rewards - rewards.mean()) / (rewards.std() + 1e-4))


def test_leave_one_out_is_the_centred_reward_times_n_over_n_minus_1():
    rewards = torch.rand(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = group_advantages(rewards, torch.zeros(5).long(), scale="none", baseline="leave_one_out")
    torch.testing.assert_close(found, 5 / 4 * (rewards - rewards.mean()))


# --- nothing to compare


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("scale", "baseline", "combine"), ALL_WAYS)
def test_equal_rewards_give_advantages_of_exactly_zero_beside_groups_that_differ(scale, baseline, combine, dtype):
    # a mean of seven times 0.1 is not 0.1 in either precision
    rewards = torch.tensor([[0.1, -0.7]] * 7 + [[1.0, 0.3], [0.2, 0.1], [0.0, 0.9]], dtype=dtype)
    groups = torch.tensor([0] * 7 + [1] * 3)
    weights = torch.tensor([0.3, 1.7], dtype=dtype)
    found = advantages(rewards, weights, groups, scale=scale, baseline=baseline, combine=combine)
    assert (found[:7] == 0).all()
    assert (found[7:] != 0).all()
    assert found.dtype == dtype


@pytest.mark.parametrize(("scale", "baseline", "combine"), ALL_WAYS)
def test_a_completion_alone_in_its_group_has_an_advantage_of_zero(scale, baseline, combine):
    # alone from the start, or because the other has no reward, or nobody has one
    rewards = torch.tensor([[5.0], [3.0], [NAN], [NAN], [NAN], [1.0], [2.0]])
    groups = torch.tensor([0, 1, 1, 2, 2, 3, 3])
    found = advantages(rewards, torch.ones(1), groups, scale=scale, baseline=baseline, combine=combine)
    assert found[:5].tolist() == [0.0] * 5
    assert (found[5:] != 0).all()


@pytest.mark.parametrize(("scale", "baseline", "combine"), ALL_WAYS)
def test_a_rollout_without_any_reward_has_advantages_of_zero(scale, baseline, combine):
    found = advantages(
        torch.full((4, 2), NAN), torch.ones(2), torch.tensor([0, 0, 1, 1]), scale=scale, baseline=baseline,
        combine=combine,
    )  # fmt: skip
    assert found.tolist() == [0.0] * 4


# --- identities


def rollout() -> tuple[Tensor, Tensor, Tensor]:
    """Return three rewards of 24 completions in six groups of four, some of them None."""
    generator = torch.Generator().manual_seed(3)
    rewards = torch.rand(24, 3, dtype=torch.float64, generator=generator)
    rewards[torch.rand(24, 3, generator=generator) < 0.2] = NAN
    rewards[5] = NAN
    return rewards, tensor(1.0, 0.2, 3.0), torch.arange(6).repeat_interleave(4)


@pytest.mark.parametrize(("scale", "baseline", "combine"), ALL_WAYS)
def test_none_is_as_if_the_completion_were_not_there(scale, baseline, combine):
    rewards, weights, groups = rollout()
    there = ~rewards.isnan().all(-1)
    ways = {"scale": scale, "baseline": baseline, "combine": combine}
    found = advantages(rewards, weights, groups, **ways)
    assert there.sum() < 24
    assert (found[~there] == 0).all()
    torch.testing.assert_close(found[there], advantages(rewards[there], weights, groups[there], **ways))


@pytest.mark.parametrize(("scale", "baseline", "combine"), ALL_WAYS)
def test_advantages_of_a_group_add_up_to_zero(scale, baseline, combine):
    rewards, weights, groups = rollout()
    found = advantages(rewards, weights, groups, scale=scale, baseline=baseline, combine=combine)
    assert found.view(6, 4).sum(-1).tolist() == pytest.approx([0.0] * 6, abs=1e-12)
    assert found.abs().max() > 0.5


@pytest.mark.parametrize(("scale", "baseline", "combine"), ALL_WAYS)
def test_neither_the_order_of_completions_nor_the_numbers_of_groups_matter(scale, baseline, combine):
    rewards, weights, groups = rollout()
    ways = {"scale": scale, "baseline": baseline, "combine": combine}
    expected = advantages(rewards, weights, groups, **ways)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(4))
    names = torch.tensor([70, -3, 12, 0, 5, 1])
    torch.testing.assert_close(advantages(rewards[order], weights, names[groups][order], **ways), expected[order])


@pytest.mark.parametrize(("scale", "baseline"), [way for way in WAYS if way[0] != "batch"])
def test_a_problem_that_is_easier_by_a_constant_changes_nothing(scale, baseline):
    rewards, weights, groups = rollout()
    shifted = rewards + 10.0 * groups[:, None]
    ways = {"scale": scale, "baseline": baseline, "combine": "normalise_then_sum"}
    torch.testing.assert_close(
        advantages(shifted, weights, groups, **ways), advantages(rewards, weights, groups, **ways)
    )


def test_the_batchs_scale_counts_differences_between_groups():
    rewards, groups = tensor(0, 1, 100, 101), torch.tensor([0, 0, 1, 1])
    found = group_advantages(rewards, groups, scale="batch", baseline="mean")
    assert found.abs().max() < 0.01


# --- several rewards


def test_total_rewards_by_hand():
    # 2 * 5 - 1 * 0.5, 2 * 5, and nothing at all; a weight of 0 still says that there was a reward
    rewards = torch.tensor([[5.0, -0.5], [5.0, NAN], [NAN, NAN]])
    found = total_rewards(rewards, torch.tensor([2.0, 1.0]))
    assert found[:2].tolist() == [9.5, 10.0]
    assert found[2].isnan()
    assert total_rewards(rewards[1:2], torch.tensor([0.0, 1.0])).tolist() == [0.0]


def test_summed_before_or_normalised_before_by_hand():
    # One group, rewards (1, 0), (0, 10), (0, 20) with weights 1 and 1/10.
    #   sums 1, 1, 2:    mean 4/3, deviation sqrt(1/3): advantages -1/sqrt(3), -1/sqrt(3), 2/sqrt(3)
    #   by itself, reward 0: mean 1/3, deviation 1/sqrt(3): 2/sqrt(3), -1/sqrt(3), -1/sqrt(3); reward 1: -1, 0, 1
    #   weighted 1 and 1/10: 2/sqrt(3) - 0.1, -1/sqrt(3), -1/sqrt(3) + 0.1, divided by their deviation
    rewards, weights, groups = (
        torch.stack([tensor(1, 0, 0), tensor(0, 10, 20)], -1),
        tensor(1, 0.1),
        torch.zeros(3).long(),
    )
    ways = {"scale": "group", "baseline": "mean"}
    third = 3**-0.5
    summed = advantages(rewards, weights, groups, **ways, combine="sum_then_normalise")
    assert summed.tolist() == pytest.approx([-third, -third, 2 * third], rel=1e-3)
    apart = [2 * third - 0.1, -third, -third + 0.1]
    deviation = (sum(x * x for x in apart) / 2) ** 0.5
    normalised = advantages(rewards, weights, groups, **ways, combine="normalise_then_sum")
    assert normalised.tolist() == pytest.approx([x / deviation for x in apart], rel=1e-3)


def test_normalised_before_summing_a_rewards_range_does_not_matter_and_summed_before_it_does():
    rewards, weights, groups = rollout()
    stretched = rewards * tensor(1.0, 50.0, 1.0)
    ways = {"scale": "group", "baseline": "mean"}
    expected = advantages(rewards, weights, groups, **ways, combine="normalise_then_sum")
    found = advantages(stretched, weights, groups, **ways, combine="normalise_then_sum")
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)  # but for the constant beside the deviation
    summed = [advantages(r, weights, groups, **ways, combine="sum_then_normalise") for r in (rewards, stretched)]
    assert (summed[0] - summed[1]).abs().max() > 0.5


def test_a_reward_of_weight_zero_does_not_count():
    rewards, _, groups = rollout()
    rewards = rewards.nan_to_num(0.5)
    for combine in COMBINATIONS:
        ways = {"scale": "group", "baseline": "mean", "combine": combine}
        found = advantages(rewards, tensor(1, 0, 2), groups, **ways)
        torch.testing.assert_close(found, advantages(rewards[:, [0, 2]], tensor(1, 2), groups, **ways))


# --- groups without signal


def test_groups_are_alike_where_no_two_values_differ():
    values = torch.tensor([1.0, 1.0, 0.0, 1.0, NAN, 1.0, NAN, NAN, 5.0, 0.0, NAN])
    groups = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 5, 7, 7])
    assert alike(values, groups).tolist() == [True, False, True, True, True, True]


def test_alike_groups_are_those_whose_advantages_are_zero():
    generator = torch.Generator().manual_seed(5)
    values, groups = torch.randint(2, (60,), generator=generator).double(), torch.arange(20).repeat_interleave(3)
    found = group_advantages(values, groups, scale="group", baseline="mean").view(20, 3)
    assert alike(values, groups).tolist() == (found == 0).all(-1).tolist()
    assert 0 < alike(values, groups).sum() < 20
