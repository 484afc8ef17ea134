"""From problems to ids: one BOS, the right stop token, training on what generation will see."""

import itertools

import pytest
import torch

from lemma.encoding import CHAT_TEMPLATES, ChatEncoder, Example, TokenizerArgs, load_tokenizer, padded, stop_token_id
from lemma.prompts import PromptArgs, prompt_texts, render_completion, render_messages
from lemma.types import InputError, Problem

GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
KINDS = {
    "chatml": {"special": CHATML_SPECIAL, "template": CHAT_TEMPLATES["chatml"], "eos": "<|endoftext|>"},
    "gemma": {
        "special": ["<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"],
        "template": GEMMA, "bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "adds_bos": True,
    },
    "llama3": {
        "special": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "template": LLAMA3, "bos": "<|begin_of_text|>", "eos": "<|end_of_text|>", "adds_bos": True,
    },
    "plain": {"special": ["</s>"], "template": CHAT_TEMPLATES["plain"], "eos": "</s>"},
}  # fmt: skip
STOPS = {"chatml": "<|im_end|>", "gemma": "<end_of_turn>", "llama3": "<|eot_id|>", "plain": "</s>"}
_TEXTS = [list(prompt_texts()[kind]) for kind in ("templates", "systems", "instructions")]
PROMPTS = [PromptArgs(*names, shots=2 * (names[0] == "few_shot")) for names in itertools.product(*_TEXTS)]


@pytest.fixture
def tokenizer_of(make_tokenizer):
    return lambda kind, **changes: make_tokenizer(**{**KINDS[kind], **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_the_stop_token_is_the_one_that_ends_an_assistants_turn(tokenizer_of, kind):
    tokenizer = tokenizer_of(kind)
    assert stop_token_id(tokenizer) == tokenizer.convert_tokens_to_ids(STOPS[kind])


def test_a_template_that_ends_no_turn_stops_at_eos(tokenizer_of):
    tokenizer = tokenizer_of("plain", template="{% for m in messages %}{{ m['content'] }}\n{% endfor %}")
    assert stop_token_id(tokenizer) == tokenizer.eos_token_id


def test_generation_ends_at_the_turn_and_at_eos(tokenizer_of):
    tokenizer = tokenizer_of("llama3")
    names = ["<|end_of_text|>", "<|eot_id|>"]
    assert ChatEncoder(tokenizer, PromptArgs()).stop_ids == sorted(tokenizer.convert_tokens_to_ids(names))


@pytest.mark.parametrize(
    ("kind", "changes", "num_bos"),
    [
        ("gemma", {}, 1),  # the tokenizer adds it and the template renders it
        ("llama3", {}, 1),
        ("gemma", {"adds_bos": False}, 1),  # only the template renders it
        ("gemma", {"template": GEMMA.removeprefix("{{ bos_token }}")}, 1),  # only the tokenizer adds it
        ("gemma", {"template": GEMMA.removeprefix("{{ bos_token }}"), "adds_bos": False}, 0),  # nobody wants it
        ("chatml", {"bos": "<|endoftext|>"}, 0),  # Qwen, GPT-2: there is one, nobody adds it
    ],
)
def test_a_prompt_has_exactly_one_bos_where_the_tokenizer_or_the_template_wants_it(
    tokenizer_of, kind, changes, num_bos
):
    tokenizer = tokenizer_of(kind, **changes)
    ids = ChatEncoder(tokenizer, PromptArgs()).encode_prompt("1 + 1?")
    assert ids.count(tokenizer.bos_token_id) == num_bos
    assert (ids[0] == tokenizer.bos_token_id) == bool(num_bos)


def test_a_completion_has_no_bos(tokenizer_of, problems):
    tokenizer = tokenizer_of("llama3")
    [completion] = ChatEncoder(tokenizer, PromptArgs()).encode(problems[0]).completions
    assert tokenizer.bos_token_id not in completion


@pytest.mark.parametrize("kind", KINDS)
def test_training_ids_are_generation_prompt_then_completion_then_stop(tokenizer_of, problems, kind):
    tokenizer = tokenizer_of(kind)
    for prompt in PROMPTS:
        encoder = ChatEncoder(tokenizer, prompt)
        example = encoder.encode(problems[2])
        messages = render_messages(problems[2].problem, prompt)
        # the reference is transformers' own path from messages to ids
        assert example.prompt_ids == tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
        assert example.prompt_ids == encoder.encode_prompt(problems[2].problem)
        completion = render_completion(problems[2], prompt)
        stop = tokenizer.convert_tokens_to_ids(STOPS[kind])
        assert example.completions == [[*tokenizer(completion, add_special_tokens=False)["input_ids"], stop]]
        # and the text is that of the whole conversation, up to what the template writes after the stop token
        whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": completion}], tokenize=False)
        assert whole.rstrip("\n") == tokenizer.decode(example.prompt_ids + example.completions[0])


def test_the_shipped_policy_sees_in_training_what_it_is_given_in_generation(encoder, problems):
    for prompt in PROMPTS:
        one = ChatEncoder(encoder.tokenizer, prompt)
        for problem in problems:
            example = one.encode(problem)
            messages = render_messages(problem.problem, prompt)
            assert example.prompt_ids == one.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )
            assert one.decode(example.completions[0]) == render_completion(problem, prompt)
            assert example.completions[0].index(one.stop_id) == len(example.completions[0]) - 1


def test_the_stop_token_ends_a_completion_once(tokenizer_of, problems):
    for kind in KINDS:
        encoder = ChatEncoder(tokenizer_of(kind), PromptArgs())
        [completion] = encoder.encode(problems[0]).completions
        assert [i for i, token in enumerate(completion) if token in encoder.stop_ids] == [len(completion) - 1]


def test_a_solution_that_spells_the_stop_token_does_not_stop(encoder):
    solution = "In ChatML, <|im_end|> ends a turn. So 2."
    [completion] = encoder.encode(Problem("1", "toy", "?", solution, "2")).completions
    assert [i for i, token in enumerate(completion) if token in encoder.stop_ids] == [len(completion) - 1]


def test_describe_shows_the_prompt_and_marks_what_counts(encoder):
    example = encoder.encode(Problem("1", "toy", "2 + 2?", "2 + 2 = 4.", "4"))
    assert encoder.describe(example) == (
        "<|im_start|>user\n2 + 2?\nPut your final answer within \\boxed{}.<|im_end|>\n<|im_start|>assistant\n"
        "«2 + 2 = 4.\nThe answer is \\boxed{4}.<|im_end|>»"
    )


def test_a_pad_token_that_is_eos_masks_no_real_eos(tokenizer_of, tmp_path, problems):
    tokenizer_of("plain").save_pretrained(tmp_path)  # has no pad token
    tokenizer = load_tokenizer(TokenizerArgs(str(tmp_path)))
    encoder = ChatEncoder(tokenizer, PromptArgs())
    assert encoder.pad_id == encoder.stop_id == tokenizer.eos_token_id
    short, long = encoder.encode(problems[3]), encoder.encode(problems[2])
    batch = padded([short, long], pad_id=encoder.pad_id, window_weight=1.0)
    length = len(short.prompt_ids) + len(short.completions[0])
    assert batch.input_ids[0, length - 1] == encoder.stop_id
    assert batch.attention_mask[0].tolist() == [True] * length + [False] * (batch.input_ids.shape[1] - length)
    assert batch.completion_mask[0, length - 1]
    assert not batch.completion_mask[0, length:].any()
    assert (batch.input_ids[0, length:] == encoder.stop_id).all()


def test_a_batch_holds_each_row_and_its_masks():
    examples = [
        Example("a", "s", [5, 6], [[7, 2], [8, 9, 2]], weight=0.5),  # two completions share a prompt
        Example("b", "s", [4], [[3, 2]]),
        Example("c", "s", [4, 4], [[2]], weight=0.0),  # a filler
    ]
    batch = padded(examples, pad_id=0, window_weight=4.5)
    assert batch.input_ids.tolist() == [[5, 6, 7, 2, 0], [5, 6, 8, 9, 2], [4, 3, 2, 0, 0], [4, 4, 2, 0, 0]]
    assert batch.attention_mask.int().tolist() == [[1, 1, 1, 1, 0], [1] * 5, [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]
    assert batch.completion_mask.int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 1, 0, 0]]
    assert batch.weights.tolist() == [0.5, 0.5, 1.0, 0.0]
    assert batch.window_weight == 4.5
    assert batch.num_tokens == 4 + 5 + 3  # the filler does not count
    assert batch.num_positions == 20
    assert [e.completion_weight for e in examples] == [0.5 * 5, 2.0, 0.0]
    assert batch.input_ids.dtype == torch.long


