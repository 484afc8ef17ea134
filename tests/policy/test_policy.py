"""Which weights are trained, in which precision and mode, and whether what is saved is what was trained."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from lemma.assets import resolve_base
from lemma.encoding import Example, padded
from lemma.policy import LoraArgs, Policy, PolicyArgs
from lemma.types import InputError

WARNINGS = "ignore::UserWarning"


def batch():
    rows = [Example("a", "s", [5, 6, 7, 8], [[9, 10, 11]]), Example("b", "s", [12, 3], [[4, 5, 6, 7, 8]])]
    return padded(rows, pad_id=0, window_weight=8.0)


def logits(model: nn.Module) -> torch.Tensor:
    """Return (2, 6, V) logits, without changing the mode of any module."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        out = model(torch.tensor([[5, 6, 7, 8, 9, 10], [12, 3, 4, 5, 6, 7]])).logits.float()
    for module, mode in modes.items():
        module.training = mode
    return out


def train(policy: Policy, steps: int = 3) -> Policy:
    """Take a few large steps, so that the trained weights differ from any initial ones."""
    optimizer = torch.optim.SGD([p for p in policy.parameters() if p.requires_grad], lr=0.5)
    for _ in range(steps):
        logps = policy(batch())
        (-logps.sum() / 8).backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy


@pytest.fixture(scope="module")
def trained(base_folder, tmp_path_factory):
    """Return a trained adapter's folder on the random Llama, and its logits."""
    policy = train(Policy(PolicyArgs(str(base_folder("llama")), lora=LoraArgs(r=4, alpha=8))))
    folder = tmp_path_factory.mktemp("adapter")
    policy.save(folder)
    return folder, logits(policy.model)


@pytest.fixture
def copied(trained, tmp_path):
    """Return a copy of the trained adapter that a test may spoil."""
    return shutil.copytree(trained[0], tmp_path / "adapter")


def set_config(folder, **changes) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# What is adapted


@pytest.mark.parametrize(
    ("family", "kind", "per_block"), [("llama", nn.Linear, 7), ("qwen2", nn.Linear, 7), ("gpt2", Conv1D, 4)]
)
def test_all_linear_adapts_every_linear_of_every_block_and_not_the_head(base_folder, family, kind, per_block):
    folder = str(base_folder(family))
    plain = AutoModelForCausalLM.from_pretrained(folder)
    head = plain.get_output_embeddings()
    linears = {name for name, module in plain.named_modules() if isinstance(module, kind) and module is not head}
    assert len(linears) == 2 * per_block
    policy = Policy(PolicyArgs(folder, lora=LoraArgs(r=3)))
    adapted = {name for name, module in policy.causal_lm.named_modules() if hasattr(module, "lora_A")}
    assert adapted == linears
    lora = {name for name, _ in policy.named_parameters() if "lora_" in name}
    assert policy.trainable_names() == lora
    assert len(lora) == 2 * len(linears)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_adapter_gets_a_gradient_and_the_base_none(base_folder, family):
    policy = Policy(PolicyArgs(str(base_folder(family)), lora=LoraArgs(r=3)))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))  # at 0 lora_A has no gradient
    policy(batch()).sum().backward()
    for name, parameter in policy.named_parameters():
        if "lora_" in name:
            assert parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_fresh_adapter_is_the_identity(base_folder, family):
    folder = str(base_folder(family))
    assert torch.equal(
        logits(Policy(PolicyArgs(folder)).model), logits(Policy(PolicyArgs(folder, method="full")).model)
    )


def test_the_update_is_scaled_by_alpha_over_r(base_folder):
    policy = Policy(PolicyArgs(str(base_folder("llama")), lora=LoraArgs(r=4, alpha=6.0, target_modules=["q_proj"])))
    q_proj = policy.causal_lm.model.layers[0].self_attn.q_proj
    lora_a, lora_b = q_proj.lora_A["default"].weight, q_proj.lora_B["default"].weight
    lora_b.data.normal_()
    x = torch.randn(5, 32)
    expected = q_proj.base_layer(x) + 6.0 / 4 * (x @ lora_a.T @ lora_b.T)
    torch.testing.assert_close(q_proj(x), expected)


