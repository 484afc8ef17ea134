"""Whether a quantised base trains under every variant of LoRA, keeps its bits, and is refused where it cannot."""

import itertools
from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Gemma3TextConfig, GPT2Config, LlamaConfig
from transformers.pytorch_utils import Conv1D

from lemma.encoding import Example, padded
from lemma.generation import SamplingArgs, generate
from lemma.policy import LoraArgs, Policy, PolicyArgs, QuantizationArgs
from lemma.types import InputError

QUANTIZATIONS = {
    "none": QuantizationArgs(),
    "int8": QuantizationArgs("int8"),
    "nf4": QuantizationArgs("nf4"),
    "nf4-single": QuantizationArgs("nf4", double=False),
    "nf4-bf16-compute": QuantizationArgs("nf4", compute_dtype="bfloat16"),
    "nf4-bf16-storage": QuantizationArgs("nf4", storage_dtype="bfloat16"),
    "nf4-f32-storage": QuantizationArgs("nf4", compute_dtype="float32", storage_dtype="float32"),
}
VARIANTS = {
    "lora": LoraArgs(r=4, alpha=8),
    "rslora": LoraArgs(r=4, alpha=8, use_rslora=True),
    "dora": LoraArgs(r=4, alpha=8, use_dora=True),
    "both": LoraArgs(r=4, alpha=8, use_rslora=True, use_dora=True),
}
WIDTHS = {"vocab_size": 97, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "head_dim": 16}
WIDTHS |= {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "llama": lambda: LlamaConfig(**WIDTHS),
    "gemma3": lambda: Gemma3TextConfig(**WIDTHS, sliding_window=8, layer_types=["full_attention"]),
    "gpt2": lambda: GPT2Config(
        n_embd=64, n_layer=1, n_head=4, vocab_size=97, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    ),
}
BATCH = padded(
    [Example("a", "s", [5, 6, 7, 8], [[9, 10, 11]]), Example("b", "s", [12, 3], [[4, 5, 6, 7, 8]])],
    pad_id=0,
    window_weight=8.0,
)


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory):
    """Return a function of a family to the folder of a random one-layer base of it, a block of 64 weights wide."""
    folders = {}
    for family, config in CONFIGS.items():
        torch.manual_seed(0)
        folders[family] = tmp_path_factory.mktemp("wide") / family
        AutoModelForCausalLM.from_config(config()).save_pretrained(folders[family])
    return lambda family: str(folders[family])


def train(policy: Policy, steps: int = 4, lr: float = 0.01) -> list[float]:
    """Return the loss, nats a token, before each of a few steps and after the last."""
    optimizer = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], lr=lr)
    losses = []
    for _ in range(steps):
        loss = -policy(BATCH).sum() / 8
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return [*losses, -policy(BATCH).sum().item() / 8]


