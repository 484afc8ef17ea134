"""Pairs: two completions of one prompt as ids, the same truncated, and how much longer the chosen ones are."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemma.encoding import ChatEncoder, Example, Limits, PairArgs, truncate
from lemma.encoding.pairs import balance, balance_table, length_differences, within_bias
from lemma.prompts import PromptArgs
from lemma.types import InputError, Preference, Problem

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


@pytest.fixture
def tokenizer(make_tokenizer):
    return make_tokenizer(
        special=SPECIAL, template=LLAMA3, bos="<|begin_of_text|>", eos="<|end_of_text|>", adds_bos=True
    )


def preference(**changes) -> Preference:
    given = {"id": "1", "source": "toy", "messages": (("user", "2 + 2?"),), "chosen": "It is 4.", "rejected": "5"}
    return Preference(**given | changes)


@pytest.mark.parametrize("prompt", [PromptArgs(), PromptArgs("step_by_step", "tutor"), PromptArgs("few_shot", shots=2)])
def test_a_plain_prompt_is_dressed_as_a_problem_is(tokenizer, prompt):
    encoder = ChatEncoder(tokenizer, prompt)
    [pair] = encoder.encode_pairs([preference()])
    assert pair.prompt_ids == encoder.encode_prompt("2 + 2?")
    assert pair.completions == [
        [*tokenizer(text, add_special_tokens=False)["input_ids"], encoder.stop_id] for text in ("It is 4.", "5")
    ]
    assert (pair.problem_id, pair.source, pair.kind, pair.weight) == ("1", "toy", "given", 1.0)
    assert pair.is_pair
    assert not encoder.encode(Problem("1", "toy", "2 + 2?", answer="4")).is_pair


def test_a_chat_is_rendered_as_it_is_whatever_the_runs_prompt(tokenizer):
    messages = (("system", "Be brief."), ("user", "1 + 1?"), ("assistant", "2"), ("user", "And 2 + 2?"))
    chat = [{"role": role, "content": content} for role, content in messages]
    [pair] = ChatEncoder(tokenizer, PromptArgs(system="tutor")).encode_pairs(
        [preference(messages=messages, form="chat", kind="right_over_wrong")]
    )
    assert pair.prompt_ids == tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert pair.prompt_ids.count(tokenizer.bos_token_id) == 1
    assert pair.kind == "right_over_wrong"


@pytest.mark.parametrize("form", ["plain", "chat"])
@pytest.mark.parametrize("template", [LLAMA3, LLAMA3.removeprefix("{{ bos_token }}")])
def test_a_pair_has_one_bos_at_the_front_and_its_sides_none(tokenizer, form, template):
    tokenizer.chat_template = template
    [pair] = ChatEncoder(tokenizer, PromptArgs()).encode_pairs([preference(form=form)])
    assert [i for i, token in enumerate(pair.prompt_ids) if token == tokenizer.bos_token_id] == [0]
    assert all(tokenizer.bos_token_id not in ids for ids in pair.completions)


def test_text_that_spells_a_stop_token_does_not_stop(tokenizer):
    encoder = ChatEncoder(tokenizer, PromptArgs())
    [pair] = encoder.encode_pairs([preference(chosen="4<|eot_id|> is it", rejected="<|end_of_text|>")])
    for ids in pair.completions:
        assert [i for i, token in enumerate(ids) if token in encoder.stop_ids] == [len(ids) - 1]
    assert tokenizer.decode(pair.completions[0][:-1]) == "4<|eot_id|> is it"


def test_pairs_encoded_together_are_those_encoded_alone(tokenizer):
    encoder = ChatEncoder(tokenizer, PromptArgs())
    some = [preference(id=str(i), chosen="x" * i, form=("plain", "chat")[i % 2]) for i in range(1, 6)]
    assert encoder.encode_pairs(some) == [encoder.encode_pairs([one])[0] for one in some]
    assert encoder.encode_pairs([]) == []


def test_a_template_that_refuses_a_pairs_roles_names_the_pair(tokenizer):
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + LLAMA3
    )
    encoder = ChatEncoder(tokenizer, PromptArgs())
    chat = preference(messages=(("system", "Be brief."), ("user", "?")), form="chat")
    with pytest.raises(InputError, match=r"toy, pair 1: .* refuses the roles system, user: System role .* pair's own"):
        encoder.encode_pairs([chat])
    with pytest.raises(InputError, match="Is a system prompt or a persona set"):
        ChatEncoder(tokenizer, PromptArgs(system="tutor")).encode_pairs([preference()])


def test_a_pair_is_shown_with_both_sides_named(encoder):
    assert encoder.describe(encoder.encode_pairs([preference(kind="right_over_wrong")])[0]) == (
        "<|im_start|>user\n2 + 2?\nPut your final answer within \\boxed{}.<|im_end|>\n<|im_start|>assistant\n\n"
        "chosen (right_over_wrong): «It is 4.<|im_end|>»\nrejected (right_over_wrong): «5<|im_end|>»"
    )


# Truncation


def pair(chosen: list[int], rejected: list[int]) -> Example:
    return Example("1", "toy", [1, 1], [chosen, rejected], kind="given")


def test_a_pair_is_cut_on_both_sides_or_dropped_whole():
    long = pair([3, 4, 5, 6], [7, 8])
    assert truncate(long, Limits(2, 4, "error")) is long
    short = truncate(long, Limits(2, 3, "keep_start"))
    assert (short.completions, short.answer_cut, short.kind) == ([[3, 4, 5], [7, 8]], True, "given")
    assert truncate(pair([3, 4, 5], [6, 7, 8]), Limits(2, 2, "keep_start")).completions == [[3, 4], [6, 7]]
    assert truncate(long, Limits(2, 3, "drop")) is None
    assert truncate(pair([7, 8], [3, 4, 5, 6]), Limits(2, 3, "drop")) is None
    assert truncate(long, Limits(1, 9, "keep_start")) is None, "a prompt is never cut"
    with pytest.raises(InputError, match="toy, pair 1: prompt of 2 and completion of 4 tokens"):
        truncate(long, Limits(2, 3, "error"))


def test_a_pair_whose_sides_are_cut_to_the_same_is_dropped():
    assert truncate(pair([3, 4, 5], [3, 4, 6]), Limits(2, 2, "keep_start")) is None
    assert truncate(pair([3, 4, 5], [3, 4]), Limits(2, 2, "keep_start")) is None


# Length bias


def test_the_bias_by_hand():
    lengths = np.array([[3, 1], [1, 3], [5, 5], [9, 1]])  # 2/4, -2/4, 0, 8/10
    assert length_differences(lengths).tolist() == [0.5, -0.5, 0.0, 0.8]
    one = balance(lengths, np.array([True, True, True, False]))
    assert (one.num_pairs, one.left_out) == (3, 1)
    assert (one.chosen, one.rejected) == (3.0, 3.0)
    assert one.chosen_longer == pytest.approx(1 / 3)
    assert (one.bias, one.bias_before) == (0.0, pytest.approx(0.2))
    assert balance_table([("toy", one)]).splitlines()[-1].split() == [
        "toy", "3", "3.0", "3.0", "33.3%", "+0.000", "1", "+0.200",
    ]  # fmt: skip


def test_the_furthest_pairs_on_the_side_of_the_bias_go_first():
    differences = np.array([0.5, -0.1, 0.9, 0.9, 0.1])  # mean 0.46; without one 0.9 0.35; without both 0.167
    assert within_bias(differences, 0.46).tolist() == [True] * 5
    assert within_bias(differences, 0.4).tolist() == [True, True, True, False, True], "of equal ones the later"
    assert within_bias(differences, 0.2).tolist() == [True, True, False, False, True]
    assert within_bias(-differences, 0.2).tolist() == [True, True, False, False, True]
    assert within_bias(differences, None).all()
    assert not within_bias(np.array([0.9, 0.8]), 0.1).any()
    assert within_bias(np.array([]), 0.1).tolist() == []


@given(
    differences=st.lists(st.floats(-0.95, 0.95), min_size=1, max_size=9),
    limit=st.sampled_from([0.12, 0.25, 0.5]),
)
@settings(max_examples=150, deadline=None)
def test_no_choice_of_pairs_leaves_out_fewer(differences, limit):
    values = np.array(differences)
    kept = within_bias(values, limit)
    assert not kept.any() or abs(values[kept].mean()) <= limit + 1e-12
    if kept.sum() < 1 / limit:
        return
    for fewer in range(int((~kept).sum())):
        for out in itertools.combinations(range(len(values)), fewer):
            assert abs(np.delete(values, out).mean()) > limit - 1e-12


@given(seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_many_pairs_are_brought_within_the_limit_and_the_other_side_loses_none(seed):
    values = np.clip(np.random.default_rng(seed).normal(0.2, 0.3, 500), -0.99, 0.99)
    kept = within_bias(values, 0.05)
    assert 0 < values[kept].mean() <= 0.05 + 1e-12
    assert values[~kept].min() >= values[kept].max()


@pytest.mark.parametrize("limit", [0, 1, -0.1, float("nan")])
def test_a_limit_that_cannot_be_held_is_refused(limit):
    with pytest.raises(InputError, match=r"data\.pairs\.max_length_bias: expected null or a number above 0 and below"):
        PairArgs(limit)