def test_named_target_modules_are_the_only_ones_adapted(base_folder):
    policy = Policy(PolicyArgs(str(base_folder("llama")), lora=LoraArgs(target_modules=["q_proj", "v_proj"])))
    adapted = {name.split(".")[-1] for name, module in policy.causal_lm.named_modules() if hasattr(module, "lora_A")}
    assert adapted == {"q_proj", "v_proj"}
    with pytest.raises(InputError, match=r"model\.policy\.lora\.target_modules: .*nope"):
        Policy(PolicyArgs(str(base_folder("llama")), lora=LoraArgs(target_modules=["nope"])))


def test_full_fine_tuning_trains_every_weight(base_folder):
    policy = Policy(PolicyArgs(str(base_folder("llama")), method="full"))
    assert policy.trainable_names() == {name for name, _ in policy.named_parameters()}
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    train(policy, 1)
    assert all(not torch.equal(before[name], p) for name, p in policy.named_parameters())


# Mode and gradient checkpointing


@pytest.mark.parametrize("method", ["lora", "full"])
def test_every_module_is_in_training_mode_after_loading(base_folder, method):
    policy = Policy(PolicyArgs(str(base_folder("llama")), method=method, gradient_checkpointing=True))
    assert all(module.training for module in policy.modules())


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradient_checkpointing_recomputes_every_block_and_changes_no_gradient(base_folder, family, method):
    counts, gradients = [], []
    for checkpointing in (False, True):
        policy = Policy(PolicyArgs(str(base_folder(family)), method=method, gradient_checkpointing=checkpointing))
        generator = torch.Generator().manual_seed(0)
        for name, parameter in policy.named_parameters():
            if "lora_" in name:
                parameter.data.normal_(std=0.1, generator=generator)
        calls = []
        mlps = [module for name, module in policy.causal_lm.named_modules() if name.endswith(".mlp")]
        for mlp in mlps:
            mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        logps = policy(batch())
        assert len(calls) == len(mlps) == 2
        logps.sum().backward()
        counts.append(len(calls))
        gradients.append({name: p.grad for name, p in policy.named_parameters() if p.grad is not None})
    assert counts == [2, 4]  # with checkpointing the backward pass runs both blocks a second time
    without, with_ = gradients
    assert without.keys() == with_.keys()
    assert all(torch.allclose(with_[name], without[name], rtol=1e-5, atol=1e-6) for name in without)
    assert any(gradient.abs().max() > 1e-3 for gradient in without.values())


# Precision


def test_a_bf16_base_keeps_its_adapter_in_float32(base_folder):
    policy = Policy(PolicyArgs(str(base_folder("llama")), dtype="bfloat16"))
    dtypes = {("lora_" in name, parameter.dtype) for name, parameter in policy.named_parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}
    logps = policy(batch())
    assert logps.dtype == torch.float32
    logps.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in policy.parameters() if p.grad is not None)


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.bfloat16), ("float32", torch.float32)])
def test_auto_keeps_the_stored_precision(dtype, expected):
    policy = Policy(PolicyArgs("tiny", dtype=dtype, method="full"))  # tiny is stored in bf16
    assert {parameter.dtype for parameter in policy.parameters()} == {expected}


# Saving and continuing


def test_a_saved_adapter_gives_the_same_logits_through_plain_peft(base_folder, trained):
    folder, expected = trained
    base = AutoModelForCausalLM.from_pretrained(base_folder("llama"), dtype=torch.float32)
    before = logits(base)
    assert (before - expected).abs().max() > 0.1  # training changed something
    torch.testing.assert_close(logits(PeftModel.from_pretrained(base, folder)), expected, atol=1e-6, rtol=0)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == (str(base_folder("llama")), 4)


