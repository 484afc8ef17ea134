"""Completions: equal to transformers' own, each from its own stream, whatever stands beside it."""

import dataclasses
import functools
import json
import math
import shutil
from collections import Counter

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from lemma.assets import resolve_base
from lemma.generation import SamplingArgs, generate, stream_seed
from lemma.generation.draw import draw, stream_uniforms
from lemma.policy import LoraArgs, Policy, PolicyArgs
from lemma.types import GREEDY, InputError, Problem

GREEDY_ONLY = SamplingArgs(num_samples=0, greedy=True, max_new_tokens=48)
SAMPLED = SamplingArgs(num_samples=3, greedy=True, max_new_tokens=48, seed=5)


@pytest.fixture(scope="module")
def tiny():
    return Policy(PolicyArgs("tiny", method="full")).model


def texts(completions) -> dict:
    """Return every completion by problem and sample, without the order in which they came."""
    return {(one.problem_id, one.sample): one for row in completions for one in row}


def reference_ids(model, encoder, problem, max_new_tokens: int) -> list[int]:
    """Return what transformers' greedy ``generate`` gives for one unpadded prompt."""
    ids = torch.tensor([encoder.encode_prompt(problem.problem)])
    model.eval()
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_new_tokens,
        eos_token_id=encoder.stop_ids, pad_token_id=encoder.pad_id,
    )  # fmt: skip
    return out[0, ids.shape[1] :].tolist()


def check_greedy(model, encoder, problems) -> None:
    together = generate(model, problems, encoder, GREEDY_ONLY)
    lengths = {len(encoder.encode_prompt(problem.problem)) for problem in problems}
    assert len(lengths) == len(problems)  # every row but the longest is padded
    for problem, [completion] in zip(problems, together, strict=True):
        [[alone]] = generate(model, [problem], encoder, GREEDY_ONLY)
        assert completion == alone
        ids = reference_ids(model, encoder, problem, 48)
        assert completion.num_tokens == len(ids)
        assert completion.stopped == (ids[-1] in encoder.stop_ids)
        assert completion.text == encoder.decode(ids[:-1] if completion.stopped else ids)
        assert (completion.problem_id, completion.source, completion.sample) == (problem.id, "toy", GREEDY)


def test_greedy_in_a_padded_batch_is_greedy_alone_and_transformers_own(tiny, encoder, problems):
    check_greedy(tiny, encoder, problems)


@pytest.mark.parametrize("family", ["gpt2", "gemma3", "qwen2"])
def test_left_padding_shifts_no_position_in_any_family(base_folder, encoder, problems, family):
    model = Policy(
        PolicyArgs(str(base_folder(family, vocab_size=640)), attn_implementation="eager", method="full")
    ).model
    check_greedy(model, encoder, problems)


def test_a_lora_policy_generates_what_it_was_trained_to(encoder, problems):
    policy = Policy(PolicyArgs("tiny"))
    plain = generate(policy.model, problems[:2], encoder, GREEDY_ONLY)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    changed = generate(policy.model, problems[:2], encoder, GREEDY_ONLY)
    assert changed != plain
    for problem, [one] in zip(problems, changed, strict=False):
        ids = reference_ids(policy.model, encoder, problem, 48)
        assert one.text == encoder.decode(ids[:-1] if one.stopped else ids)


def test_samples_do_not_depend_on_neighbours_order_or_token_budget(tiny, encoder, problems):
    expected = texts(generate(tiny, problems, encoder, SAMPLED))
    assert len(expected) == len(problems) * 4
    assert len({one.text for one in expected.values()}) > len(problems)  # they do vary
    assert texts(generate(tiny, problems[::-1], encoder, SAMPLED)) == expected
    assert texts([generate(tiny, [problem], encoder, SAMPLED)[0] for problem in problems]) == expected
    for budget in (1, 400, 10**6):  # one row at a time, a few, all at once
        small = dataclasses.replace(SAMPLED, max_batch_tokens=budget)
        assert texts(generate(tiny, problems, encoder, small)) == expected


