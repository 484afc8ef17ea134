"""Attention span by span against SDPA with a mask, which computes every pair: values, gradients, what falls back."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from lemma.encoding import Batch, Example, packed, padded, shared_prefix
from lemma.policy import LoraArgs, Policy, PolicyArgs
from lemma.policy.skipping import SPANS_OR_SDPA, skips_masked
from lemma.policy.spans import Part, SpanAttention, as_mask, attend, parts_of, visible
from lemma.policy.visibility import dense, visibility


def examples() -> list[Example]:
    sizes = [(5, [3, 7, 1]), (40, [130, 2]), (9, [4]), (70, [1, 1, 90, 20])]
    return [Example(str(i), "s", [5] * n, [[6] * size for size in own]) for i, (n, own) in enumerate(sizes)]


def shared(row_length: int = 300) -> Batch:
    return shared_prefix(examples(), pad_id=0, window_weight=1.0, row_length=row_length)


def states(batch: Batch, dtype: torch.dtype, heads: int = 4) -> list[torch.Tensor]:
    torch.manual_seed(0)
    rows, length = batch.input_ids.shape
    return [torch.randn(rows, length, heads, 8, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(4)]


def test_parts_are_spans_and_what_completions_see_of_their_prompts():
    rows = [Example("a", "s", [5, 6], [[10, 11], [12]]), Example("b", "s", [7], [[20]])]
    batch = shared_prefix(rows, pad_id=0, window_weight=1.0, row_length=9)
    assert batch.input_ids.tolist() == [[5, 6, 10, 11, 12, 7, 20]]
    spans = [Part(0, begin, end, begin, end) for begin, end in [(0, 2), (2, 4), (4, 5), (5, 6), (6, 7)]]
    assert parts_of(batch) == [*spans, Part(0, 2, 5, 0, 2), Part(0, 6, 7, 5, 6)]
    sequences = packed(rows, pad_id=0, window_weight=1.0, row_length=9)
    assert sequences.input_ids.tolist() == [[5, 6, 10, 11, 5, 6, 12, 7, 20]]
    assert parts_of(sequences) == [Part(0, begin, end, begin, end) for begin, end in [(0, 4), (4, 7), (7, 9)]]


def test_a_completion_without_tokens_does_not_give_its_siblings_to_another_prompt():
    rows = [Example("a", "s", [5, 6], [[10]]), Example("b", "s", [7], [[], [20, 21]])]
    batch = shared_prefix(rows, pad_id=0, window_weight=1.0, row_length=9)
    assert batch.branches.tolist() == [[0, 0, 1, 0, 2, 2]]
    assert parts_of(batch)[-2:] == [Part(0, 2, 3, 0, 2), Part(0, 4, 6, 3, 4)]


@pytest.mark.parametrize("row_length", [200, 1000])
def test_parts_are_seen_as_the_dense_mask_says(row_length):
    batch = shared(row_length)
    rows, length = batch.input_ids.shape
    real = (batch.groups >= 0)[:, None, :, None]
    seen, expected = (
        mask & real
        for mask in (visible(parts_of(batch), rows, length), dense(visibility(batch, None), batch.input_ids))
    )
    assert torch.equal(seen, expected)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)]
)
@pytest.mark.parametrize("layout", ["shared", "packed"])
def test_attention_and_gradients_are_those_of_sdpa_with_a_mask(layout, dtype, tolerance):
    batch = shared() if layout == "shared" else packed(examples(), pad_id=0, window_weight=1.0, row_length=300)
    parts = parts_of(batch)
    *inputs, weight = states(batch, dtype)
    real = torch.ones_like(batch.input_ids) if batch.groups is None else batch.groups >= 0
    weight = weight.detach() * real[:, None, :, None]
    ours = SpanAttention.apply(*inputs, parts, 0.3)
    our_gradients = torch.autograd.grad((ours * weight).sum(), inputs)
    mask = visible(parts, *batch.input_ids.shape)
    theirs = scaled_dot_product_attention(*inputs, attn_mask=mask, scale=0.3)
    their_gradients = torch.autograd.grad((theirs * weight).sum(), inputs)
    pairs = zip([ours * weight, *our_gradients], [theirs * weight, *their_gradients], strict=True)
    assert all((one - other).norm() <= tolerance * other.norm() for one, other in pairs)


@pytest.mark.parametrize(
    "case", ["plain", "few key heads", "dropout of 0 with a bias", "wide values", "a mask", "none"]
)
def test_a_layer_computes_the_same_however_its_kernel_is_chosen(case):
    batch = shared()
    query, key, value, bias = (each.detach() for each in states(batch, torch.float32))
    kwargs, module = {}, nn.Module()
    mask = visible(parts_of(batch), *batch.input_ids.shape)
    given = as_mask(parts_of(batch))
    if case == "few key heads":
        key, value, module.num_key_value_groups = key[:, :2], value[:, :2], 2
    elif case == "wide values":
        value = torch.cat([value, value], -1)
    elif case == "dropout of 0 with a bias":
        kwargs["position_bias"] = bias.mean(-1)[..., None] * torch.ones(query.shape[2])
    elif case == "a mask":
        given = mask
    elif case == "none":
        given, mask = None, torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).tril()
    output, _ = attend(module, query, key, value, given, **kwargs)
    copies = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(copies, 1).mT / 8**0.5 + kwargs.get("position_bias", 0.0)
    expected = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value.repeat_interleave(copies, 1)
    real = (batch.groups >= 0)[..., None, None]
    torch.testing.assert_close(output * real, expected.transpose(1, 2) * real, rtol=0, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_gradients_of_a_policy_are_those_of_the_padded_layout(base_folder, family, checkpointing):
    torch.manual_seed(0)
    policy = Policy(PolicyArgs(str(base_folder(family)), lora=LoraArgs(r=3), gradient_checkpointing=checkpointing))
    policy.disable_dropout()
    policy.causal_lm.config.attn_pdrop = 0.0
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    found = []
    options = {"pad_id": 0, "window_weight": 1.0}
    layouts = (padded, {}), (shared_prefix, {"row_length": 300}), (packed, {"row_length": 300})
    for layout, rest in layouts:
        policy.zero_grad()
        logps = policy(layout([one for one in examples() if len(one.prompt_ids) < 60], **options, **rest))
        logps.sum().backward()
        found.append((logps.detach(), torch.cat([p.grad.flatten() for p in policy.parameters() if p.requires_grad])))
    assert policy.causal_lm.config._attn_implementation == SPANS_OR_SDPA
    logps, gradient = found[0]
    for ours, our_gradient in found[1:]:
        torch.testing.assert_close(ours, logps, rtol=0, atol=1e-4)
        assert (our_gradient - gradient).norm() <= 1e-4 * gradient.norm()


@pytest.mark.parametrize("changes", [{"sliding_window": 4}, {"attention_dropout": 0.1}])
def test_what_goes_by_windows_or_drops_scores_keeps_its_masks(base_folder, changes):
    policy = Policy(PolicyArgs(str(base_folder("llama")), method="full"))
    assert skips_masked(policy.causal_lm.config, "cpu", shares_prompts=False)
    for name, value in changes.items():
        setattr(policy.causal_lm.config, name, value)
    assert not skips_masked(policy.causal_lm.config, "cpu", shares_prompts=False)
    with torch.no_grad():
        policy(shared())
    assert policy.causal_lm.config._attn_implementation == "sdpa"


def test_only_shared_prompts_are_skipped_on_cuda_and_nothing_where_another_kernel_was_asked_for(base_folder):
    config = Policy(PolicyArgs(str(base_folder("llama")), method="full")).causal_lm.config
    assert skips_masked(config, "cuda", shares_prompts=True)
    assert not skips_masked(config, "cuda", shares_prompts=False)
    assert not skips_masked(config, "cpu", shares_prompts=True, attention="eager")
