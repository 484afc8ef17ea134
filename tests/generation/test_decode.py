"""Our own loop: transformers' tokens, whatever the family, the batch, and who leaves when."""

import functools

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from lemma.encoding.chat import Example
from lemma.encoding.layouts import padded
from lemma.generation import decode as engine
from lemma.generation import prefix
from lemma.generation.cache import RoomyLayer
from lemma.generation.decode import can_decode
from lemma.generation.prefix import _HANDS_KEYS_ON, can_share
from lemma.policy import LoraArgs, Policy, PolicyArgs

FAMILIES = ("llama", "qwen2", "gemma2", "gemma3", "gpt2")
NARROW = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def sharpened(model):
    """Return a random model whose logits are far apart."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(3.0)
    return model.eval()


def random_model(config, kernel="sdpa"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return sharpened(AutoModelForCausalLM.from_config(config, attn_implementation=kernel))


def greedy_alone(model, prompt, settings):
    """Return transformers' greedy completion of one unpadded prompt."""
    ids = torch.tensor([prompt])
    out = model.eval().generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=settings["max_new_tokens"],
        eos_token_id=settings["stop_ids"], pad_token_id=settings["pad_id"],
    )  # fmt: skip
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_transformers_own_in_every_family(
    make_model, prompts, seeds, settings, sample, by_transformers, check_samples, family
):
    model = make_model(family)
    assert can_decode(model)
    ours = sample(model, prompts, seeds, **settings)
    check_samples(ours, by_transformers(model, prompts, seeds, **settings))
    assert [group[0].ids for group in ours] == [greedy_alone(model, prompt, settings) for prompt in prompts]
    assert len({len(one.ids) for group in ours for one in group}) > 3  # they stop at different times
    assert {one.stopped for group in ours for one in group} == {True, False}


def test_windows_of_attention_are_kept_under_sdpa(prompts, seeds, settings, sample, by_transformers, check_samples):
    config = Qwen2Config(**NARROW, use_sliding_window=True, sliding_window=6, max_window_layers=1)
    assert config.layer_types == ["full_attention", "sliding_attention"]
    model = random_model(config)
    check_samples(sample(model, prompts, seeds, **settings), by_transformers(model, prompts, seeds, **settings))


@pytest.mark.parametrize(("temperature", "top_p"), [(0.7, 1.0), (1.0, 0.8), (1.5, 0.9)])
def test_tempered_and_cut_samples_are_those_of_transformers(
    make_model, prompts, seeds, settings, sample, by_transformers, check_samples, temperature, top_p
):
    model = make_model("llama")
    settings |= {"temperature": temperature, "top_p": top_p}
    check_samples(sample(model, prompts, seeds, **settings), by_transformers(model, prompts, seeds, **settings))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_token_budget_changes_no_sample(make_model, prompts, seeds, settings, sample, check_samples, family):
    model = make_model(family)
    expected = sample(model, prompts, seeds, **settings)
    for budget in (1, 130, 500):  # a row at a time, a few rows of a group, a few groups
        check_samples(sample(model, prompts, seeds, **settings | {"max_batch_tokens": budget}), expected)


def test_finished_rows_leave_and_waiting_prompts_take_their_place(
    make_model, prompts, seeds, settings, sample, check_samples, monkeypatch
):
    model, shapes = make_model("llama"), []
    expected = sample(model, prompts, seeds, **settings)
    own = model.forward

    @functools.wraps(own)
    def spy(**arguments):
        shapes.append((*arguments["input_ids"].shape, arguments["attention_mask"].shape[1]))
        return own(**arguments)

    monkeypatch.setattr(model, "forward", spy)
    check_samples(sample(model, prompts, seeds, **settings | {"max_batch_tokens": 400}), expected)
    assert all(rows * width <= 400 for rows, _, width in shapes)
    prefills = [step for step, (_, new, _) in enumerate(shapes) if new > 1 or step == 0]
    assert len(prefills) > 1
    shapes.clear()
    monkeypatch.setattr(engine, "_LIVE_SHARE", 0.0)  # leave when all are done
    check_samples(sample(model, prompts, seeds, **settings), expected)
    waiting = sum(rows for rows, _, _ in shapes)
    shapes.clear()
    monkeypatch.setattr(engine, "_LIVE_SHARE", 1.0)  # leave at once
    check_samples(sample(model, prompts, seeds, **settings), expected)
    tokens = sum(len(one.ids) - 1 for group in expected for one in group)
    assert sum(rows for rows, _, _ in shapes) == tokens + len(prompts) < waiting  # each prompt once, each token once


