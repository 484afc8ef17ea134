"""The plan of a run on its own completions: steps by hand, and what sampling and training them hold."""

import dataclasses

import pytest
import torch
from transformers import Gemma3TextConfig, GPT2Config, Lfm2Config, LlamaConfig

from lemma.corpora import CorpusArgs
from lemma.datamodule import MathDataModule
from lemma.encoding import TokenizerArgs
from lemma.modules import GRPOModule, OptimizerArgs
from lemma.plan import Cluster, memory_parts, plan
from lemma.plan.rollouts import sampling_parts
from lemma.plan.steps import SampledBatch
from lemma.policy import LoraArgs, Policy, PolicyArgs, QuantizationArgs
from lemma.policy.architecture import cached_elements
from lemma.policy.merging import merged, merged_bytes
from lemma.policy.meta import PolicySizes, meta_model, policy_sizes
from lemma.rollouts import RolloutSampling
from lemma.types import InputError

TWO = Cluster("ddp", "32-true", ranks=2, accumulate=2, max_steps=None, max_epochs=3)
SAMPLING = RolloutSampling(max_new_tokens=32, max_batch_tokens=32768)


def module(**changes) -> GRPOModule:
    settings = {"group_size": 4, "problems_per_rollout": 8, "num_iterations": 2, "sampling": SAMPLING}
    return GRPOModule(**{**settings, **changes})


def data(**changes) -> MathDataModule:
    settings = {"corpora": [CorpusArgs("arithmetic", max_rows=45)], "batch_size": 8}
    return MathDataModule(TokenizerArgs("tiny"), **{**settings, **changes})


def test_a_plan_says_the_algebra_of_its_rollouts_and_counts_steps_without_loading_weights(monkeypatch):
    monkeypatch.setattr("lemma.policy.load.load_base", None)
    problems = data()
    text = plan(TWO, module(), problems)
    assert (
        "A rollout is 8 problems x 4 completions = 32 a rollout; 1 optimiser step of 32 (batch_size 8 x accumulate 2 x "
        "ranks 2), 2 passes."
    ) in text
    # 45 problems are 5 rollouts of 8, each trained on twice, in one step each time; nothing is held out
    assert "An epoch is 45 problems in 5 rollouts, 10 steps." in text
    assert "The run: 30 optimiser steps." in text
    longest = max(len(problems.prompts.prompt(index)) for index in range(45))
    assert f"A sequence is at most {longest + 32} tokens: a prompt of {longest} and a completion of 32." in text
    # a rank has 4 problems x 4 completions of a rollout
    assert f"For 16 completions at once, each with its prompt {longest + 32} tokens" in text


@pytest.mark.parametrize(("layout", "prompts"), [("padded", 8), ("packed", 8), ("shared_prefix", 2)])
def test_the_largest_micro_batch_is_of_the_longest_prompts_and_completions(layout, prompts):
    problems = data(layout=layout)
    text = plan(TWO, module(), problems)
    longest = max(len(problems.prompts.prompt(index)) for index in range(45))
    assert f"micro-batch of {prompts * longest + 8 * 32} positions" in text


def test_a_token_budget_bounds_what_is_sampled_at_once_and_one_row_is_the_least():
    problems = data(corpora=[CorpusArgs("gsm8k", "no/such.jsonl")], max_prompt_length=68)
    for budget, rows in ((1000, 10), (99, 1), (10**6, 16)):
        sampling = dataclasses.replace(SAMPLING, max_batch_tokens=budget)
        text = plan(TWO, module(sampling=sampling), problems)
        assert f"For {rows} completions at once, each with its prompt 100 tokens" in text


def test_without_data_lengths_are_bounds_and_the_algebra_stands():
    missing = data(corpora=[CorpusArgs("gsm8k", "no/such.jsonl")], max_prompt_length=100)
    text = plan(dataclasses.replace(TWO, max_steps=7), module(), missing)
    assert "The data has not been read" in text
    assert "A rollout is 8 problems x 4 completions" in text
    assert "A sequence is at most 132 tokens" in text
    assert f"micro-batch of {8 * 132:,} positions" in text
    assert "The run: 3 epochs, at most 7 optimiser steps." in text


