"""The fused LoRA layer against PEFT's own: values, gradients, what it keeps, and where it leaves the work to PEFT."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear
from torch import Tensor, nn

from lemma.policy import LoraArgs, Policy, PolicyArgs
from lemma.policy.fused_lora import FusedLora, FusedLoraLinear, fuse

IN, OUT, RANK = 10, 7, 3


def layer(dtype: torch.dtype = torch.float32, *, bias: bool = True, **config) -> FusedLoraLinear:
    torch.manual_seed(0)
    model = get_peft_model(
        nn.ModuleDict({"own": nn.Linear(IN, OUT, bias=bias)}),
        LoraConfig(r=RANK, lora_alpha=7, target_modules=["own"], init_lora_weights=False, **config),
    )
    fuse(model)
    return model.base_model.model["own"].to(dtype)


def states(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 5, IN, generator=generator).to(dtype).requires_grad_()
    return x, torch.randn(2, 5, OUT, generator=generator)


def outcome(own: FusedLoraLinear, forward, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    x, weights = states(dtype)
    own.zero_grad()
    value = forward(own, x)
    (value.float() * weights).sum().backward()
    grads = {name: parameter.grad for name, parameter in own.named_parameters() if parameter.requires_grad}
    return {"value": value.detach(), "x": x.grad} | grads


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """Count the calls of the fused function."""
    counted, apply = [], FusedLora.apply
    monkeypatch.setattr(FusedLora, "apply", lambda *inputs: counted.append(1) or apply(*inputs))
    return counted


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_values_and_gradients_are_pefts(dtype, bias, calls):
    own = layer(dtype, bias=bias)
    fused, peft = (outcome(own, forward, dtype) for forward in (FusedLoraLinear.forward, Linear.forward))
    assert len(calls) == 1
    assert set(fused) == set(peft) == {"value", "x", "lora_A.default.weight", "lora_B.default.weight"}
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    for name, value in fused.items():
        assert value.dtype == peft[name].dtype
        torch.testing.assert_close(value, peft[name], rtol=tolerance, atol=tolerance)


def test_gradients_are_those_of_finite_differences():
    own, (x, _) = layer(torch.float64), states(torch.float64)
    down, up = own.lora_A["default"].weight, own.lora_B["default"].weight

    def fused(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        base = own.base_layer
        return FusedLora.apply(x, base.weight, base.bias, down, up, own.scaling["default"], torch.float64)

    assert torch.autograd.gradcheck(fused, (x, down, up))


@pytest.mark.parametrize("base_dtype", [torch.float32, torch.bfloat16])
def test_autocast_computes_in_its_type_and_gives_gradients_in_the_weights_own(base_dtype, calls):
    own = layer()
    own.base_layer.to(base_dtype)

    def under_autocast(forward):
        def run(own: FusedLoraLinear, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return forward(own, x)

        return run

    fused, peft = (outcome(own, under_autocast(forward)) for forward in (FusedLoraLinear.forward, Linear.forward))
    assert len(calls) == 1
    assert fused["value"].dtype == torch.bfloat16
    for name, value in fused.items():
        assert value.dtype == peft[name].dtype
        torch.testing.assert_close(value, peft[name], rtol=3e-2, atol=3e-2)


def test_an_input_without_gradient_gets_none_and_an_adapter_without_gradient_none(calls):
    own, (x, weights) = layer(), states()
    (own(x.detach()) * weights).sum().backward()
    assert x.grad is None
    assert all(weight.grad is not None for weight in (own.lora_A["default"].weight, own.lora_B["default"].weight))
    own.zero_grad()
    own.requires_grad_(False)
    (own(x) * weights).sum().backward()
    assert x.grad is not None
    assert all(weight.grad is None for weight in own.parameters())
    assert len(calls) == 2


def test_nothing_wide_is_kept_but_the_input_and_the_weights():
    own, (x, _) = layer(), states()
    known = {tensor.data_ptr() for tensor in (x, *own.parameters())}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        own(x)
    assert [tuple(tensor.shape) for tensor in kept if tensor.data_ptr() not in known] == [(10, RANK)]


def bf16_base() -> FusedLoraLinear:
    own = layer()
    own.base_layer.to(torch.bfloat16)
    return own


def trained_bias() -> FusedLoraLinear:
    own = layer()
    own.base_layer.bias.requires_grad_(True)
    return own


def two_adapters() -> FusedLoraLinear:
    own = layer()
    own.update_layer("second", r=2, lora_alpha=2, config=LoraConfig(init_lora_weights=False))
    own.set_adapter(["default", "second"])
    return own


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (lambda: layer(lora_dropout=0.5), torch.float32),
        (lambda: layer(use_dora=True), torch.float32),
        (lambda: layer(lora_bias=True), torch.float32),
        (two_adapters, torch.float32),
        (trained_bias, torch.float32),
        (bf16_base, torch.bfloat16),
    ],
    ids=["dropout", "dora", "lora_bias", "two adapters", "trained bias", "bf16 base"],
)
def test_what_is_not_one_plain_adapter_of_one_precision_is_left_to_peft(make, dtype, calls):
    own = make()
    found = []
    for forward in (FusedLoraLinear.forward, Linear.forward):
        torch.manual_seed(2)
        found.append(outcome(own, forward, dtype))
    assert not calls
    assert set(found[0]) == set(found[1])
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name])


def test_dropout_out_of_training_is_fused(calls):
    own = layer(lora_dropout=0.5).eval()
    x, _ = states()
    torch.testing.assert_close(own(x), Linear.forward(own, x))
    assert len(calls) == 1


def test_adapters_that_are_off_or_merged_cost_nothing(calls):
    own, (x, _) = layer(), states()
    together = own(x)
    own.merge()
    torch.testing.assert_close(own(x), together)
    own.unmerge()
    own.enable_adapters(False)
    torch.testing.assert_close(own(x), own.base_layer(x))
    assert len(calls) == 1


def test_weights_that_are_gathered_for_a_call_are_left_to_pefts_calls(calls):
    class Gathering(dict):
        pass

    own, (x, _) = layer(), states()
    own.base_layer._parameters = Gathering(own.base_layer._parameters)
    own(x)
    assert not calls


@pytest.mark.parametrize(("lora", "fused"), [(LoraArgs(r=2), 7), (LoraArgs(r=2, use_rslora=True), 7)])
def test_every_adapted_layer_of_a_policy_is_fused(base_folder, lora, fused, calls):
    policy = Policy(PolicyArgs(base_folder("llama"), lora=lora))
    assert sum(type(module) is FusedLoraLinear for module in policy.modules()) == 2 * fused
    policy.causal_lm(input_ids=torch.tensor([[1, 2, 3]]))
    assert len(calls) == 2 * fused
