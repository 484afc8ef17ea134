"""Which models may share rows: what a configuration tells, what a trial tells, and that the trial leaves no trace."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    GPTNeoConfig,
    Lfm2Config,
    Llama4TextConfig,
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


def test_a_model_of_attention_alone_is_packed_and_shares_prompts(tmp_path):
    llama = config(tmp_path, LlamaConfig(num_hidden_layers=2))
    assert choose_layout("auto", llama) == ("packed", None)
    assert choose_layout("auto", llama, shares_prompts=True) == ("shared_prefix", None)
    assert choose_layout("auto", llama, shares_prompts=True, attention="eager") == ("shared_prefix", None)
    assert choose_layout("shared_prefix", llama) == ("shared_prefix", None)
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
    loaded = config(tmp_path, made)
    for shares_prompts in (False, True):
        layout, why = choose_layout("auto", loaded, shares_prompts=shares_prompts)
        assert layout == "padded"
        assert what in why
    for layout in ("packed", "shared_prefix"):
        with pytest.raises(InputError, match=rf"data\.layout: {layout} .*{what}.*--data\.layout padded"):
            choose_layout(layout, loaded)
    assert choose_layout("padded", load_config(str(tmp_path))) == ("padded", None)


@pytest.mark.parametrize(
    ("made", "attention", "what"),
    [
        (LlamaConfig(num_hidden_layers=2), "flash_attention_2", "flash_attention_2 takes none.*implementation sdpa"),
        (Llama4TextConfig(num_hidden_layers=4, attention_chunk_size=64), None, "attention of type chunked_attention"),
        (GPTNeoConfig(num_layers=2, attention_types=[[["global", "local"], 1]]), None, "local attention of gpt_neo"),
    ],
)
def test_a_model_that_takes_no_mask_is_packed_and_shared_prompts_are_refused(made, attention, what):
    assert choose_layout("auto", made, shares_prompts=True, attention=attention) == ("packed", None)
    with pytest.raises(InputError, match=rf"data\.layout: shared_prefix .*{what}"):
        choose_layout("shared_prefix", made, attention=attention)


@pytest.mark.parametrize("layout", ["packed", "shared_prefix"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_known_families_pass_the_trial(base_folder, family, dtype, layout):
    check_packing(Policy(PolicyArgs(str(base_folder(family)), dtype=dtype)), 97, layout)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_ignores_the_mask_is_refused_at_the_trial(base_folder, family, dtype):
    policy = Policy(PolicyArgs(str(base_folder(family)), dtype=dtype))

    def ignore(_, arguments, named):
        return arguments, named | {"attention_mask": torch.ones_like(named["input_ids"])}  # causal over the whole row

    policy.causal_lm.base_model.register_forward_pre_hook(ignore, with_kwargs=True)
    with pytest.raises(InputError, match=r"data\.layout: .*read each other.*--data\.layout padded"):
        check_packing(policy, 97, "shared_prefix")


def test_a_model_that_fails_over_the_mask_is_refused_at_the_trial(base_folder):
    policy = Policy(PolicyArgs(str(base_folder("gemma3"))))

    def fail(_, arguments, named):
        named["attention_mask"].shape  # noqa: B018 (what code does that takes no dictionary)

    policy.causal_lm.base_model.register_forward_pre_hook(fail, with_kwargs=True)
    with pytest.raises(InputError, match=r"data\.layout: .*cannot be given shared_prefix rows: AttributeError"):
        check_packing(policy, 97, "shared_prefix")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["bloom", "falcon", "mpt"])
def test_a_model_that_ignores_position_ids_is_refused_at_the_trial(tmp_path, family, dtype):
    torch.manual_seed(0)
    made = {
        "bloom": BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4),
        "falcon": FalconConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True),
        "mpt": MptConfig(vocab_size=97, d_model=32, n_layers=2, n_heads=4, max_seq_len=128),
    }[family]
    AutoModelForCausalLM.from_config(made).save_pretrained(tmp_path)
    policy = Policy(PolicyArgs(str(tmp_path), dtype=dtype))
    for layout in ("packed", "shared_prefix"):
        with pytest.raises(
            InputError, match=r"data\.layout: .*(read each other|cannot be given).*--data\.layout padded"
        ):
            check_packing(policy, 97, layout)


@pytest.mark.parametrize("layout", ["packed", "shared_prefix"])
def test_the_trial_leaves_no_trace(base_folder, layout):
    policy = Policy(PolicyArgs(str(base_folder("llama"))))
    policy.causal_lm.model.layers[0].eval()  # a mixture of modes
    modes = [module.training for module in policy.modules()]
    state = torch.get_rng_state()
    check_packing(policy, 97, layout)
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
