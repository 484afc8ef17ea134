"""The head fused where it is a frozen matrix, called as a module where it is not: the same numbers both ways."""

import copy
import sys
import types

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lemma.encoding import Example, padded
from lemma.ops import Head, completion_logps, completion_logps_and_entropy, liger
from lemma.policy import LoraArgs, Policy, PolicyArgs

CAPS = [None, 2.0]
V, H, M = 61, 16, 23


def problem(*, bias: bool = False, dtype: torch.dtype = torch.float32, scale: float = 4.0):
    """Return a frozen linear layer, hidden states, a row of M + 1 ids, all M later ones' positions, mask, weights."""
    generator = torch.Generator().manual_seed(3)
    linear = nn.Linear(H, V, bias=bias).requires_grad_(False)
    for tensor in linear.parameters():
        tensor.copy_(scale * torch.randn(tensor.shape, generator=generator) / H**0.5)
    hidden = torch.randn(1, M + 1, H, generator=generator)
    ids = torch.randint(V, (1, M + 1), generator=generator)
    weights = torch.randn(1, M, generator=generator)  # of each token in the loss, both signs
    mask = torch.ones(1, M, dtype=torch.bool)
    return linear.to(dtype), hidden.to(dtype).requires_grad_(), (ids, torch.arange(1, M + 1), mask), weights


def called(linear: nn.Module):
    """Return the layer as something that is no nn.Linear, so that it has to be called."""
    return lambda states: linear(states)


def value_and_gradient(head: Head, hidden, where, weights, **options):
    hidden = hidden.detach().clone().requires_grad_()
    logps = completion_logps(hidden, *where, head=head, **options)
    (logps * weights).sum().backward()
    return logps.detach(), hidden.grad


def relative(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left.double() - right.double()).norm() / right.double().norm())


def test_one_token_by_hand():
    # W = identity on 2 dimensions, h = (ln 3, 0), so p = (3/4, 1/4). Target 1: log p = -ln 4, its gradient
    # e_1 - p = (-3/4, 3/4). The loss weighs it by 2.
    linear = nn.Linear(2, 2, bias=False).requires_grad_(False)
    linear.weight.copy_(torch.eye(2))
    hidden = torch.tensor([[[3.0, 1.0], [9.0, 9.0]]]).log().requires_grad_()
    where = torch.tensor([[0, 1]]), torch.tensor([1]), torch.tensor([[True]])
    logps, entropy = completion_logps_and_entropy(hidden, *where, head=Head(linear, 2))
    (2 * logps).sum().backward()
    assert logps.item() == pytest.approx(-1.3862944, abs=1e-6)
    assert hidden.grad[0].tolist() == [pytest.approx([-1.5, 1.5], abs=1e-6), [0.0, 0.0]]
    # entropy: 3/4 ln(4/3) + 1/4 ln 4 = 0.2157616 + 0.3465736
    assert entropy.item() == pytest.approx(0.5623351, abs=1e-6)