def test_a_saved_conv1d_adapter_gives_the_same_logits_through_plain_peft(base_folder, tmp_path):
    policy = train(Policy(PolicyArgs(str(base_folder("gpt2")), lora=LoraArgs(r=4))))
    policy.save(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(base_folder("gpt2"), dtype=torch.float32)
    before = logits(base)
    after = logits(PeftModel.from_pretrained(base, tmp_path))
    assert (before - after).abs().max() > 0.1
    torch.testing.assert_close(after, logits(policy.model), atol=1e-6, rtol=0)


def test_an_adapter_on_the_shipped_policy_names_a_base_that_peft_finds(tmp_path):
    policy = Policy(PolicyArgs("tiny"))
    policy.save(tmp_path)
    name = json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert name == resolve_base("tiny") != "tiny"


def test_continuing_an_adapter_trains_that_adapter(base_folder, trained, tmp_path):
    folder, expected = trained
    policy = Policy(PolicyArgs(str(base_folder("llama")), adapter=str(folder), lora=LoraArgs(r=16)))
    assert torch.equal(logits(policy.model), expected)
    assert policy.model.peft_config["default"].r == 4  # the adapter's rank replaces the one under lora
    assert list(policy.model.peft_config) == ["default"]
    assert policy.trainable_names() == {name for name, _ in policy.named_parameters() if "lora_" in name}
    assert all(module.training for module in policy.modules())
    train(policy)
    moved = logits(policy.model)
    assert (moved - expected).abs().max() > 0.01
    policy.save(tmp_path)
    again = Policy(PolicyArgs(str(base_folder("llama")), adapter=str(tmp_path)))
    assert torch.equal(logits(again.model), moved)
    assert (
        load_file(tmp_path / "adapter_model.safetensors").keys()
        == load_file(folder / "adapter_model.safetensors").keys()
    )


def test_a_saved_full_model_gives_the_same_logits(base_folder, tmp_path):
    policy = train(Policy(PolicyArgs(str(base_folder("llama")), method="full")), 1)
    policy.save(tmp_path)
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(policy.model), atol=1e-6, rtol=0
    )


def test_a_saved_full_model_still_stops_at_its_eos_under_plain_transformers(tmp_path):
    Policy(PolicyArgs("tiny", method="full")).save(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).generation_config.eos_token_id == 2


# Adapters that do not fit


@pytest.mark.filterwarnings(WARNINGS)
def test_an_adapter_of_another_base_is_refused_with_file_and_first_key(base_folder, tmp_path):
    Policy(PolicyArgs("tiny", lora=LoraArgs(r=4))).save(tmp_path)
    with pytest.raises(InputError) as error:
        Policy(PolicyArgs(str(base_folder("llama")), adapter=str(tmp_path)))
    message = str(error.value)
    assert f"{tmp_path / 'adapter_model.safetensors'}: the adapter does not fit the base" in message
    # tiny has 4 layers of 7 linears, 56 weights; the base's 2 layers have other shapes, and it lacks the other 2
    assert "56 weights differ" in message
    assert (
        "first base_model.model.model.layers.0.mlp.down_proj.lora_A.weight: adapter (4, 384), base (4, 48)" in message
    )


@pytest.mark.filterwarnings(WARNINGS)
def test_an_adapter_of_a_shallower_base_is_refused(tmp_path):
    def base(num_layers: int) -> str:
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 97}
        LlamaForCausalLM(LlamaConfig(num_hidden_layers=num_layers, **sizes)).save_pretrained(
            tmp_path / f"layers-{num_layers}"
        )
        return str(tmp_path / f"layers-{num_layers}")

    Policy(PolicyArgs(base(3))).save(tmp_path / "adapter")
    with pytest.raises(InputError, match=r"14 weights differ, first .*layers\.3\..*: adapter absent"):
        Policy(PolicyArgs(base(4), adapter=str(tmp_path / "adapter")))


