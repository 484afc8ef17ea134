"""Optimisers: which weights get which learning rate and decay, that each kind learns, and that fused is only faster."""

import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from torch import nn

from lemma.encoding import Example, padded
from lemma.modules import OptimizerArgs
from lemma.modules.optim import OPTIMIZERS, build_optimizer, parameter_groups
from lemma.policy import LoraArgs, Policy, PolicyArgs
from lemma.types import InputError

BATCH = padded([Example("a", "s", [5, 6, 7], [[8, 9, 10, 2]])], pad_id=0, window_weight=4.0)


def policy(**options) -> Policy:
    torch.manual_seed(0)
    return Policy(PolicyArgs("tiny", lora=LoraArgs(r=8, dropout=0.0), **options))


def losses(args: OptimizerArgs, steps: int, **options) -> tuple[list[float], Policy]:
    trained = policy()
    optimizer = build_optimizer(trained, args, num_steps=steps, **options)["optimizer"]
    seen = []
    for _ in range(steps):
        loss = -trained(BATCH).sum() / 4
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.item())
    return seen, trained


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_learns(name):
    seen, _ = losses(OptimizerArgs(name=name, lr=0.01, schedule="constant"), 8)
    assert seen[-1] < seen[0] / 2


def test_the_fused_kernel_gives_the_same_weights():
    weights = []
    for fused in (True, False):
        torch.manual_seed(0)
        layer = nn.Linear(7, 5)
        args = OptimizerArgs(lr=0.01, schedule="constant", weight_decay=0.1, fused=fused)
        optimizer = build_optimizer(layer, args, num_steps=5)["optimizer"]
        for _ in range(5):
            layer.weight.grad, layer.bias.grad = torch.randn(5, 7), torch.randn(5)
            optimizer.step()
        weights.append(torch.cat([layer.weight.flatten(), layer.bias]).detach())
    torch.testing.assert_close(*weights, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("fused", "may_fuse", "expected"), [(None, True, True), (None, False, False), (False, True, False)]
)
def test_the_kernel_is_fused_where_it_may_be_unless_told_otherwise(fused, may_fuse, expected):
    args = OptimizerArgs(fused=fused)
    optimizer = build_optimizer(nn.Linear(2, 2), args, num_steps=1, may_fuse=may_fuse)["optimizer"]
    assert optimizer.defaults["fused"] is expected


def test_lora_plus_trains_b_at_a_multiple_of_the_rate_of_a_as_peft_does():
    trained = policy()
    args = OptimizerArgs(lr=1e-4, lora_plus_ratio=16.0, schedule="constant")
    theirs = create_loraplus_optimizer(trained.model, torch.optim.AdamW, lr=1e-4, loraplus_lr_ratio=16.0)
    expected = {p: group["lr"] for group in theirs.param_groups for p in group["params"]}
    found = {p: group["lr"] for group in parameter_groups(trained, args) for p in group["params"]}
    assert found == expected
    assert set(found.values()) == {1e-4, 1.6e-3}


def test_the_schedule_moves_both_rates_alike():
    args = OptimizerArgs(lr=1e-4, lora_plus_ratio=4.0, schedule="linear")
    built = build_optimizer(policy(), args, num_steps=4)
    rates = []
    for _ in range(4):
        rates.append([group["lr"] for group in built["optimizer"].param_groups])
        built["optimizer"].step()
        built["lr_scheduler"]["scheduler"].step()
    assert rates == [pytest.approx([1e-4 * left, 4e-4 * left]) for left in (1, 0.75, 0.5, 0.25)]


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_norms_and_biases_are_not_decayed_and_every_matrix_is(make_model, family):
    model = make_model(family)
    groups = parameter_groups(model, OptimizerArgs(weight_decay=0.1))
    decayed = {p for group in groups if group["weight_decay"] for p in group["params"]}
    assert {p for p in model.parameters() if p.ndim >= 2} == decayed
    assert {p for group in groups for p in group["params"]} == set(model.parameters())


def test_doras_magnitudes_are_not_decayed():
    trained = Policy(PolicyArgs("tiny", lora=LoraArgs(r=4, use_dora=True)))
    groups = parameter_groups(trained, OptimizerArgs(weight_decay=0.1))
    decayed = {p for group in groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, p in trained.named_parameters() if p.requires_grad and p not in decayed}
    assert names
    assert all("magnitude_vector" in name for name in names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adam"}, "optimizer.name: expected one of adamw, adamw_8bit, paged_adamw, .*'adam'"),
        ({"name": "adamw_8bit", "fused": True}, "only adamw has a fused kernel, but name is adamw_8bit"),
        ({"lora_plus_ratio": 0.0}, "lora_plus_ratio: expected more than 0, but got 0.0"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        OptimizerArgs(**options)