@pytest.mark.parametrize("max_logits", [1, 5 * V, None])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
def test_a_frozen_head_gives_the_called_ones_values_and_gradient(cap, bias, max_logits, dtype, tolerance):
    linear, *rest = problem(bias=bias, dtype=dtype)
    fused = value_and_gradient(Head(linear, V, cap), *rest, max_logits=max_logits)
    reference = value_and_gradient(Head(called(linear), V, cap), *rest, max_logits=max_logits)
    assert fused[0].dtype == reference[0].dtype == dtype
    assert relative(fused[0], reference[0]) < tolerance
    assert relative(fused[1], reference[1]) < tolerance


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("frozen", [False, True])
def test_the_gradient_is_the_difference_quotient(cap, frozen):
    linear, hidden, where, _ = problem(bias=True, dtype=torch.float64, scale=1.0)
    head = Head(linear if frozen else called(linear), V, cap)
    torch.autograd.gradcheck(
        lambda h: completion_logps(h, *where, head=head, max_logits=7 * V), (hidden,), fast_mode=True
    )


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("trained", [False, True])
def test_the_entropys_gradient_is_the_difference_quotient(cap, trained):
    linear, hidden, where, _ = problem(bias=True, dtype=torch.float64, scale=1.0)
    linear.weight.requires_grad_(trained)

    def both(states, *_):
        head = Head(linear, V, cap)
        return completion_logps_and_entropy(states, *where, head=head, entropy_gradient=True, max_logits=7 * V)

    torch.autograd.gradcheck(both, (hidden, *([linear.weight] if trained else [])), fast_mode=True)


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])  # uniform, ordinary, and with probabilities that underflow
def test_the_entropy_is_that_of_the_distribution(cap, frozen, scale):
    linear, hidden, where, _ = problem(scale=scale)
    head = Head(linear if frozen else called(linear), V, cap)
    logits = linear(hidden[:, :-1].detach()).double()
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    expected = torch.distributions.Categorical(logits=logits).entropy()
    for gradient in (False, True):
        logps, entropy = completion_logps_and_entropy(
            hidden, *where, head=head, entropy_gradient=gradient, max_logits=5 * V
        )
        torch.testing.assert_close(entropy.double(), expected, atol=2e-6, rtol=0)
        assert entropy.requires_grad == gradient
        assert torch.autograd.grad((logps + entropy).sum(), hidden)[0].isfinite().all()
        torch.testing.assert_close(logps, completion_logps(hidden, *where, head=head), atol=1e-5, rtol=1e-6)


def test_an_entropy_that_takes_no_gradient_leaves_the_log_probabilities_gradient_alone():
    linear, hidden, where, weights = problem()
    expected = value_and_gradient(Head(linear, V), hidden, where, weights)[1]
    for head in (Head(linear, V), Head(called(linear), V)):
        logps, entropy = completion_logps_and_entropy(hidden, *where, head=head)
        (found,) = torch.autograd.grad(((logps * weights) + entropy).sum(), hidden)
        assert relative(found, expected) < 1e-6


def test_entropies_under_the_mask_are_zero():
    linear, hidden, (ids, index, _), _ = problem()
    mask = torch.tensor([[True] * 3 + [False] * 17, [True] * 20])
    logps, entropy = completion_logps_and_entropy(hidden, ids, index, mask, head=Head(linear, V))
    assert (entropy[mask] > 0).all()
    assert (entropy[~mask] == 0).all()
    assert (logps[~mask] == 0).all()


def exact(linear, hidden, where, weights, cap):
    """Return the gradient in float64 of the very numbers that the low-precision model holds."""
    linear = copy.deepcopy(linear).double()
    return value_and_gradient(Head(linear, V, cap), hidden.double(), where, weights.double())


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_in_bfloat16_the_fused_gradient_is_one_rounding_further_from_the_exact_one(cap, scale):
    # The called head's gradient is rounded once, after the product; the fused one's also before it: errors of sqrt(2)
    linear, hidden, where, weights = problem(dtype=torch.bfloat16, scale=scale)
    expected = exact(linear, hidden, where, weights, cap)
    fused = value_and_gradient(Head(linear, V, cap), hidden, where, weights)
    reference = value_and_gradient(Head(called(linear), V, cap), hidden, where, weights)
    assert fused[0].dtype == torch.float32
    assert fused[1].dtype == torch.bfloat16
    assert torch.equal(fused[0], reference[0]) or relative(fused[0], reference[0]) < 1e-6
    assert relative(fused[1], expected[1]) < 1.5 * relative(reference[1], expected[1]) < 0.02


@pytest.mark.parametrize("cap", CAPS)
def test_under_autocast_the_fused_head_does_what_the_called_one_does(cap):
    linear, hidden, where, weights = problem()
    expected = exact(linear, hidden, where, weights, cap)
    with torch.autocast("cpu", torch.bfloat16):
        fused = value_and_gradient(Head(linear, V, cap), hidden, where, weights)
        reference = value_and_gradient(Head(called(linear), V, cap), hidden, where, weights)
    assert fused[0].dtype == fused[1].dtype == torch.float32
    assert relative(fused[0], reference[0]) < 1e-6
    assert 1e-4 < relative(fused[0], expected[0]) < 0.02  # the products did run in bfloat16
    assert relative(fused[1], expected[1]) < 1.5 * relative(reference[1], expected[1]) < 0.02