def test_a_batch_stays_within_the_token_budget(tiny, encoder, problems, monkeypatch):
    shapes, own = [], tiny.forward

    @functools.wraps(own)
    def spy(**arguments):
        shapes.append((*arguments["input_ids"].shape, arguments["attention_mask"].shape[1]))
        return own(**arguments)

    monkeypatch.setattr(tiny, "forward", spy)
    generate(tiny, problems, encoder, dataclasses.replace(SAMPLED, max_batch_tokens=700))
    assert sum(rows for rows, new, _ in shapes if new > 1) >= len(problems)  # a large group is cut
    assert max(rows for rows, new, _ in shapes if new == 1) > 1
    assert all(rows == 1 or rows * width <= 700 for rows, _, width in shapes)


def test_more_samples_keep_the_first_ones_and_greedy_stays_apart(tiny, encoder, problems):
    few = texts(generate(tiny, problems[:2], encoder, SAMPLED))
    more = texts(generate(tiny, problems[:2], encoder, dataclasses.replace(SAMPLED, num_samples=5, greedy=False)))
    assert {key: one for key, one in few.items() if key[1] != GREEDY} == {
        key: one for key, one in more.items() if key[1] < 3
    }


def test_completions_come_in_the_order_of_problems_and_samples(tiny, encoder, problems):
    results = generate(tiny, problems, encoder, SAMPLED)
    assert [[one.problem_id for one in row] for row in results] == [[p.id] * 4 for p in problems]
    assert [[one.sample for one in row] for row in results] == [SAMPLED.samples] * 5 == [[GREEDY, 0, 1, 2]] * 5


def test_the_seed_the_source_the_problem_and_the_sample_make_the_stream():
    seeds = {stream_seed(s, source, p, n) for s in (0, 1) for source in "ab" for p in ("x", "y") for n in (0, 1)}
    assert len(seeds) == 16
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stream_seed(0, "gsm8k", "test/0", 0) == stream_seed(0, "gsm8k", "test/0", 0)


def test_another_seed_gives_other_samples_and_the_same_greedy(tiny, encoder, problems):
    one = texts(generate(tiny, problems, encoder, SAMPLED))
    other = texts(generate(tiny, problems, encoder, dataclasses.replace(SAMPLED, seed=6)))
    assert all(one[key] == other[key] for key in one if key[1] == GREEDY)
    assert any(one[key] != other[key] for key in one if key[1] != GREEDY)


def test_a_stop_token_ends_a_completion_and_the_length_limit_is_told_apart(tiny, encoder, problems):
    [[whole]] = generate(tiny, problems[:1], encoder, GREEDY_ONLY)
    assert whole.stopped
    assert whole.num_tokens < 48
    assert "<|im_end|>" not in whole.text
    exact = dataclasses.replace(GREEDY_ONLY, max_new_tokens=whole.num_tokens)  # the stop token is the last allowed one
    assert generate(tiny, problems[:1], encoder, exact) == [[whole]]
    [[cut]] = generate(tiny, problems[:1], encoder, dataclasses.replace(exact, max_new_tokens=whole.num_tokens - 1))
    assert (cut.stopped, cut.num_tokens) == (False, whole.num_tokens - 1)
    assert cut.text == whole.text  # all but the stop token


def test_the_tokenizers_eos_ends_a_completion_too(tiny, encoder, problems):
    ids = reference_ids(tiny, encoder, problems[0], 48)
    assert len(ids) > 4
    both = dataclasses.make_dataclass("Both", [])()
    for name in ("encode_prompt", "messages", "decode", "pad_id"):
        setattr(both, name, getattr(encoder, name))
    both.stop_ids = sorted({encoder.stop_id, ids[3]})  # as if the fourth token were a second way to stop
    [[one]] = generate(tiny, problems[:1], both, GREEDY_ONLY)
    first = next(i for i, token in enumerate(ids) if token in both.stop_ids)
    assert (one.stopped, one.num_tokens, one.text) == (True, first + 1, encoder.decode(ids[:first]))


