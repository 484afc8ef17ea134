"""Who sees whom on a row with shared prompts, worked out by hand, and that flex_attention is told the same."""

import pytest
import torch
from torch import nn

from lemma.encoding import Example, padded, shared_prefix
from lemma.policy import LoraArgs, Policy, PolicyArgs
from lemma.policy.skipping import FLEX_OR_SDPA, use_skipping
from lemma.policy.visibility import attention_masks, dense, visibility
from lemma.types import InputError


def batch(lengths: tuple[int, ...] = (3, 4), row_length: int = 40):
    rows = [
        Example("a", "s", [5, 6], [list(range(10, 10 + n)) for n in lengths]),
        Example("b", "s", [7, 8, 9], [[20, 21], [30]]),
        Example("c", "s", [11] * 5, [[23, 24, 25]]),
    ]
    return rows, shared_prefix(rows, pad_id=0, window_weight=1.0, row_length=row_length)


def test_a_token_sees_its_prompt_and_its_own_completion():
    rows = [Example("a", "s", [5, 6], [[10, 11], [12]]), Example("b", "s", [7], [[20], [21]])]
    one = shared_prefix(rows, pad_id=0, window_weight=1.0, row_length=8)
    assert one.input_ids.tolist() == [[5, 6, 10, 11, 12, 7, 20, 21]]
    seen = dense(visibility(one, None), one.input_ids)
    assert seen.shape == (1, 1, 8, 8)
    expected = ["10000000", "11000000", "11100000", "11110000", "11001000", "00000100", "00000110", "00000101"]
    assert ["".join(str(int(value)) for value in row) for row in seen[0, 0]] == expected


def test_a_window_counts_tokens_of_the_sequence_not_of_the_row():
    rows = [Example("a", "s", [5, 6], [[10, 11], [12, 13]])]
    one = shared_prefix(rows, pad_id=0, window_weight=1.0, row_length=6)
    seen = dense(visibility(one, 3), one.input_ids)[0, 0]
    expected = ["100000", "110000", "111000", "011100", "110010", "010011"]
    assert ["".join(str(int(value)) for value in row) for row in seen] == expected


@pytest.mark.parametrize("window", [None, 1, 4])
def test_every_token_sees_itself_padding_included(window):
    _, some = batch(row_length=9)
    assert (some.groups == -1).any()
    seen = dense(visibility(some, window), some.input_ids)[:, 0]
    assert seen.diagonal(dim1=-2, dim2=-1).all()


def test_models_of_several_types_of_layers_get_a_mask_for_each(base_folder):
    _, some = batch()
    mistral_like = Policy(PolicyArgs(str(base_folder("llama")), method="full")).causal_lm.config
    assert attention_masks(some, mistral_like, "another", torch.float32).dtype == torch.bool
    mistral_like.sliding_window = 2
    narrow = attention_masks(some, mistral_like, "sdpa", torch.float32)
    assert torch.equal(narrow == 0, dense(visibility(some, 2), some.input_ids))
    gemma = Policy(PolicyArgs(str(base_folder("gemma3")), method="full")).causal_lm.config
    masks = attention_masks(some, gemma, "eager", torch.bfloat16)
    assert masks.keys() == {"full_attention", "sliding_attention"}
    assert {mask.dtype for mask in masks.values()} == {torch.bfloat16}
    assert all(mask.isfinite().all() for mask in masks.values())
    assert torch.equal(masks["sliding_attention"] == 0, dense(visibility(some, gemma.sliding_window), some.input_ids))


@pytest.mark.parametrize("window", [None, 5])
def test_the_block_mask_is_the_dense_mask(window):
    _, some = batch((200, 90, 170), row_length=1000)
    config = type("Config", (), {"sliding_window": window})()
    blocks = attention_masks(some, config, FLEX_OR_SDPA, torch.float32)
    rows, length = some.input_ids.shape
    seen = dense(visibility(some, window), some.input_ids)
    places = torch.arange(length)
    told = blocks.mask_mod(torch.arange(rows)[:, None, None, None], torch.zeros(1).long(), places[:, None], places)
    assert torch.equal(told, seen)
    computed = blocks.to_dense().repeat_interleave(128, -1).repeat_interleave(128, -2)[..., :length, :length].bool()
    assert blocks.shape == (rows, 1, length, length)
    assert (computed | ~seen).all()
    assert not computed.all()


def adapted(folder, **options) -> Policy:
    torch.manual_seed(0)
    policy = Policy(PolicyArgs(str(folder), lora=LoraArgs(r=3), **options))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    return policy


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3", "gpt2"])
def test_flex_attention_computes_the_same_and_other_batches_as_before(base_folder, family):
    policy, other = adapted(base_folder(family)), adapted(base_folder(family))
    rows, some = batch()
    with torch.no_grad():  # it has no backward pass on a CPU
        logps, reference = other(some), other(padded(rows, pad_id=0, window_weight=1.0))
        use_skipping(policy.causal_lm, "cuda", shares_prompts=True)
        use_skipping(policy.causal_lm, "cuda", shares_prompts=True)
        assert policy.causal_lm.config._attn_implementation == FLEX_OR_SDPA
        torch.testing.assert_close(policy(some), logps, rtol=0, atol=1e-5)
        assert torch.equal(policy(padded(rows, pad_id=0, window_weight=1.0)), reference)
        assert policy.generate(input_ids=torch.tensor([[5, 6, 7]]), max_new_tokens=3).shape[1] <= 6


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_flex_attention_on_cuda_gives_the_gradient_of_the_padded_layout(base_folder, checkpointing):
    policy = adapted(base_folder("llama"), gradient_checkpointing=checkpointing).cuda()
    rows, some = batch((200, 90, 170), row_length=1000)
    found = []
    for one in (padded(rows, pad_id=0, window_weight=1.0), some):
        policy.zero_grad()
        logps = policy(one.to(torch.device("cuda")))
        logps.sum().backward()
        found.append((logps, torch.cat([p.grad.flatten() for p in policy.parameters() if p.requires_grad])))
    (logps, gradient), (ours, our_gradient) = found
    torch.testing.assert_close(ours, logps, rtol=0, atol=1e-4)
    assert (our_gradient - gradient).norm() / gradient.norm() <= 1e-4


def test_what_flex_attention_cannot_do_is_refused_with_what_can(base_folder):
    policy = Policy(PolicyArgs(str(base_folder("llama")), method="full"))
    for layer in policy.causal_lm.model.layers:
        layer.self_attn.attention_dropout = 0.1
    use_skipping(policy.causal_lm, "cuda", shares_prompts=True)
    with pytest.raises(InputError, match=r"no dropout.*--data\.layout packed"):
        policy(batch()[1])


def test_other_kernels_than_sdpa_are_left_alone():
    config = type("Config", (), {"_attn_implementation": "eager", "get_text_config": lambda self: self})()
    model = nn.Module()
    model.config = config
    use_skipping(model, "cuda", shares_prompts=True)
    assert config._attn_implementation == "eager"