def test_learned_positions_may_be_used_to_the_last(settings, sample, make_model, by_transformers, check_samples):
    model = make_model("gpt2")  # 512 positions
    prompts, settings = [[5] * 508, [6] * 500, [7] * 20], settings | {"stop_ids": [96], "max_new_tokens": 4}
    seeds = [[None, 1, 2], [3, 4], [5]]
    check_samples(sample(model, prompts, seeds, **settings), by_transformers(model, prompts, seeds, **settings))


def test_prompts_without_completions_and_no_prompts_at_all_are_no_trouble(make_model, settings, sample):
    model = make_model("llama")
    assert sample(model, [], [], **settings) == []
    [none, one] = sample(model, [[5, 6], [7]], [[], [None]], **settings)
    assert (none, len(one)) == ([], 1)


def test_a_prompt_alone_in_its_distribution_follows_the_softmax(make_model, settings, sample):
    model = make_model("llama").eval()
    with torch.no_grad():
        probabilities = (model(torch.tensor([[5, 6, 7]])).logits[0, -1].double() / 4.0).softmax(0)
    streams = [list(range(3000))]
    [group] = sample(model, [[5, 6, 7]], streams, **settings | {"max_new_tokens": 1, "temperature": 4.0})
    counts = torch.tensor([one.ids[0] for one in group]).bincount(minlength=97)
    top = probabilities.topk(8).indices
    observed = torch.cat([counts[top], 3000 - counts[top].sum()[None]]).double()
    expected = 3000 * torch.cat([probabilities[top], 1 - probabilities[top].sum()[None]])
    assert expected.min() > 5
    assert float(((observed - expected) ** 2 / expected).sum()) < 26.12  # 0.999 quantile at 8 degrees of freedom


# Prompts shared in attention


SHARING = {
    "llama": LlamaConfig(**NARROW),
    "mistral": MistralConfig(**NARROW, sliding_window=None),
    "qwen2": Qwen2Config(**NARROW),
    "qwen3": Qwen3Config(**NARROW, head_dim=8),
    "phi3": Phi3Config(**NARROW),
    "gpt2": GPT2Config(
        vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64, pad_token_id=0, bos_token_id=1, eos_token_id=2
    ),
}


def test_the_models_whose_completions_share_prompts_are_those_under_test():
    assert set(SHARING) == set(_HANDS_KEYS_ON)


@pytest.mark.parametrize("budget", [32768, 300])
@pytest.mark.parametrize("name", SHARING)
def test_attention_to_shared_prompts_gives_transformers_tokens(
    prompts, settings, sample, by_transformers, check_samples, monkeypatch, name, budget
):
    model = random_model(SHARING[name])
    assert can_share(model)
    groups = [[None, 1, 2, 3], [4], [5, 6, 7, 8, 9, 10], [None], [11, 12], [13, 14, 15]]  # of any size
    kernels, own = set(), model.forward

    @functools.wraps(own)
    def spy(**arguments):
        kernels.add(model.config._attn_implementation)
        return own(**arguments)

    expected = by_transformers(model, prompts, groups, **settings)
    monkeypatch.setattr(model, "forward", spy)
    check_samples(sample(model, prompts, groups, **settings | {"max_batch_tokens": budget}), expected)
    assert kernels == {"lemma_shared_prefix"}
    assert model.config._attn_implementation == "sdpa"
    assert len({len(one.ids) for group in expected for one in group}) > 3


def test_the_prompts_are_needed_for_that(prompts, seeds, settings, sample, by_transformers, monkeypatch):
    model = random_model(SHARING["llama"])
    expected = by_transformers(model, prompts, seeds, **settings)
    monkeypatch.setattr(prefix.OwnLayer, "update", RoomyLayer.update)  # hands no prompt on
    assert sample(model, prompts, seeds, **settings) != expected