def test_rows_that_stop_early_wait_without_changing_their_neighbours(tiny, encoder, problems):
    results = generate(tiny, problems, encoder, GREEDY_ONLY)
    assert len({row[0].num_tokens for row in results}) > 1


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_global_generator_are_left_as_they_were(tiny, encoder, problems, training):
    tiny.train(training)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    generate(tiny, problems[:2], encoder, SAMPLED)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training == training for module in tiny.modules())


def test_the_training_mode_comes_back_after_an_error(tiny, encoder, problems, monkeypatch):
    tiny.train()

    @functools.wraps(tiny.forward)
    def fail(**_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tiny, "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        generate(tiny, problems[:1], encoder, SAMPLED)
    assert all(module.training for module in tiny.modules())


def test_dropout_is_off_while_generating(encoder, problems):
    policy = Policy(PolicyArgs("tiny", lora=LoraArgs(dropout=0.9)))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
    first = generate(policy.model, problems[:2], encoder, SAMPLED)
    assert generate(policy.model, problems[:2], encoder, SAMPLED) == first


def test_generation_settings_in_the_models_folder_change_no_sample(tiny, encoder, problems, tmp_path):
    folder = shutil.copytree(resolve_base("tiny"), tmp_path / "opinionated")
    settings = {
        "eos_token_id": 2, "pad_token_id": 0, "do_sample": True, "repetition_penalty": 5.0, "top_p": 0.1, "top_k": 2,
        "temperature": 0.2, "min_new_tokens": 40, "no_repeat_ngram_size": 2, "suppress_tokens": [10, 11, 12],
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model = Policy(PolicyArgs(str(folder), method="full")).model
    assert generate(model, problems, encoder, SAMPLED) == generate(tiny, problems, encoder, SAMPLED)


# The distribution. A few logits over a vocabulary of six, drawn by many streams.

LOGITS = torch.tensor([0.0, 1.5, -1.0, 0.7, 2.0, -3.0])
CHI_SQUARE_999 = {1: 10.83, 2: 13.82, 4: 18.47, 5: 20.52, 35: 66.62}  # 0.999 quantiles by degrees of freedom
NUM_STREAMS = 20_000


def drawn(logits, *, temperature=1.0, top_p=1.0, num_steps=1) -> torch.Tensor:
    """Return (streams, steps) tokens, one stream for each of many problem ids."""
    uniforms = stream_uniforms([stream_seed(0, "s", f"p{i}", 0) for i in range(NUM_STREAMS)], num_steps)
    rows = logits.repeat(NUM_STREAMS, 1)
    return torch.stack([draw(rows, column, temperature=temperature, top_p=top_p)[0] for column in uniforms.T], 1)


def chi_square(counts: torch.Tensor, probabilities: torch.Tensor) -> float:
    expected = probabilities.double() * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax_at_the_temperature(temperature):
    counts = drawn(LOGITS, temperature=temperature)[:, 0].bincount(minlength=6)
    assert chi_square(counts, (LOGITS / temperature).softmax(0)) < CHI_SQUARE_999[5]
    assert chi_square(counts, (LOGITS / (temperature * 1.2)).softmax(0)) > CHI_SQUARE_999[5]  # the test can fail


def test_steps_of_a_stream_are_independent():
    first, second = drawn(LOGITS, num_steps=2).T
    pairs = (6 * first + second).bincount(minlength=36)
    probabilities = LOGITS.softmax(0)
    assert chi_square(pairs, torch.outer(probabilities, probabilities).flatten()) < CHI_SQUARE_999[35]


def test_top_p_draws_from_the_smallest_set_that_holds_p_and_nothing_else():
    logits = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()
    counts = drawn(logits, top_p=0.7)[:, 0].bincount(minlength=4)
    # 0.5 alone is below 0.7, 0.5 + 0.3 is not: tokens 1 and 3 remain, with 5/8 and 3/8
    assert counts[[0, 2]].tolist() == [0, 0]
    assert chi_square(counts[[1, 3]], torch.tensor([5 / 8, 3 / 8])) < CHI_SQUARE_999[1]


def test_the_extremes_of_the_uniform_draw_tokens_that_have_probability():
    logits = torch.tensor([[-math.inf, 1.0, -math.inf, 0.0, -math.inf]])
    last = 1 - 2**-53  # the largest number that torch.rand gives in float64
    for uniform, expected in ((0.0, 1), (last, 3)):
        tokens, _ = draw(logits, torch.tensor([uniform], dtype=torch.float64), temperature=1.0, top_p=1.0)
        assert tokens.tolist() == [expected]


def test_greedy_rows_keep_their_maximum_beside_sampled_ones():
    uniforms = torch.tensor([-1.0, 0.0, -1.0], dtype=torch.float64)
    assert draw(LOGITS.repeat(3, 1), uniforms, temperature=100.0, top_p=1.0)[0].tolist() == [4, 0, 4]


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.3, 0.9)])
def test_draws_are_those_of_a_float32_softmax_summed_in_float64_and_counted(temperature, top_p):
    logits = 4 * torch.randn(400, 3000, generator=torch.Generator().manual_seed(0))
    uniforms = stream_uniforms(list(range(400)), 1)[:, 0]
    scores = TemperatureLogitsWarper(temperature)(None, logits)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    cumulative = scores.softmax(-1).double().cumsum(-1)
    counted = (cumulative <= uniforms[:, None] * cumulative[:, -1:]).sum(-1)
    assert torch.equal(draw(logits, uniforms, temperature=temperature, top_p=top_p)[0], counted)


