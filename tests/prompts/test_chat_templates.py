"""What chat templates make of a persona and of examples: the shipped ones take both, a refusal is a clear error."""

import pytest

from lemma.encoding import CHAT_TEMPLATES, ChatEncoder
from lemma.prompts import PromptArgs, choose_shots
from lemma.types import InputError

GEMMA = (  # as Gemma 2 does: no system role, and turns must alternate
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@pytest.fixture
def gemma(make_tokenizer):
    return make_tokenizer(special=["<eos>", "<start_of_turn>", "<end_of_turn>"], template=GEMMA, eos="<eos>")


def test_a_template_without_a_system_role_takes_examples(gemma):
    text = gemma.decode(ChatEncoder(gemma, PromptArgs("few_shot", shots=3)).encode_prompt("1 + 1?"))
    assert text.count("<end_of_turn>") == 7
    assert text.endswith("Problem: 1 + 1?\nPut your final answer within \\boxed{}.\nSolution:<end_of_turn>\n"
                         "<start_of_turn>model\n")  # fmt: skip


def test_a_template_without_a_system_role_refuses_a_persona_with_a_clear_error(gemma):
    with pytest.raises(InputError, match=r"refuses the roles system, user: System role not supported"):
        ChatEncoder(gemma, PromptArgs(persona="You are Ada.")).encode_prompt("1 + 1?")


def test_a_base_model_sees_problems_and_solutions_one_after_the_other(make_tokenizer):
    tokenizer = make_tokenizer(special=["</s>"], template=CHAT_TEMPLATES["plain"], eos="</s>")
    prompt = PromptArgs("bare", answer_format="gsm8k", shots=1)
    [shot] = choose_shots(prompt)
    text = tokenizer.decode(ChatEncoder(tokenizer, prompt).encode_prompt("1 + 1?"))
    assert text == f"{shot.problem}\n\n{shot.solution}\n#### {shot.answer}</s>1 + 1?\n\n"