def test_the_kernel_is_put_back_after_an_error(settings, sample, monkeypatch):
    model = random_model(SHARING["llama"])
    monkeypatch.setattr(engine, "_next_logits", None)
    with pytest.raises(TypeError):
        sample(model, [[5, 6]], [[None]], **settings | {"stop_ids": [96]})
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("config", "kernel"),
    [
        (LlamaConfig(**NARROW), "eager"),
        (MistralConfig(**NARROW, sliding_window=6), "sdpa"),
        (Qwen2Config(**NARROW, use_sliding_window=True, sliding_window=6, max_window_layers=1), "sdpa"),
        (Phi3Config(**NARROW, sliding_window=6), "sdpa"),
    ],
)
def test_prompts_are_copied_to_each_row_where_windows_or_another_kernel_rule(
    prompts, seeds, settings, sample, by_transformers, check_samples, config, kernel
):
    model = random_model(config, kernel)
    assert can_decode(model)
    assert not can_share(model)
    check_samples(sample(model, prompts, seeds, **settings), by_transformers(model, prompts, seeds, **settings))


# Log-probabilities


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_are_the_policys_own(base_folder, prompts, seeds, settings, sample, family, kernel, merge):
    if kernel == "sdpa" and family == "gemma2":
        pytest.skip("its scores are capped, which sdpa cannot")
    policy = Policy(PolicyArgs(str(base_folder(family)), attn_implementation=kernel, lora=LoraArgs(r=4)))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    groups = sample(policy, prompts, seeds, **settings, merge=merge)
    examples = [
        Example("p", "toy", prompt, tuple(one.ids for one in group))
        for prompt, group in zip(prompts, groups, strict=True)
    ]
    batch = padded(examples, pad_id=0, window_weight=1.0)
    with torch.no_grad():
        expected = policy.eval()(batch)[batch.mask]
    logps = torch.tensor([logp for group in groups for one in group for logp in one.logps])
    assert logps.shape == expected.shape
    assert (logps - expected).abs().mean() < 1e-5


def test_log_probabilities_are_tempered(make_model, prompts, seeds, settings, sample):
    model = make_model("llama")
    groups = sample(model, prompts, seeds, **settings | {"temperature": 0.7, "top_p": 0.8})
    for prompt, group in zip(prompts, groups, strict=True):
        for one in group:
            with torch.no_grad():
                logits = model(torch.tensor([prompt + one.ids])).logits[0, len(prompt) - 1 : -1]
            logps = (logits / 0.7).log_softmax(-1).gather(1, torch.tensor(one.ids)[:, None])[:, 0]
            assert one.logps == pytest.approx(logps.tolist(), abs=1e-4)


# What our loop does not know


STATEFUL = {
    "lfm2": Lfm2Config(**NARROW, layer_types=["conv", "full_attention"]),
    "mamba": MambaConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=8, pad_token_id=0, bos_token_id=1, eos_token_id=2
    ),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_models_with_state_beyond_attention_generate_by_transformers(settings, sample, check_samples, name):
    model = random_model(STATEFUL[name], "eager" if name == "mamba" else "sdpa")
    assert not can_decode(model)
    prompts, seeds = [[5, 6, 7], [8, 9, 10]], [[None, 1], [None, 2]]  # unpadded: such models feel padding
    groups = sample(model, prompts, seeds, **settings)
    assert [group[0].ids for group in groups] == [greedy_alone(model, prompt, settings) for prompt in prompts]
    for prompt, group in zip(prompts, groups, strict=True):
        for one in group:
            with torch.no_grad():
                logits = model(torch.tensor([prompt + one.ids]), use_cache=False).logits[0, len(prompt) - 1 : -1]
            logps = logits.log_softmax(-1).gather(1, torch.tensor(one.ids)[:, None])[:, 0]
            assert one.logps == pytest.approx(logps.tolist(), abs=1e-4)


def test_transformers_takes_no_settings_from_the_models_folder(
    make_model, prompts, seeds, settings, by_transformers, check_samples
):
    model = make_model("llama")
    expected = by_transformers(model, prompts, seeds, **settings)
    model.generation_config.update(repetition_penalty=5.0, min_new_tokens=20, suppress_tokens=[10, 11, 12])
    own = model.generation_config
    check_samples(by_transformers(model, prompts, seeds, **settings), expected, tolerance=0)
    assert model.generation_config is own


def test_layers_that_share_or_chunk_keys_are_left_to_transformers(make_model):
    model = make_model("llama")
    assert can_decode(model)
    model.config.num_kv_shared_layers = 1
    assert not can_decode(model)
