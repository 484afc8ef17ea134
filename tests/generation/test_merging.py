"""Adapters merged while sampling: the same distribution but for rounding, and the base's bits afterwards."""

import pytest
import torch

from lemma.generation import SamplingArgs, generate
from lemma.policy import LoraArgs, Policy, PolicyArgs, QuantizationArgs
from lemma.policy.merging import merged

IDS = torch.arange(5, 45).view(2, 20)


def trained(policy):
    """Return a policy whose adapter does something."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in policy.named_parameters():
        if "lora_B.default" in name:
            parameter.data.normal_(std=0.05, generator=generator)
        if "magnitude" in name:
            parameter.data.mul_(1 + 0.1 * torch.rand(parameter.shape, generator=generator))
    return policy.eval()


def state(policy):
    """Return copies of all weights, and where each lies."""
    return {name: (p.detach().clone(), p.data_ptr(), p.requires_grad) for name, p in policy.named_parameters()}


def check_untouched(policy, before):
    after = state(policy)
    assert after.keys() == before.keys()
    for name, (weight, place, trains) in before.items():
        assert torch.equal(after[name][0], weight), name
        assert after[name][1:] == (place, trains), name
    layers = [module for module in policy.modules() if hasattr(module, "merged_adapters")]
    assert layers
    assert not any(layer.merged or layer.disable_adapters or layer._caches for layer in layers)


@torch.no_grad()
def logps(policy):
    return policy.model(IDS).logits.log_softmax(-1)


VARIANTS = {
    "lora": {"lora": LoraArgs(r=4)},
    "rslora": {"lora": LoraArgs(r=4, use_rslora=True)},
    "dora": {"lora": LoraArgs(r=4, use_dora=True)},
    "some layers": {"lora": LoraArgs(r=4, target_modules=["q_proj", "down_proj"])},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_merged_weights_give_the_same_distribution_and_go_without_a_trace(variant):
    policy = trained(Policy(PolicyArgs("tiny", **VARIANTS[variant])))
    before, apart = state(policy), logps(policy)
    with merged(policy) as is_merged:
        assert is_merged
        assert any(not torch.equal(weight, before[name][0]) for name, weight in policy.named_parameters())
        together = logps(policy)
    assert (together - apart).abs().mean() < 1e-5
    check_untouched(policy, before)
    assert torch.equal(logps(policy), apart)


def test_convolutions_of_gpt2_merge_too(base_folder):
    policy = trained(Policy(PolicyArgs(str(base_folder("gpt2")), lora=LoraArgs(r=4))))
    before, apart = state(policy), logps(policy)
    with merged(policy) as is_merged:
        assert is_merged
        assert (logps(policy) - apart).abs().mean() < 1e-5
    check_untouched(policy, before)


def test_the_bits_come_back_after_an_error():
    policy = trained(Policy(PolicyArgs("tiny")))
    before = state(policy)
    with pytest.raises(RuntimeError, match="out of memory"), merged(policy):
        raise RuntimeError("out of memory")
    check_untouched(policy, before)


def test_the_bits_come_back_after_an_error_while_merging(monkeypatch):
    policy = trained(Policy(PolicyArgs("tiny", lora=LoraArgs(use_dora=True))))
    before = state(policy)
    last = [module for module in policy.modules() if hasattr(module, "merged_adapters")][-1]

    def fail():
        raise RuntimeError("no more")

    monkeypatch.setattr(last, "merge", fail)
    with pytest.raises(RuntimeError, match="no more"), merged(policy):
        pass
    check_untouched(policy, before)


def test_a_reference_adapter_beside_it_is_neither_merged_nor_lost(tmp_path):
    trained(Policy(PolicyArgs("tiny"))).save(tmp_path)
    policy = Policy(PolicyArgs("tiny", adapter=str(tmp_path))).eval()
    policy.add_reference()
    with policy.as_reference():
        reference = logps(policy)
    for name, parameter in policy.named_parameters():
        if "lora_B.default" in name:
            parameter.data.mul_(-1)
    before, apart = state(policy), logps(policy)
    assert (apart - reference).abs().mean() > 1e-3
    with merged(policy) as is_merged:
        assert is_merged
        assert (logps(policy) - apart).abs().mean() < 1e-5
    check_untouched(policy, before)
    with policy.as_reference():
        assert torch.equal(logps(policy), reference)
        with merged(policy) as is_merged:  # the adapter that is active
            assert is_merged
            assert (logps(policy) - reference).abs().mean() < 1e-5
    check_untouched(policy, before)


def test_adapters_that_are_off_stay_off():
    policy = trained(Policy(PolicyArgs("tiny")))
    with policy.as_reference(), merged(policy) as is_merged:
        assert not is_merged
        off = logps(policy)
    assert (off - logps(policy)).abs().mean() > 1e-3


@pytest.mark.parametrize(
    "arguments",
    [
        {"dtype": "bfloat16"},
        {"quantization": QuantizationArgs("nf4")},
        {"quantization": QuantizationArgs("int8")},
        {"method": "full"},
    ],
)
def test_weights_that_would_round_the_update_away_are_left_alone(arguments):
    policy = Policy(PolicyArgs("tiny", **arguments))
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    with merged(policy) as is_merged:
        assert not is_merged
        assert all(torch.equal(p, before[name]) for name, p in policy.named_parameters())


def test_nothing_is_merged_under_autocast():
    with torch.autocast("cpu", torch.bfloat16), merged(Policy(PolicyArgs("tiny"))) as is_merged:
        assert not is_merged


def test_a_weight_that_another_layer_shares_is_left_alone():
    policy = trained(Policy(PolicyArgs("tiny")))
    layers = policy.causal_lm.model.layers
    layers[1].mlp.up_proj.base_layer.weight = layers[0].mlp.up_proj.base_layer.weight
    with merged(policy) as is_merged:
        assert not is_merged


def test_samples_are_the_same_with_adapters_merged(encoder, problems):
    policy = trained(Policy(PolicyArgs("tiny")))
    before = state(policy)
    sampling = SamplingArgs(num_samples=3, max_new_tokens=32)
    apart = generate(policy, problems, encoder, sampling)
    assert generate(policy, problems, encoder, sampling, merge=True) == apart
    check_untouched(policy, before)


def test_the_adapter_trains_on_after_a_merge():
    policy = trained(Policy(PolicyArgs("tiny", lora=LoraArgs(r=4)))).train()
    loss = lambda: policy.model(IDS, labels=IDS).loss  # noqa: E731
    loss().backward()
    gradients = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad()
    with torch.no_grad(), merged(policy):
        pass
    loss().backward()
    assert gradients
    assert all(torch.equal(dict(policy.named_parameters())[name].grad, grad) for name, grad in gradients.items())
