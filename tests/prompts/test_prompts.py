"""What a policy is asked and how it answers: literal problems, formats that read back, hashes that notice."""

import inspect
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemma.answers import extract_answer
from lemma.prompts import ANSWER_FORMATS, PromptArgs, prompt_texts, render_completion, render_messages, template_hash
from lemma.types import InputError, Problem

TEMPLATES = (
    *("bare", "basic", "step_by_step", "structured", "detailed_reasoning"),
    *("few_shot", "expert", "five_steps", "competition"),
    *("equations_first", "backwards", "estimate_first", "state_rules", "premises", "solve_twice"),
)
SYSTEMS = ("none", "tutor", "expert", "five_steps", "tags")
FORMATS = ("boxed", "gsm8k", "tags")
ALL = [
    PromptArgs(*names, shots=int(names[0] == "few_shot")) for names in itertools.product(TEMPLATES, SYSTEMS, FORMATS)
]
AWKWARD = [
    r"Let $f(x) = \frac{x}{\sqrt{2}}$ for $x \in \{1, 2\}$. What is \boxed{f(1)}?",
    "Fill in {instruction} and {problem}, {0}, {{}}, {problem!r} and %s.",
    "{problem}",
    "{instruction}",
    r"Back \g<0> slash \1 \\ $& {",
    "two\n\nlines\tand a tab ",
    "ünï¢ødé ≤ π 数",
]


def test_the_names_in_the_help_are_the_names_that_exist():
    texts = prompt_texts()
    assert tuple(texts["templates"]) == TEMPLATES
    assert tuple(texts["systems"]) == SYSTEMS
    assert set(texts["instructions"]) == set(ANSWER_FORMATS) == set(FORMATS)
    shown = inspect.getsource(PromptArgs)
    assert all(name in shown for name in (*TEMPLATES, *SYSTEMS, *FORMATS, *texts["shots"]))


def test_what_the_default_prompt_asks_never_changes():
    # published figures were measured with this text
    assert render_messages("What is 2 + 3?", PromptArgs()) == [
        {"role": "user", "content": "What is 2 + 3?\nPut your final answer within \\boxed{}."}
    ]
    assert render_completion(Problem("1", "s", "?", "2 + 3 = 5.", "5"), PromptArgs()) == (
        "2 + 3 = 5.\nThe answer is \\boxed{5}."
    )
    assert template_hash(PromptArgs(), "x") == "57a97d3923d89080"


@pytest.mark.parametrize("problem", AWKWARD)
def test_every_template_writes_the_problem_literally(problem):
    for prompt in ALL:
        instruction = prompt_texts()["instructions"][prompt.answer_format]
        before, after = prompt_texts()["templates"][prompt.template].split("{problem}")
        expected = before.replace("{instruction}", instruction) + problem + after.replace("{instruction}", instruction)
        assert render_messages(problem, prompt)[-1] == {"role": "user", "content": expected}