def frozen(policy: Policy) -> dict[str, Tensor]:
    """Return a copy of every weight that is not trained, with the constants that belong to quantised bits."""
    trained = policy.trainable_names()
    return {
        name: value.clone() for name, value in policy.state_dict().items() if name not in trained and ".SCB" not in name
    }


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal bit by bit: quantised bits labelled as floats may read as nan."""
    return one.dtype == other.dtype and torch.equal(*(t.reshape(-1).view(torch.uint8) for t in (one, other)))


def logps(policy: Policy) -> Tensor:
    with torch.no_grad():
        return policy(BATCH)


def check_trains_and_continues(args: PolicyArgs, folder: Path) -> None:
    torch.manual_seed(0)
    policy = Policy(args)
    base = frozen(policy)
    before = {name: p.detach().clone() for name, p in policy.named_parameters() if p.requires_grad}
    assert {p.dtype for p in before.values()} == {torch.float32}
    losses = train(policy)
    assert sorted(losses, reverse=True) == losses
    assert losses[0] - losses[-1] > 0.05
    for name, parameter in policy.named_parameters():
        if name in before:
            assert parameter.dtype == torch.float32, name
            assert not torch.equal(parameter, before[name]), name
    after = frozen(policy)
    assert after.keys() == base.keys()
    assert all(same_bits(after[name], value) for name, value in base.items())

    policy.save(folder)
    assert {t.dtype for t in load_file(folder / "adapter_model.safetensors").values()} == {torch.float32}
    plain = PolicyArgs(args.base, dtype=args.dtype, quantization=args.quantization, adapter=str(folder))
    continued = Policy(plain)
    assert torch.equal(logps(continued), logps(policy))
    assert continued.trainable_names() == policy.trainable_names()
    assert train(continued, 2, lr=0.001)[-1] < losses[-1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("method", QUANTIZATIONS)
def test_every_combination_trains_saves_and_continues_or_is_refused(wide_folder, tmp_path, method, variant, dtype):
    for checkpointing in (False, True):
        args = PolicyArgs(
            wide_folder("llama"), dtype=dtype, lora=VARIANTS[variant], quantization=QUANTIZATIONS[method],
            gradient_checkpointing=checkpointing,
        )  # fmt: skip
        if method == "int8" and VARIANTS[variant].use_dora:
            with pytest.raises(InputError, match=r"use_dora: DoRA cannot be trained on int8 weights on a CPU.*nf4"):
                Policy(args)
        else:
            check_trains_and_continues(args, tmp_path / str(checkpointing))


@pytest.mark.parametrize(("family", "linears"), [("gpt2", 4), ("gemma3", 7)])
@pytest.mark.parametrize(
    ("method", "variant"), [("none", "dora"), ("int8", "rslora"), ("nf4", "dora"), ("nf4-bf16-storage", "lora")]
)
def test_other_families_train_quantised(wide_folder, tmp_path, family, linears, method, variant):
    args = PolicyArgs(wide_folder(family), dtype="bfloat16", lora=VARIANTS[variant], quantization=QUANTIZATIONS[method])
    layers = [module for module in Policy(args).modules() if hasattr(module, "lora_A")]
    assert len(layers) == linears
    plain = Conv1D if family == "gpt2" else nn.Linear
    kind = {"none": plain, "int8": bnb.nn.Linear8bitLt}.get(method, bnb.nn.Linear4bit)
    assert all(type(layer.get_base_layer()) is kind for layer in layers)
    check_trains_and_continues(args, tmp_path)


# What is stored, and what is computed in


def test_every_linear_but_the_head_is_stored_as_asked(wide_folder):
    base = wide_folder("llama")

    def stored(args: QuantizationArgs, dtype: str = "bfloat16") -> tuple[bnb.nn.Linear4bit, set]:
        policy = Policy(PolicyArgs(base, dtype=dtype, quantization=args))
        assert policy.causal_lm.lm_head.weight.dtype == getattr(torch, dtype)
        layers = [m for m in policy.modules() if isinstance(m, bnb.nn.Linear4bit)]
        assert len(layers) == 7
        q_proj = policy.causal_lm.model.layers[0].self_attn.q_proj.get_base_layer()
        return q_proj, {layer.compute_dtype for layer in layers}

    layer, compute = stored(QuantizationArgs("nf4"))
    assert (layer.weight.dtype, layer.weight.numel()) == (torch.uint8, 64 * 64 // 2)
    assert (layer.weight.quant_state.quant_type, layer.weight.quant_state.nested) == ("nf4", True)
    assert compute == {torch.bfloat16}  # auto
    assert stored(QuantizationArgs("nf4"), "float32")[1] == {torch.float32}
    assert stored(QuantizationArgs("nf4", compute_dtype="float32"))[1] == {torch.float32}
    assert not stored(QuantizationArgs("nf4", double=False))[0].weight.quant_state.nested
    layer, _ = stored(QuantizationArgs("nf4", storage_dtype="float32"))
    assert (layer.weight.dtype, layer.weight.numel()) == (torch.float32, 64 * 64 // 8)
    policy = Policy(PolicyArgs(base, quantization=QuantizationArgs("int8")))
    assert policy.causal_lm.model.layers[0].self_attn.q_proj.weight.dtype == torch.int8


@pytest.mark.parametrize("method", ["int8", "nf4"])
def test_quantised_weights_are_those_of_the_base_up_to_their_grid(wide_folder, method):
    q_proj = Policy(PolicyArgs(wide_folder("llama"), quantization=QUANTIZATIONS[method])).causal_lm.model.layers[0]
    plain = Policy(PolicyArgs(wide_folder("llama"))).causal_lm.model.layers[0].self_attn.q_proj.weight
    weight = q_proj.self_attn.q_proj.get_base_layer().weight
    if method == "int8":
        found = weight.data * weight.SCB[:, None] / 127
        step = plain.abs().amax(1, keepdim=True) / 127  # of a row: 127 steps up to its largest weight
        # half a step, and float16 on the way: up to 127 steps times 2^-11
        assert ((found - plain).abs() <= (0.5 + 127 / 2048) * step).all()
    else:
        found = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
        largest = plain.reshape(-1, 64).abs().amax(1).repeat_interleave(64).view_as(plain)
        # widest gap of the 16 levels: -1 to -0.6962
        assert ((found - plain).abs() <= 0.16 * largest).all()
    assert (found - plain).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [("nf4", 1e-5), ("int8", 0.02)],  # in evaluation bitsandbytes' int8 rounds activations to 8 bits too
)
def test_an_evaluation_changes_no_gradient_of_a_quantised_base(wide_folder, method, tolerance):
    policy = Policy(PolicyArgs(wide_folder("llama"), quantization=QuantizationArgs(method)))
    train(policy, 1)

    def gradients() -> dict[str, Tensor]:
        policy.zero_grad()
        policy(BATCH).sum().backward()
        return {name: p.grad for name, p in policy.named_parameters() if p.requires_grad}

    trained, expected = logps(policy), gradients()
    policy.eval()
    evaluated = logps(policy)
    policy.train()
    found = gradients()
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
    assert torch.equal(logps(policy), trained)
    torch.testing.assert_close(evaluated, trained, atol=tolerance, rtol=0)


def test_rslora_scales_the_update_by_alpha_over_the_root_of_r(wide_folder):
    lora = LoraArgs(r=9, alpha=6.0, target_modules=["q_proj"], use_rslora=True)
    q_proj = Policy(PolicyArgs(wide_folder("llama"), lora=lora)).causal_lm.model.layers[0].self_attn.q_proj
    lora_a, lora_b = q_proj.lora_A["default"].weight, q_proj.lora_B["default"].weight
    lora_b.data.normal_()
    x = torch.randn(5, 64)
    expected = q_proj.base_layer(x) + 2.0 * (x @ lora_a.T @ lora_b.T)  # 6 / sqrt(9) = 2
    torch.testing.assert_close(q_proj(x), expected)


def test_dora_gives_every_output_the_trained_length_times_the_updated_direction(wide_folder):
    lora = LoraArgs(r=4, alpha=6.0, target_modules=["q_proj"], use_dora=True)
    q_proj = Policy(PolicyArgs(wide_folder("llama"), lora=lora)).causal_lm.model.layers[0].self_attn.q_proj
    lora_a, lora_b = q_proj.lora_A["default"].weight, q_proj.lora_B["default"].weight
    length = q_proj.lora_magnitude_vector["default"].weight
    torch.testing.assert_close(length.data, q_proj.base_layer.weight.norm(dim=1))
    lora_b.data.normal_()
    length.data.uniform_(0.5, 2.0)
    updated = q_proj.base_layer.weight + 6.0 / 4 * lora_b @ lora_a  # (out, in)
    x = torch.randn(5, 64)
    expected = x @ (length[:, None] * updated / updated.norm(dim=1, keepdim=True)).T
    torch.testing.assert_close(q_proj(x), expected, atol=1e-5, rtol=1e-5)


def test_a_quantised_policy_generates_as_the_base_does(encoder, problems):
    sampling = SamplingArgs(num_samples=1, max_new_tokens=24)
    policy = Policy(PolicyArgs("tiny", quantization=QuantizationArgs("nf4")))
    together = generate(policy.model, problems[:3], encoder, sampling)
    assert [[completion.sample for completion in row] for row in together] == [[-1, 0]] * 3
    alone = [generate(policy.model, [problem], encoder, sampling)[0] for problem in problems[:3]]
    assert [[c.text for c in row] for row in together] == [[c.text for c in row] for row in alone]
    plain = generate(Policy(PolicyArgs("tiny")).model, problems[:3], encoder, sampling)
    # 4 bits change some answers of the tiny policy, but not that it writes a solution and stops
    assert any(ours[0].text[:8] == theirs[0].text[:8] for ours, theirs in zip(together, plain, strict=True))


# A base that is stored quantised


def test_a_base_stored_in_nf4_trains_under_lora_and_is_not_quantised_twice(wide_folder, tmp_path):
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    AutoModelForCausalLM.from_pretrained(wide_folder("llama"), quantization_config=config).save_pretrained(tmp_path)
    policy = Policy(PolicyArgs(str(tmp_path)))
    assert not any(m.support_avx512bf16_for_cpu for m in policy.modules() if isinstance(m, bnb.nn.Linear4bit))
    losses = train(policy)
    assert losses[-1] < losses[0]
    with pytest.raises(InputError, match=r"quantization\.method: .* is stored quantised already; set method none"):
        Policy(PolicyArgs(str(tmp_path), quantization=QuantizationArgs("nf4")))
    with pytest.raises(InputError, match=r"model\.policy\.base: .* is stored quantised; only method lora"):
        Policy(PolicyArgs(str(tmp_path), method="full"))


# Settings that cannot work


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "int4"}, r"quantization\.method: expected one of none, int8, nf4, but got 'int4'"),
        ({"method": "nf4", "compute_dtype": "int8"}, r"quantization\.compute_dtype: expected one of .*auto"),
        ({"method": "nf4", "storage_dtype": "auto"}, r"quantization\.storage_dtype: expected one of uint8"),
        ({"method": "int8", "double": False}, r"quantization\.double: False is a setting of nf4, which method int8"),
        ({"method": "int8", "compute_dtype": "bfloat16"}, r"quantization\.compute_dtype: bfloat16 is a setting of nf4"),
        ({"storage_dtype": "bfloat16"}, r"quantization\.storage_dtype: .* which method none would ignore.*uint8"),
    ],
)
def test_quantisation_that_cannot_work_is_refused_at_once(arguments, message):
    with pytest.raises(InputError, match=message):
        QuantizationArgs(**arguments)


def test_full_fine_tuning_of_quantised_weights_is_refused_at_once():
    with pytest.raises(InputError, match=r"quantization\.method: weights stored as nf4 cannot be trained.*method lora"):
        PolicyArgs(method="full", quantization=QuantizationArgs("nf4"))


def test_a_dora_adapter_is_not_continued_on_int8_on_a_cpu(wide_folder, tmp_path):
    Policy(PolicyArgs(wide_folder("llama"), lora=VARIANTS["dora"])).save(tmp_path)
    with pytest.raises(InputError, match="DoRA cannot be trained on int8 weights on a CPU"):
        Policy(PolicyArgs(wide_folder("llama"), adapter=str(tmp_path), quantization=QuantizationArgs("int8")))


# Casts of the whole module, as Lightning's precision plugins do


@pytest.mark.parametrize(
    ("method", "dtypes"),
    list(itertools.product(["none", "int8", "nf4", "nf4-bf16-storage", "nf4-f32-storage"], ["bfloat16", "float32"])),
)
def test_a_cast_to_bf16_and_back_leaves_adapter_and_quantised_bits_as_they_were(wide_folder, method, dtypes):
    policy = Policy(PolicyArgs(wide_folder("llama"), dtype=dtypes, quantization=QUANTIZATIONS[method]))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()

    def kept() -> dict[str, Tensor]:
        return {n: v.clone() for n, v in policy.state_dict().items() if "lora_" in n or "base_layer" in n}

    before, expected = kept(), logps(policy)
    policy.to(dtype=torch.bfloat16)
    names = {name for name in before if method != "none" or "lora_" in name}
    assert len(names) >= (14 if method == "none" else 21)
    after = kept()
    assert all(same_bits(after[name], before[name]) for name in names)
    assert policy.causal_lm.lm_head.weight.dtype == torch.bfloat16
    policy.to(torch.float32)
    policy.to("cpu")
    assert all(same_bits(kept()[name], before[name]) for name in names)
    torch.testing.assert_close(logps(policy), expected, atol=0.05, rtol=0)  # embeddings, norms and head were rounded
    losses = train(policy)
    assert losses[-1] < losses[0]


def test_float64_widens_the_adapter_and_the_base(wide_folder):
    policy = Policy(PolicyArgs(wide_folder("llama"))).double()
    assert {p.dtype for p in policy.parameters()} == {torch.float64}
    assert logps(policy).dtype == torch.float64
    quantized = Policy(PolicyArgs(wide_folder("llama"), quantization=QUANTIZATIONS["nf4-f32-storage"]))
    expected = logps(quantized)
    quantized.double()
    assert {p.dtype for n, p in quantized.named_parameters() if "lora_" in n} == {torch.float64}
    torch.testing.assert_close(logps(quantized).float(), expected, atol=1e-5, rtol=0)


def test_gradients_follow_the_adapter_through_a_cast(wide_folder):
    policy = Policy(PolicyArgs(wide_folder("llama")))
    policy(BATCH).sum().backward()
    policy.to(torch.bfloat16)
    assert {p.grad.dtype for p in policy.parameters() if p.grad is not None} == {torch.float32}


def test_full_fine_tuning_follows_the_precision(wide_folder):
    policy = Policy(PolicyArgs(wide_folder("llama"), method="full")).to(torch.bfloat16)
    assert {p.dtype for p in policy.parameters()} == {torch.bfloat16}


def test_an_adapter_begins_the_same_whatever_the_default_data_type(wide_folder):
    def fresh() -> dict[str, Tensor]:
        torch.manual_seed(1)
        return {n: p for n, p in Policy(PolicyArgs(wide_folder("llama"))).named_parameters() if "lora_" in n}

    expected = fresh()
    torch.set_default_dtype(torch.bfloat16)  # as Lightning does around configure_model under bf16-true
    try:
        found = fresh()
        assert torch.get_default_dtype() == torch.bfloat16
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
