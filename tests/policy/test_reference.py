"""The reference is the policy as it began, whatever was trained since, and asking it changes nothing."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config

from lemma.encoding import Example, padded, shared_prefix
from lemma.policy import LoraArgs, Policy, PolicyArgs, QuantizationArgs
from lemma.types import InputError

LORA = LoraArgs(r=4, alpha=8, dropout=0.3)
MODES = {
    "fresh": {"lora": LORA},
    "dora": {"lora": LoraArgs(r=4, use_dora=True)},
    "rslora": {"lora": LoraArgs(r=4, use_rslora=True)},
    "nf4": {"lora": LORA, "quantization": QuantizationArgs("nf4")},
    "int8": {"lora": LORA, "quantization": QuantizationArgs("int8")},
    "checkpointing": {"lora": LORA, "gradient_checkpointing": True},
    "full": {"method": "full"},
    "full checkpointing": {"method": "full", "gradient_checkpointing": True},
    "continued": {"adapter": True},
    "continued nf4": {"adapter": True, "quantization": QuantizationArgs("nf4")},
    "continued int8": {"adapter": True, "quantization": QuantizationArgs("int8")},
}


def batch(layout=shared_prefix):
    rows = [Example("a", "s", [5, 6, 7, 8], [[9, 10, 11], [12, 4]]), Example("b", "s", [12, 3], [[4, 5, 6], [7, 8, 8]])]
    return layout(rows, pad_id=0, window_weight=8.0, **({} if layout is padded else {"row_length": 20}))


def train(policy: Policy, steps: int = 3) -> Policy:
    optimizer = torch.optim.SGD([p for p in policy.parameters() if p.requires_grad], lr=0.2)
    for _ in range(steps):
        (-policy(batch()).sum() / 8).backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy


def reference(policy: Policy) -> torch.Tensor:
    with policy.as_reference():
        return policy(batch())


@pytest.fixture(scope="module")
def adapter(base_folder, tmp_path_factory):
    """Return the folder of a trained adapter with dropout."""
    folder = tmp_path_factory.mktemp("adapter")
    train(Policy(PolicyArgs(str(base_folder("llama")), lora=LORA))).save(folder)
    return folder


@pytest.fixture
def make(base_folder, adapter):
    """Return a function from the name of a mode to a policy with its reference."""

    def make(mode: str, family: str = "llama") -> Policy:
        options = dict(MODES[mode])
        if options.get("adapter"):
            options["adapter"] = str(adapter)
        policy = Policy(PolicyArgs(str(base_folder(family)), **options))
        policy.add_reference()
        return policy

    return make


@pytest.mark.parametrize("mode", MODES)
def test_at_the_beginning_policy_and_reference_are_equal(make, mode):
    policy = make(mode)
    policy.disable_dropout()
    logps = policy(batch())
    assert logps.std() > 0.01
    assert (logps - reference(policy)).abs().max() <= 1e-6


@pytest.mark.parametrize("mode", MODES)
def test_training_moves_the_policy_and_leaves_the_reference_bit_for_bit(make, mode):
    policy = make(mode)
    before, flags = reference(policy), {name: p.requires_grad for name, p in policy.named_parameters()}
    start = policy.eval()(batch()).detach()
    train(policy.train())
    assert torch.equal(reference(policy), before)
    assert (policy.eval()(batch()) - start).abs().max() > 0.01
    assert {name: p.requires_grad for name, p in policy.named_parameters()} == flags
    assert not any("reference" in name for name in policy.trainable_names())


@pytest.mark.parametrize("mode", ["fresh", "int8", "continued", "full checkpointing"])
def test_asking_the_reference_leaves_no_trace_even_when_it_fails(make, mode):
    policy = make(mode)
    policy.causal_lm.model.layers[0].eval()  # a mixture of modes

    def traces():
        modules = list(policy.modules())
        switches = [(getattr(m, "_disable_adapters", None), str(getattr(m, "_active_adapter", None))) for m in modules]
        flags = [p.requires_grad for p in policy.parameters()]
        return [m.training for m in modules], switches, flags, torch.get_rng_state().tolist(), policy.causal_lm

    def ask_and_fail():
        with policy.as_reference():
            assert [p.requires_grad for p in policy.parameters()] == before[2]
            assert not policy(batch()).requires_grad
            assert not any(m.training for m in policy.modules() if isinstance(m, nn.Dropout))
            raise RuntimeError("inside")

    before = traces()
    with pytest.raises(RuntimeError, match="inside"):
        ask_and_fail()
    assert traces() == before
    assert policy(batch()).requires_grad


def test_adding_a_reference_draws_nothing_and_changes_nothing_of_the_policy(base_folder, adapter):
    policy = Policy(PolicyArgs(str(base_folder("llama")), adapter=str(adapter)))
    state, names = torch.get_rng_state(), policy.trainable_names()
    logps, weights = policy.eval()(batch()), {n: p.detach().clone() for n, p in policy.named_parameters()}
    policy.add_reference()
    assert torch.equal(torch.get_rng_state(), state)
    assert policy.trainable_names() == names
    assert torch.equal(policy(batch()), logps)
    assert all(torch.equal(p, weights[n]) for n, p in policy.named_parameters() if n in weights)
    added = {n: p for n, p in policy.named_parameters() if n not in weights}
    assert len(added) == len(names)
    assert {(p.dtype, p.requires_grad) for p in added.values()} == {(torch.float32, False)}


def test_a_bfloat16_base_keeps_its_reference_adapter_in_float32_even_when_all_is_cast(base_folder, adapter):
    policy = Policy(PolicyArgs(str(base_folder("llama")), adapter=str(adapter), dtype="bfloat16"))
    policy.add_reference()
    policy.to(torch.bfloat16)
    policy.disable_dropout()
    assert {p.dtype for n, p in policy.named_parameters() if ".lora_" in n} == {torch.float32}
    assert (policy(batch()) - reference(policy)).abs().max() == 0


@pytest.mark.parametrize("mode", ["continued", "full"])
def test_what_is_saved_is_the_policy_without_its_reference(make, base_folder, adapter, tmp_path, mode):
    policy = train(make(mode))
    policy.save(tmp_path)
    expected = policy.eval()(batch()).detach()
    if mode == "full":
        again = Policy(PolicyArgs(str(tmp_path), method="full"))
    else:
        assert {p.name for p in tmp_path.iterdir()} == {p.name for p in adapter.iterdir()}
        keys = load_file(tmp_path / "adapter_model.safetensors").keys()
        assert keys == load_file(adapter / "adapter_model.safetensors").keys()
        again = Policy(PolicyArgs(str(base_folder("llama")), adapter=str(tmp_path)))
    assert (again.eval()(batch()) - expected).abs().max() <= 1e-6
    again.add_reference()
    assert (again(batch()) - expected).abs().max() <= 1e-6
    assert (reference(again) - expected).abs().max() <= 1e-6


def test_merging_takes_the_trained_adapter_alone(make):
    policy = train(make("continued"))
    expected = policy.eval()(batch()).detach()
    policy.model = policy.model.merge_and_unload()
    policy.has_adapter = False
    torch.testing.assert_close(policy(batch()), expected, rtol=0, atol=1e-4)


def test_an_adapter_that_trains_weights_of_the_base_has_no_reference(make):
    policy = make("fresh")
    policy.args = PolicyArgs(policy.args.base)
    policy.model.peft_config["default"].bias = "all"
    from lemma.policy.reference import copy_adapter

    with pytest.raises(InputError, match=r"model\.policy\.adapter: its bias is all"):
        copy_adapter(policy.model)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_without_dropout_training_mode_computes_what_evaluation_mode_does(tmp_path, attention):
    made = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=97, attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5)
    AutoModelForCausalLM.from_config(made).save_pretrained(tmp_path / "gpt2")
    policy = Policy(PolicyArgs(str(tmp_path / "gpt2"), lora=LORA, attn_implementation=attention))
    assert not torch.equal(policy(batch()), policy(batch()))
    policy.disable_dropout()
    assert torch.equal(policy(batch()), policy.eval()(batch()))


def test_dropout_that_is_a_number_of_the_layer_is_turned_off(base_folder):
    policy = Policy(PolicyArgs(str(base_folder("llama")), method="full"))
    for layer in policy.causal_lm.model.layers:
        layer.self_attn.attention_dropout = 0.5
    assert not torch.equal(policy(batch()), policy(batch()))
    policy.disable_dropout()
    assert torch.equal(policy(batch()), policy(batch()))