def test_the_log_probability_of_a_draw_is_tempered_and_knows_no_top_p():
    uniforms = torch.tensor([0.9, -1.0], dtype=torch.float64)
    tokens, logps = draw(LOGITS.repeat(2, 1), uniforms, temperature=0.5, top_p=0.6)
    expected = (2 * LOGITS).log_softmax(0)[tokens]
    torch.testing.assert_close(logps, expected)
    assert (logps < -0.01).all()


def test_first_tokens_of_the_shipped_policy_follow_its_own_distribution(tiny, encoder):
    problem = "Ann has 3 apples. She buys 4 more. How many apples does she have now?"
    ids = torch.tensor([encoder.encode_prompt(problem)])
    with torch.no_grad():
        probabilities = (tiny.eval()(ids).logits[0, -1].double() / 3.0).softmax(0)
    streams = [Problem(f"s{i}", "toy", problem) for i in range(150)]
    sampling = SamplingArgs(num_samples=8, greedy=False, max_new_tokens=1, temperature=3.0)
    texts = Counter(one.text for row in generate(tiny, streams, encoder, sampling) for one in row)
    top = probabilities.topk(4).indices.tolist()
    counts = torch.tensor([texts[encoder.decode([token])] for token in top])
    counts = torch.cat([counts, 1200 - counts.sum()[None]])
    expected = torch.cat([probabilities[top], 1 - probabilities[top].sum()[None]])
    assert expected.min() > 0.005
    assert chi_square(counts, expected) < CHI_SQUARE_999[4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, r"sampling\.temperature: expected more than 0"),
        ({"top_p": 0.0}, r"sampling\.top_p: expected a value in \(0, 1\]"),
        ({"top_p": 1.1}, r"sampling\.top_p"),
        ({"max_new_tokens": 0}, r"sampling\.max_new_tokens: expected at least 1"),
        ({"max_batch_tokens": 0}, r"sampling\.max_batch_tokens"),
        ({"num_samples": 0, "greedy": False}, r"sampling\.num_samples: expected at least 1"),
        ({"num_samples": -1}, r"sampling\.num_samples"),
    ],
)
def test_sampling_out_of_range_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SamplingArgs(**arguments)
