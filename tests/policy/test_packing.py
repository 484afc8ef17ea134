"""Which models may share rows: what a configuration tells, what a trial tells, and that the trial leaves no trace."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    MptConfig,
)

from lemma.encoding import packed, padded
from lemma.policy import Policy, PolicyArgs
from lemma.policy.architecture import load_config
from lemma.policy.packing import check_packing, choose_layout, one_row
from lemma.types import InputError

FAMILIES = ("llama", "qwen2", "gemma2", "gemma3", "gpt2")


def config(tmp_path, made):
    made.save_pretrained(tmp_path)
    return load_config(str(tmp_path))


def test_a_model_of_attention_alone_is_packed(tmp_path):
    llama = config(tmp_path, LlamaConfig(num_hidden_layers=2))
    assert choose_layout("auto", llama) == ("packed", None)
    assert choose_layout("packed", llama) == ("packed", None)
    assert choose_layout("padded", llama) == ("padded", None)


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (Lfm2Config(num_hidden_layers=3, layer_types=["conv", "full_attention", "conv"]), "layers of type conv"),
        (MambaConfig(num_hidden_layers=2), "layers of type linear_attention"),
        (BloomConfig(n_layer=2), "the attention of bloom, which takes no position ids"),
    ],
)
def test_a_model_that_would_mix_sequences_is_padded_and_packed_is_refused(tmp_path, made, what):
    layout, why = choose_layout("auto", config(tmp_path, made))
    assert layout == "padded"
    assert what in why
    with pytest.raises(InputError, match=rf"data\.layout: packed .*{what}.*--data\.layout padded"):
        choose_layout("packed", load_config(str(tmp_path)))
    assert choose_layout("padded", load_config(str(tmp_path))) == ("padded", None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_known_families_pass_the_trial(base_folder, family, dtype):
    check_packing(Policy(PolicyArgs(str(base_folder(family)), dtype=dtype)), 97)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["bloom", "falcon", "mpt"])
def test_a_model_that_ignores_position_ids_is_refused_at_the_trial(tmp_path, family, dtype):
    torch.manual_seed(0)
    made = {
        "bloom": BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4),
        "falcon": FalconConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True),
        "mpt": MptConfig(vocab_size=97, d_model=32, n_layers=2, n_heads=4, max_seq_len=64),
    }[family]
    AutoModelForCausalLM.from_config(made).save_pretrained(tmp_path)
    policy = Policy(PolicyArgs(str(tmp_path), dtype=dtype))
    with pytest.raises(InputError, match=r"data\.layout: .*read each other.*--data\.layout padded"):
        check_packing(policy, 97)


def test_the_trial_leaves_no_trace(base_folder):
    policy = Policy(PolicyArgs(str(base_folder("llama"))))
    policy.causal_lm.model.layers[0].eval()  # a mixture of modes
    modes = [module.training for module in policy.modules()]
    state = torch.get_rng_state()
    check_packing(policy, 97)
    assert [module.training for module in policy.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in policy.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_joined_for_flash_attention_are_the_same_sequences(base_folder, ragged, family):
    policy = Policy(PolicyArgs(str(base_folder(family)), method="full"))
    batch = packed(ragged, pad_id=0, window_weight=1.0, row_length=30)
    assert len(batch.input_ids) > 1
    reference = policy(padded(ragged, pad_id=0, window_weight=1.0))
    shape = batch.input_ids.shape
    for kernel in ("sdpa", "eager", None):
        assert one_row(batch.input_ids, batch.position_ids, kernel)[0].shape == shape
    batch.input_ids, batch.position_ids = one_row(batch.input_ids, batch.position_ids, "flash_attention_2")
    assert batch.input_ids.shape == batch.position_ids.shape == (1, shape.numel())
    torch.testing.assert_close(policy(batch), reference, rtol=0, atol=1e-5)


@pytest.fixture
def ragged():
    from lemma.encoding import Example

    generator = torch.Generator().manual_seed(0)

    def ids(number: int) -> list[int]:
        return torch.randint(3, 97, (number,), generator=generator).tolist()

    shapes = [(11, [5, 9]), (1, [1]), (3, [24]), (1, [12]), (7, [2, 3, 8]), (4, [1])]
    return [Example(str(i), "s", ids(prompt), [ids(n) for n in lengths]) for i, (prompt, lengths) in enumerate(shapes)]