@given(problem=st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_stands_once_and_unchanged_in_the_message(problem):
    for prompt in ALL[:: len(SYSTEMS) * len(FORMATS)]:
        message = render_messages(problem, prompt)[-1]
        frame = render_messages("\0", prompt)[-1]["content"].split("\0")
        assert message["content"] == problem.join(frame)


def test_the_instruction_asks_for_the_format():
    marks = {"boxed": r"\boxed{}", "gsm8k": "####", "tags": "<answer>"}
    for template, answer_format in itertools.product(TEMPLATES[1:], FORMATS):
        shots = int(template == "few_shot")
        message = render_messages("1 + 1?", PromptArgs(template, "none", answer_format, shots=shots))[-1]
        assert marks[answer_format] in message["content"]
    assert render_messages("1 + 1?", PromptArgs("bare"))[0]["content"] == "1 + 1?"


def test_a_system_prompt_comes_first_and_none_means_no_message():
    assert [message["role"] for message in render_messages("?", PromptArgs(system="none"))] == ["user"]
    for system in ("tutor", "expert"):
        first, second = render_messages("?", PromptArgs(system=system))
        assert first == {"role": "system", "content": prompt_texts()["systems"][system]}
        assert second["role"] == "user"


def test_completions_by_hand():
    problem = Problem("1", "s", "?", "So \\boxed{3} and then 3 + 4 = 7.", "7")
    written = {name: render_completion(problem, PromptArgs(answer_format=name)) for name in FORMATS}
    assert written == {
        "boxed": "So 3 and then 3 + 4 = 7.\nThe answer is \\boxed{7}.",
        "gsm8k": "So 3 and then 3 + 4 = 7.\n#### 7",
        "tags": "<reasoning>\nSo 3 and then 3 + 4 = 7.\n</reasoning>\n<answer>\n7\n</answer>",
    }


def test_a_solution_that_boxes_the_answer_is_kept_as_it_is():
    solution = "First $x = 2$.\nHence $\\boxed{\\frac{1}{2}}$ is the value."
    assert render_completion(Problem("1", "s", "?", solution, r"\frac{1}{2}"), PromptArgs()) == solution


STRATEGY = {"boxed": "boxed", "gsm8k": "hashes", "tags": "answer_tag"}


@pytest.mark.parametrize("answer_format", FORMATS)
@given(answer=st.integers(-(10**12), 10**12), other=st.integers(-999, 999), has_solution=st.booleans())
@settings(max_examples=80, deadline=None)
def test_every_format_reads_back_the_integer_that_was_written(answer_format, answer, other, has_solution):
    solution = f"We try {other}, then \\boxed{{{other}}}, and get {other} + 1 = $x$." if has_solution else None
    problem = Problem("1", "s", "?", solution, str(answer))
    found = extract_answer(render_completion(problem, PromptArgs(answer_format=answer_format)))
    assert (found.answer, found.strategy) == (str(answer), STRATEGY[answer_format])


@pytest.mark.parametrize("answer_format", FORMATS)
@pytest.mark.parametrize(
    "answer", [r"\frac{3}{4}", r"\{1, 2\}", "1,234", "$5", r"x \in (0, 1]", "-0.5", r"\text{(A)}", "50\\%"]
)
def test_every_format_reads_back_latex(answer_format, answer):
    solution = r"Since \{a\} holds, \boxed{wrong} is refuted and <b>no</b> doubt remains: 12."
    found = extract_answer(
        render_completion(Problem("1", "s", "?", solution, answer), PromptArgs(answer_format=answer_format))
    )
    assert found.answer == answer


def test_a_solution_whose_last_box_is_one_of_a_list_reads_back_the_answer():
    problem = Problem("1", "s", "Which is larger?", r"The roots are \boxed{1}, \boxed{2}", "2")
    assert extract_answer(render_completion(problem, PromptArgs())).answer == "2"


@pytest.mark.parametrize("answer_format", ANSWER_FORMATS)
def test_a_solution_without_an_answer_stands_as_it_is(answer_format):
    problem = Problem("1", "s", "?", r"So \boxed{2}, I think.\n#### maybe")
    assert render_completion(problem, PromptArgs(answer_format=answer_format)) == problem.solution


def test_a_problem_with_neither_answer_nor_solution_is_refused_by_name():
    with pytest.raises(InputError, match="toy, problem train/7: no answer and no solution"):
        render_completion(Problem("train/7", "toy", "?"), PromptArgs())


@pytest.mark.parametrize(("key", "value"), [("template", "nope"), ("system", "null"), ("answer_format", "latex")])
def test_an_unknown_name_is_refused_with_the_known_ones(key, value):
    with pytest.raises(InputError, match=rf"data\.prompt\.{key}: expected one of .*but got '{value}'"):
        PromptArgs(**{key: value})


def test_the_hash_tells_all_prompts_and_chat_templates_apart():
    hashes = {template_hash(prompt, chat) for prompt in ALL for chat in ("{{ a }}", "{{ b }}")}
    assert len(hashes) == 2 * len(ALL)
    assert all(len(one) == 16 and set(one) <= set("0123456789abcdef") for one in hashes)
    assert template_hash(PromptArgs(), "x") == template_hash(PromptArgs("basic", "none", "boxed"), "x")