@pytest.mark.filterwarnings(WARNINGS)
def test_an_adapter_that_lacks_a_weight_is_refused(base_folder, copied):
    path = copied / "adapter_model.safetensors"
    weights = load_file(path)
    missing = sorted(weights)[5]
    save_file({name: value for name, value in weights.items() if name != missing}, path)
    with pytest.raises(InputError, match=rf"1 weights differ, first {missing}: adapter absent"):
        Policy(PolicyArgs(str(base_folder("llama")), adapter=str(copied)))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_folder_without_a_file_is_refused_by_name(copied, name):
    (copied / name).unlink()
    with pytest.raises(InputError, match=rf"model\.policy\.adapter: {copied} is no adapter folder, {name} is missing"):
        PolicyArgs(adapter=str(copied))


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was read')",)


def test_a_pickled_adapter_is_never_read(base_folder, copied, trained):
    torch.save({"weights": Bomb()}, copied / "adapter_model.bin")
    with pytest.raises(SystemExit):  # the bomb works
        torch.load(copied / "adapter_model.bin", weights_only=False)
    policy = Policy(PolicyArgs(str(base_folder("llama")), adapter=str(copied)))
    assert torch.equal(logits(policy.model), trained[1])
    (copied / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"adapter_model\.safetensors is missing"):
        PolicyArgs(adapter=str(copied))


def test_a_pickled_base_is_never_read(base_folder, tmp_path):
    folder = shutil.copytree(base_folder("llama"), tmp_path / "base")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.policy\.base: no model could be loaded"):
        Policy(PolicyArgs(str(folder)))


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        pytest.param('{"peft_type": "FOO"}'),
    ],
)
def test_a_file_that_is_no_peft_configuration_is_refused_by_name(base_folder, copied, content):
    (copied / "adapter_config.json").write_text(content)
    with pytest.raises(InputError, match=r"adapter_config\.json: "):
        Policy(PolicyArgs(str(base_folder("llama")), adapter=str(copied)))


def test_an_adapter_that_is_no_lora_is_refused(base_folder, copied):
    (copied / "adapter_config.json").write_text('{"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3}')
    with pytest.raises(InputError, match=r"adapter_config\.json: expected peft_type LORA, but got .*PREFIX_TUNING"):
        Policy(PolicyArgs(str(base_folder("llama")), adapter=str(copied)))


@pytest.mark.filterwarnings(WARNINGS)
def test_an_adapter_whose_targets_are_not_in_the_base_is_refused(base_folder, copied):
    set_config(copied, target_modules=["nope"])
    with pytest.raises(InputError, match=r"adapter_config\.json: target_modules: .*nope"):
        Policy(PolicyArgs(str(base_folder("llama")), adapter=str(copied)))


@pytest.mark.filterwarnings(WARNINGS)
def test_a_half_written_adapter_is_an_input_error(base_folder, copied):
    path = copied / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors"):
        Policy(PolicyArgs(str(base_folder("llama")), adapter=str(copied)))


def test_another_base_of_the_same_shape_is_allowed_with_a_warning(base_folder, copied):
    set_config(copied, base_model_name_or_path="somewhere/else")
    with pytest.warns(UserWarning, match="was trained on 'somewhere/else'"):
        Policy(PolicyArgs(str(base_folder("llama")), adapter=str(copied)))


# Settings that cannot work


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int8"}, r"model\.policy\.dtype: expected one of float32, bfloat16, float16, auto, but got 'int8'"),
        ({"dtype": "nn"}, r"model\.policy\.dtype"),
        ({"adapter": "/nowhere", "method": "full"}, "adapter cannot be continued with"),
        ({"method": "qlorra"}, r"model\.policy\.method: expected .*lora.*full.*but got 'qlorra'"),
        ({"adapter": "/nowhere"}, "/nowhere is no adapter folder"),
    ],
)
def test_a_policy_that_cannot_work_is_refused_at_once(arguments, message):
    with pytest.raises(InputError, match=message):
        PolicyArgs(**arguments)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [({"r": 0}, "r"), ({"alpha": 0.0}, "alpha"), ({"dropout": 1.0}, "dropout"), ({"dropout": -0.1}, "dropout")],
)
def test_lora_out_of_range_is_refused_at_once(arguments, key):
    with pytest.raises(InputError, match=rf"model\.policy\.lora\.{key}: expected"):
        LoraArgs(**arguments)


