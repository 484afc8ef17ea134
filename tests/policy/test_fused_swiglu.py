"""The fused SwiGLU against transformers' own MLP: values, gradients, what is kept, and which models get it."""

import copy

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaConfig, LlamaMLP
from transformers.models.qwen2.modeling_qwen2 import Qwen2Config, Qwen2MLP

from lemma.policy import Policy, PolicyArgs
from lemma.policy.fused_swiglu import SwiGLU, fuse_swiglu

WIDE = 6


def mlp(own=LlamaMLP, config=LlamaConfig, dtype: torch.dtype = torch.float32, **kwargs) -> torch.nn.Module:
    torch.manual_seed(0)
    return own(config(hidden_size=4, intermediate_size=WIDE, num_attention_heads=2, **kwargs)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("own", "config"), [(LlamaMLP, LlamaConfig), (Qwen2MLP, Qwen2Config)])
def test_values_and_gradients_are_transformers(own, config, dtype):
    plain = mlp(own, config, dtype)
    fused = copy.deepcopy(plain)
    fuse_swiglu(fused)
    x = torch.randn(2, 3, 4, dtype=dtype, generator=torch.Generator().manual_seed(1))
    found = []
    for each in (fused, plain):
        own_x = x.clone().requires_grad_()
        value = each(own_x)
        value.square().sum().backward()
        found.append([value, own_x.grad, *(parameter.grad for parameter in each.parameters())])
    assert any(type(node).__name__ == "SwiGLUBackward" for node in graph(fused(x)))
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 2e-2}[dtype]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def graph(value: torch.Tensor) -> list:
    nodes, todo = [], [value.grad_fn]
    while todo:
        node = todo.pop()
        nodes.append(node)
        todo += [before for before, _ in node.next_functions if before is not None]
    return nodes


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    gate, up = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(SwiGLU.apply, (gate, up))


def test_gate_and_up_are_kept_and_nothing_else():
    gate, up = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        SwiGLU.apply(gate, up)
    assert [tensor.data_ptr() for tensor in kept] == [gate.data_ptr(), up.data_ptr()]


def test_another_activation_is_left_alone():
    own = mlp(hidden_act="gelu")
    fuse_swiglu(own)
    assert "forward" not in vars(own)


def test_a_copy_computes_with_its_own_weights():
    own = mlp()
    fuse_swiglu(own)
    other = copy.deepcopy(own)
    with torch.no_grad():
        other.down_proj.weight.zero_()
    assert other(torch.ones(1, 4)).abs().sum() == 0 < own(torch.ones(1, 4)).abs().sum()


@pytest.mark.parametrize(("family", "fused"), [("llama", 2), ("qwen2", 2), ("gemma2", 0), ("gpt2", 0)])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_every_swiglu_of_a_policy_is_fused(base_folder, family, fused, method):
    policy = Policy(PolicyArgs(base_folder(family), method=method))
    logits = policy.causal_lm(input_ids=torch.tensor([[1, 2, 3]])).logits
    assert sum(type(node).__name__ == "SwiGLUBackward" for node in set(graph(logits))) == fused
