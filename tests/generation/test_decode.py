"""Our own loop: transformers' tokens, whatever the family, the batch, and who leaves when."""

import functools

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Lfm2Config,
    MambaConfig,
    Qwen2Config,
)

from lemma.generation import decode as engine
from lemma.generation.decode import can_decode
from lemma.policy import Policy, PolicyArgs

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


# Log-probabilities


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_the_policys_own(base_folder, prompts, seeds, settings, sample, family, temperature):
    policy = Policy(PolicyArgs(str(base_folder(family)), method="full", attn_implementation="eager")).eval()
    groups = sample(policy, prompts, seeds, **settings | {"temperature": temperature})
    differences = []
    for prompt, group in zip(prompts, groups, strict=True):
        for one in group:
            with torch.no_grad():
                logits = policy.model(torch.tensor([prompt + one.ids])).logits[0, len(prompt) - 1 : -1]
            logps = (logits / temperature).log_softmax(-1).gather(1, torch.tensor(one.ids)[:, None])[:, 0]
            differences.append((logps - torch.tensor(one.logps)).abs())
    assert torch.cat(differences).mean() < 1e-5


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


def test_layers_that_share_or_chunk_keys_are_left_to_transformers(make_model):
    model = make_model("llama")
    assert can_decode(model)
    model.config.num_kv_shared_layers = 1
    assert not can_decode(model)
