"""A prompt computed once for its completions gives what it gives when each has its own: values and gradients."""

from dataclasses import replace

import pytest
import torch
from layout_checks import FAMILIES, assert_same, gradient, make_policy, random_examples
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config

from lemma.encoding import Example, packed, padded, shared_prefix
from lemma.ops import completion_logps_and_entropy
from lemma.policy import Policy, QuantizationArgs
from lemma.policy.visibility import attention_masks

MODES = {
    "full": {"method": "full"},
    "lora": {},
    "nf4": {"quantization": QuantizationArgs("nf4")},
    "checkpointing": {"gradient_checkpointing": True},
}


def groups() -> list[Example]:
    """Return examples of 1, 2, 3 and 5 completions of 1 to 24 tokens, prompts longer and shorter than a window of 8."""
    return random_examples(
        [(11, [5, 9], 1.0), (1, [1, 24, 7], 2.5), (14, [24], 1.0), (2, [12, 3], 0.0), (19, [2, 3, 8, 1, 13], 0.5)]
    )


def batches() -> list:
    """Return the padded batch and shared ones: tight rows, several examples a row, one row."""
    some = groups()
    rows = [shared_prefix(some, pad_id=0, window_weight=40.0, row_length=length) for length in (46, 80, 1000)]
    assert [len(batch.input_ids) for batch in rows] == [4, 2, 1]
    return [padded(some, pad_id=0, window_weight=40.0), *rows]


def assert_as_padded(policy: Policy) -> None:
    reference, *others = batches()
    assert_same(policy, reference, others)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_shared_prompts_give_what_padded_ones_give(base_folder, family, mode):
    assert_as_padded(make_policy(base_folder(family), **MODES[mode]))


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_eager_attention_takes_the_same_mask(base_folder, family):
    assert_as_padded(make_policy(base_folder(family), attn_implementation="eager"))


@pytest.mark.parametrize("family", FAMILIES)
def test_in_float64_each_completion_is_as_if_it_were_alone(base_folder, family):
    policy = make_policy(base_folder(family), method="full").double()
    alone = [replace(example, completions=[own]) for example in groups() for own in example.completions]
    single = [padded([example], pad_id=0, window_weight=40.0) for example in alone]
    apart = [policy(batch).detach()[0] for batch in single]
    whole = sum(gradient(policy, batch) for batch in single)
    for batch in batches()[1:]:
        for logps, expected in zip(policy(batch).detach(), apart, strict=True):
            torch.testing.assert_close(logps[: len(expected)], expected, rtol=0, atol=1e-6)
        assert (gradient(policy, batch) - whole).norm() / whole.norm() <= 3e-7  # transformers norms in float32


def test_windows_shorter_than_the_prompt_count_tokens_of_the_sequence(tmp_path):
    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 6}
    mixed = Qwen2Config(**sizes, use_sliding_window=True, layer_types=["sliding_attention", "full_attention"])
    for name, config in (("all", MistralConfig(**sizes)), ("some", mixed)):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
        policy, without = make_policy(tmp_path / name), make_policy(tmp_path / name)
        reference, *others = batches()
        without.causal_lm.config.sliding_window = None  # masks made without it are others
        assert (without(others[0]) - policy(reference)).abs().max() > 1e-4
        assert_as_padded(policy)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_moves_them_no_further_than_packing_does(base_folder, family):
    exact = make_policy(base_folder(family))(batches()[0])
    policy = make_policy(base_folder(family), dtype="bfloat16")
    moved = (policy(packed(groups(), pad_id=0, window_weight=1.0, row_length=1000)) - exact).abs().mean()
    for batch in batches()[1:]:
        assert (policy(batch) - exact).abs().mean() <= 1.5 * moved
        assert policy(batch).isfinite().all()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_under_autocast_nothing_is_infinite(base_folder, attention):
    policy = make_policy(base_folder("llama"), attn_implementation=attention)
    with torch.autocast("cpu", torch.bfloat16):
        reference, *others = (policy(batch) for batch in batches())
        torch.testing.assert_close(others[0], reference, rtol=0, atol=0.5)
        assert gradient(policy, batches()[1]).isfinite().all()


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_what_stands_in_padding_changes_nothing(base_folder, family):
    policy = make_policy(base_folder(family))
    batch, other = (shared_prefix(groups(), pad_id=pad, window_weight=40.0, row_length=80) for pad in (0, 96))
    assert not torch.equal(batch.input_ids, other.input_ids)
    assert torch.equal(policy(batch), policy(other))
    assert torch.equal(gradient(policy, batch), gradient(policy, other))


def test_a_completion_sees_neither_its_siblings_nor_its_neighbours(base_folder):
    policy = make_policy(base_folder("llama"))
    batch = batches()[3]
    before = policy(batch)[3]  # the second of three completions of the second example
    own = (batch.groups == 1) & ((batch.branches == 0) | (batch.branches == 2))
    batch.input_ids[~own] = 50
    torch.testing.assert_close(policy(batch)[3], before, rtol=0, atol=1e-6)
    batch.input_ids[0, int(own[0].nonzero()[0])] = 51  # its prompt
    assert (policy(batch)[3] - before).abs().max() > 1e-2


@pytest.mark.parametrize("entropy_gradient", [False, True])
def test_entropy_is_that_of_the_padded_layout(base_folder, entropy_gradient):
    policy = make_policy(base_folder("llama"))
    found = []
    for batch in batches():
        masks = batch.attention_mask
        if batch.groups is not None:
            masks = attention_masks(batch, policy.causal_lm.config, "sdpa", torch.float32)
        hidden = policy.causal_lm.model(
            input_ids=batch.input_ids, attention_mask=masks, position_ids=batch.position_ids, use_cache=False
        ).last_hidden_state
        found.append(
            completion_logps_and_entropy(
                hidden, batch.input_ids, batch.completion_index, batch.mask, head=policy._head,
                previous_index=batch.previous_index, entropy_gradient=entropy_gradient,
            )
        )  # fmt: skip
    (logps, entropy), *others = found
    assert entropy.max() > 0.1
    for other in others:
        torch.testing.assert_close(other, (logps, entropy), rtol=0, atol=1e-5)