def test_a_base_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"model\.policy\.base: no model could be loaded from .*absent"):
        Policy(PolicyArgs(str(tmp_path / "absent")))


def test_a_half_written_base_is_an_input_error(base_folder, tmp_path):
    folder = shutil.copytree(base_folder("llama"), tmp_path / "base")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.policy\.base"):
        Policy(PolicyArgs(str(folder)))


def test_a_base_whose_weights_do_not_match_its_config_is_an_input_error(base_folder, tmp_path):
    folder = shutil.copytree(base_folder("llama"), tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    with pytest.raises(InputError, match=r"model\.policy\.base"):
        Policy(PolicyArgs(str(folder)))


def test_a_base_that_lacks_a_weight_is_an_input_error(base_folder, tmp_path):
    folder = shutil.copytree(base_folder("llama"), tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="up_proj"):  # transformers fills it with random numbers and goes on
        Policy(PolicyArgs(str(folder)))


@pytest.mark.parametrize(
    "key",
    [
        "logit_scale",
        "logits_scaling",
        "lm_head_multiplier",
        pytest.param(
            "output_multiplier",  # Muse Glimmer, Muse Spark
        ),
    ],
)
def test_a_base_that_scales_its_logits_is_refused_rather_than_trained_wrong(base_folder, tmp_path, key):
    folder = shutil.copytree(base_folder("llama"), tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: 0.5}))
    with pytest.raises(InputError, match=f"sets {key}"):
        Policy(PolicyArgs(str(folder)))


def test_gemma_2_loads_with_the_default_attention(base_folder):
    Policy(PolicyArgs(str(base_folder("gemma2"))))


def test_gemma_2_loads_with_eager_attention(base_folder):
    policy = Policy(PolicyArgs(str(base_folder("gemma2")), attn_implementation="eager"))
    policy(batch()).sum().backward()
    assert all(p.grad is not None for p in policy.parameters() if p.requires_grad)


# At a temperature, and with entropies


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_logps_and_entropies_are_those_of_the_logits_over_the_temperature(base_folder, family, temperature):
    policy = Policy(PolicyArgs(str(base_folder(family)), lora=LoraArgs(r=3)))
    logps, entropy = policy(batch(), temperature=temperature, entropy="looked_at")
    table = (logits(policy.model) / temperature).log_softmax(-1)
    targets = torch.tensor([[9, 10, 11, 0, 0], [4, 5, 6, 7, 8]])
    rows = torch.stack([torch.cat([table[0, 3:5], table[0, 5:6], table[0, :2]]), table[1, 1:6]])  # (2, 5, V)
    expected = rows.gather(-1, targets[..., None]).squeeze(-1)
    mask = batch().mask
    assert (entropy[mask] > 0.01).all()
    torch.testing.assert_close(logps[mask], expected[mask], atol=2e-5, rtol=0)
    torch.testing.assert_close(entropy[mask], -(rows.exp() * rows).sum(-1)[mask], atol=2e-5, rtol=0)
    torch.testing.assert_close(policy(batch(), temperature=temperature), logps)
    assert not entropy.requires_grad
    assert policy(batch(), temperature=temperature, entropy="differentiated")[1].requires_grad


def test_a_temperature_is_refused_where_the_head_caps_its_logits(base_folder):
    policy = Policy(PolicyArgs(str(base_folder("gemma2"))))
    policy(batch(), temperature=1.0)
    with pytest.raises(InputError, match=r"model\.sampling\.temperature: expected 1, .* has a soft cap, but got 0\.7"):
        policy(batch(), temperature=0.7)