@pytest.mark.parametrize(
    ("settings", "flags", "message"),
    [
        ({}, {"batch_size": 6}, r"data\.batch_size: expected a multiple or a divisor"),
        ({"problems_per_rollout": 9}, {}, r"model\.problems_per_rollout: expected a multiple of the 2 ranks"),
        ({"problems_per_rollout": 48}, {}, r"model\.problems_per_rollout: expected at most the 45 problems"),
    ],
)
def test_numbers_that_fit_refuses_are_refused_by_key(settings, flags, message):
    with pytest.raises(InputError, match=message):
        plan(TWO, module(**settings), data(**flags))


SIZES = PolicySizes(
    frozen=[(1000, 2)], quantized=[], trained=[(100, 4)], linear=[], adapted=[(128, 8)], layers=2, norms=5, hidden=10,
    queries=20, mlp=30, gated=True, vocab=50, cached=40, merged=600,
)  # fmt: skip


def sampled(cluster: Cluster = TWO, *, policy: PolicyArgs = PolicyArgs()) -> dict[str, int]:  # noqa: B008 (frozen)
    parts = memory_parts(SIZES, cluster, policy, OptimizerArgs(), positions=7, loads_reference=True)
    return sampling_parts(parts, SIZES, cluster, policy, SampledBatch(rows=3, length=11))


def test_what_sampling_holds_by_hand():
    assert sampled() == {
        "frozen weights": 2000,
        "trained weights": 400,
        "reference": 400,
        "gradients": 400,
        "gradient buckets of DDP": 400,
        "optimiser states": 800,
        "merged copy of adapted weights": 600,
        "keys and values": 3 * 11 * 40 * 2,
        "logits of a token": 3 * 50 * 24,
    }


@pytest.mark.parametrize("changes", [{"precision": "bf16-mixed"}, {"precision": "bf16-true"}, {"strategy": "fsdp"}])
def test_nothing_is_merged_in_16_bits_or_from_shards(changes):
    parts = sampled(dataclasses.replace(TWO, **changes))
    assert "merged copy of adapted weights" not in parts
    assert parts["keys and values"] == 3 * 11 * 40 * 2


@pytest.mark.parametrize(
    "args",
    [
        PolicyArgs(),
        PolicyArgs(lora=LoraArgs(r=2, target_modules=["q_proj"])),
        PolicyArgs(dtype="bfloat16"),
        PolicyArgs(quantization=QuantizationArgs("nf4")),
        PolicyArgs(method="full"),
    ],
    ids=["all", "queries", "bfloat16", "nf4", "full"],
)
def test_the_copy_that_merging_makes_is_the_one_that_is_planned(args):
    policy = Policy(args)
    before = {parameter.data_ptr() for parameter in policy.parameters()}
    with merged(policy):
        copied = sum(p.nbytes for p in policy.parameters() if p.data_ptr() not in before)
    assert policy_sizes(meta_model(args), args).merged == merged_bytes(policy) == copied
    if args == PolicyArgs():
        assert copied == 4 * 4 * (4 * 128 * 128 + 3 * 128 * 384)  # bytes, layers, weights of the seven matrices


def test_keys_and_values_of_a_token_by_hand():
    assert cached_elements(LlamaConfig(hidden_size=64, num_hidden_layers=3, num_attention_heads=8)) == 3 * 2 * 64
    grouped = LlamaConfig(hidden_size=64, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2)
    assert cached_elements(grouped) == 3 * 2 * 2 * 8
    assert cached_elements(GPT2Config(n_embd=48, n_layer=5, n_head=4)) == 5 * 2 * 48
    wide = Gemma3TextConfig(
        hidden_size=64, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=1, head_dim=32
    )
    assert cached_elements(wide) == 6 * 2 * 32
    convolutions = Lfm2Config(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, full_attn_idxs=[1, 3]
    )
    assert cached_elements(convolutions) == 2 * 2 * 2 * 16


def test_the_cache_of_the_shipped_policy_grows_by_what_is_planned():
    model = Policy(PolicyArgs()).causal_lm
    with torch.no_grad():
        cache = model(torch.zeros(2, 7, dtype=torch.long), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert held == 2 * 7 * 4 * cached_elements(model.config)