def test_a_named_template_replaces_the_tokenizers_own(tokenizer_of, tmp_path):
    tokenizer_of("chatml", template=None).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no chat template"):
        load_tokenizer(TokenizerArgs(str(tmp_path)))
    tokenizer = load_tokenizer(TokenizerArgs(str(tmp_path), chat_template="chatml"))
    assert tokenizer.decode(ChatEncoder(tokenizer, PromptArgs("bare")).encode_prompt("Hi")) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    plain = load_tokenizer(TokenizerArgs(str(tmp_path), chat_template="plain"))
    assert plain.decode(ChatEncoder(plain, PromptArgs("bare")).encode_prompt("Hi")) == "Hi\n\n"


def test_tokenizers_that_cannot_work_are_refused(tokenizer_of, tmp_path):
    with pytest.raises(InputError, match="chat_template: expected null or one of chatml, plain"):
        TokenizerArgs("tiny", chat_template="alpaca")
    with pytest.raises(InputError, match="no tokenizer could be loaded"):
        load_tokenizer(TokenizerArgs(str(tmp_path / "absent")))
    tokenizer_of("plain", eos=None).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no eos token"):
        load_tokenizer(TokenizerArgs(str(tmp_path)))


def test_a_template_that_refuses_system_prompts_is_an_input_error(tokenizer_of):
    strict = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + GEMMA
    )
    tokenizer = tokenizer_of("gemma", template=strict)  # as Gemma 2 does
    with pytest.raises(InputError, match="System role not supported"):
        ChatEncoder(tokenizer, PromptArgs(system="tutor")).encode_prompt("1 + 1?")


def test_the_template_hash_follows_the_chat_template(tokenizer_of):
    hashes = {ChatEncoder(tokenizer_of(kind), PromptArgs()).template_hash for kind in KINDS}
    assert len(hashes) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_plain_text_stands_between_document_tokens_without_a_chat(tokenizer_of, kind):
    tokenizer = tokenizer_of(kind)
    example = ChatEncoder(tokenizer, PromptArgs()).encode(Problem("1", "web", "", solution="a<|im_end|> = b"))
    begin = tokenizer.eos_token_id if tokenizer.bos_token is None else tokenizer.bos_token_id
    assert example.prompt_ids == [begin]
    (completion,) = example.completions
    assert completion[-1] == tokenizer.eos_token_id
    assert completion.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(completion[:-1]) == "a<|im_end|> = b"