def test_without_a_gradient_nothing_is_kept():
    linear, hidden, where, _ = problem()
    with torch.no_grad():
        inference = completion_logps(hidden, *where, head=Head(linear, V))
    frozen_states = completion_logps(hidden.detach(), *where, head=Head(linear, V))
    assert inference.grad_fn is None
    assert frozen_states.grad_fn is None
    torch.testing.assert_close(inference, completion_logps(hidden, *where, head=Head(linear, V)))
    torch.testing.assert_close(inference, frozen_states)


def test_a_second_backward_pass_through_one_graph_gives_the_same_gradient():
    linear, hidden, where, weights = problem()
    loss = (completion_logps(hidden, *where, head=Head(linear, V)) * weights).sum()
    first, second = (torch.autograd.grad(loss, hidden, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_a_second_derivative_is_refused_and_not_zero():
    linear, hidden, where, _ = problem()
    logps = completion_logps(hidden, *where, head=Head(linear, V))
    (first,) = torch.autograd.grad(logps.square().sum(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


# Which heads may be read past their module


class OwnLinear(nn.Linear):
    """As bitsandbytes, PEFT and FSDP2 have them."""


def trained(linear):
    return linear.requires_grad_()


def trained_bias(linear):
    linear.bias.requires_grad_()
    return linear


def hooked(linear):
    linear.register_forward_pre_hook(lambda module, args: None)
    return linear


def offloaded(linear):  # accelerate replaces the instance's forward
    linear.forward = lambda states: nn.functional.linear(states, linear.weight, linear.bias)
    return linear


def partitioned(linear):  # between uses ZeRO-3 leaves a tensor of no elements
    linear.weight.data = torch.empty(0)
    return linear


def on_meta(linear):
    return linear.to("meta")


def quantised(linear):
    import bitsandbytes

    return bitsandbytes.nn.Linear4bit(H, V)


def lora(linear):
    from peft import LoraConfig, inject_adapter_in_model

    return inject_adapter_in_model(LoraConfig(target_modules=["0"]), nn.Sequential(linear))[0]


def distributed_tensor(linear):
    from torch.distributed.tensor import distribute_module, init_device_mesh

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        return distribute_module(linear, init_device_mesh("cpu", (1,)))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "change",
    [trained, trained_bias, hooked, offloaded, partitioned, on_meta, quantised, lora, distributed_tensor, called],
)
def test_a_head_that_is_not_a_frozen_matrix_is_called(change):
    linear = problem(bias=True)[0]
    assert Head(linear, V).frozen_linear() is not None
    assert Head(change(linear), V).frozen_linear() is None
    subclass = OwnLinear(H, V).requires_grad_(False)
    assert Head(subclass, V).frozen_linear() is None


def lora_policy(folder, **kwargs) -> Policy:
    torch.manual_seed(0)
    policy = Policy(PolicyArgs(str(folder), attn_implementation="eager", lora=LoraArgs(r=4, dropout=0.0, **kwargs)))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)  # at zero A would have no gradient
    return policy


def batch():
    examples = [Example("a", "s", [5, 6, 7], [[8, 9, 10, 11]]), Example("b", "s", [3], [[4, 2]])]
    return padded(examples, pad_id=0, window_weight=6.0)


def adapter_gradient(policy: Policy) -> tuple[torch.Tensor, torch.Tensor]:
    logps = policy(batch())
    (logps * torch.tensor([[1.0, -2.0, 3.0, 0.5], [2.0, 1.0, 9.0, 9.0]])).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    policy.zero_grad()
    return logps.detach(), gradient


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gemma3", "gpt2"])
def test_lora_training_never_calls_the_head_and_has_the_called_ones_gradient(base_folder, family):
    policy, calls = lora_policy(base_folder(family)), []
    head = policy.causal_lm.get_output_embeddings()
    assert type(head) is nn.Linear
    fused = adapter_gradient(policy)
    handle = head.register_forward_hook(lambda *_: calls.append(1))
    reference = adapter_gradient(policy)
    handle.remove()
    assert len(calls) == 2  # one chunk, forward and backward: the hook took the fused way away
    assert reference[1].norm() > 0
    torch.testing.assert_close(fused[0], reference[0], atol=2e-6, rtol=0)
    assert relative(fused[1], reference[1]) < 2e-6


def test_an_adapter_on_the_head_is_trained(base_folder):
    policy = lora_policy(base_folder("llama"), target_modules=["lm_head"])
    _, gradient = adapter_gradient(policy)
    assert gradient.norm() > 0


def test_full_fine_tuning_trains_the_head(base_folder):
    policy = Policy(PolicyArgs(str(base_folder("llama")), method="full"))
    policy(batch()).sum().backward()
    assert policy.causal_lm.lm_head.weight.grad.norm() > 0


# Liger


def liger_stub(states, weight, targets, *, bias, reduction, softcap, compute_gradients, weight_requires_grad, **rest):
    """Do what fused_linear_cross_entropy_forward of liger-kernel 0.8.5 does with these arguments, by autograd."""
    assert reduction == "none"
    assert not weight_requires_grad
    assert set(rest) == {"chunk_mem_const"}
    liger_stub.chunks.append(rest["chunk_mem_const"])
    with torch.enable_grad():
        states = states.detach().requires_grad_()
        logits = nn.functional.linear(states, weight, bias)
        logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
        losses = cross_entropy(logits.float(), targets, reduction="none")
        gradient = torch.autograd.grad(losses.sum(), states)[0]
    gradient = gradient if compute_gradients else torch.zeros_like(states)
    return losses.detach(), None, None, None, gradient, None, None


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cap", CAPS)
def test_ligers_losses_and_gradients_are_taken_where_it_is_usable(monkeypatch, cap, bias):
    linear, *rest = problem(bias=bias)
    expected = value_and_gradient(Head(linear, V, cap), *rest)
    liger_stub.chunks = []
    monkeypatch.setattr(liger, "_forward", lambda: liger_stub)
    assert torch.equal(value_and_gradient(Head(linear, V, cap), *rest)[0], expected[0])
    assert liger_stub.chunks == []  # not on the CPU
    monkeypatch.setattr(liger, "is_usable", lambda states: True)
    found = value_and_gradient(Head(linear, V, cap), *rest, max_logits=30 * M * H)
    assert liger_stub.chunks == [29]  # 30 x M x H logits are 180 rows of 61, which are 29.8 x M x H again
    assert relative(found[0], expected[0]) < 1e-6
    assert relative(found[1], expected[1]) < 1e-6
    with torch.no_grad():
        torch.testing.assert_close(completion_logps(*rest[:1], *rest[1], head=Head(linear, V, cap)), expected[0])


def test_a_liger_that_scales_gradients_by_the_first_tokens_is_not_taken(monkeypatch):
    def before_0_8_2(_input, weight, target, ce_weight=None, bias=None, reduction="mean", softcap=None):
        raise AssertionError

    name = "liger_kernel.ops.fused_linear_cross_entropy"
    for part in ("liger_kernel", "liger_kernel.ops", name):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    for forward, taken in (
        (before_0_8_2, False),
        (lambda compute_gradients, weight_requires_grad, chunk_mem_const: 0, True),
    ):
        sys.modules[name].fused_linear_cross_entropy_forward = forward
        liger._forward.cache_clear()
        assert (liger._forward() is not None) == taken
    liger._forward.cache_clear()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cap", CAPS)
def test_liger_gives_the_same_numbers_on_cuda(monkeypatch, cap, bias, dtype):
    pytest.importorskip("liger_kernel")
    linear, hidden, where, weights = problem(bias=bias, dtype=dtype)
    linear, hidden, weights = linear.cuda(), hidden.detach().cuda(), weights.cuda()
    where = tuple(tensor.cuda() for tensor in where)
    assert liger.is_usable(hidden[0])
    with_liger = value_and_gradient(Head(linear, V, cap), hidden, where, weights)
    monkeypatch.setattr(liger, "is_usable", lambda states: False)
    without = value_and_gradient(Head(linear, V, cap), hidden, where, weights)
    tolerance = 1e-5 if dtype == torch.float32 else 0.01
    assert relative(with_liger[0], without[0]) < tolerance
    assert relative(with_liger[1], without[1]) < tolerance
