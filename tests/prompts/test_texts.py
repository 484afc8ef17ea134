"""A user's own prompt texts: they stand over the shipped ones, and what is wrong is named by file, section and key."""

import pytest

from lemma.prompts import PromptArgs, prompt_texts, render_messages, template_hash
from lemma.types import InputError

OWN = """
templates:
  terse: "{problem} {instruction} With x_{max} and \\\\boxed{answer} and { y }."
  basic: "Now: {problem}"
systems:
  coach: "You coach a team."
instructions:
  gsm8k: "Write #### before the answer."
shots:
  algebra:
    - {problem: "x + 1 = 3?", solution: "x = 3 - 1 = 2.", answer: "2"}
  logic:
    - {problem: "True or false?", solution: "It is true.", answer: "true"}
"""


@pytest.fixture
def written(tmp_path):
    def write(content: str | bytes) -> str:
        path = tmp_path / "own.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_texts_of_a_file_stand_over_the_shipped_ones_and_beside_them(written):
    file, shipped = written(OWN), prompt_texts()
    texts = prompt_texts(file)
    assert [*texts["templates"]] == [*shipped["templates"], "terse"]
    assert texts["templates"]["bare"] == "{problem}"
    assert [*texts["shots"]] == [*shipped["shots"], "logic"]
    assert len(texts["shots"]["algebra"]) == 1 < len(shipped["shots"]["algebra"])
    prompt = PromptArgs("terse", "coach", "gsm8k", shots=2, categories=["logic", "algebra"], file=file)
    asked = "{} Write #### before the answer. With x_{{max}} and \\boxed{{answer}} and {{ y }}."
    assert render_messages("1 + 1?", prompt) == [
        {"role": "system", "content": "You coach a team."},
        {"role": "user", "content": asked.format("True or false?")},
        {"role": "assistant", "content": "It is true.\n#### true"},
        {"role": "user", "content": asked.format("x + 1 = 3?")},
        {"role": "assistant", "content": "x = 3 - 1 = 2.\n#### 2"},
        {"role": "user", "content": asked.format("1 + 1?")},
    ]
    assert render_messages("1 + 1?", PromptArgs(file=file)) == [{"role": "user", "content": "Now: 1 + 1?"}]
    assert prompt_texts() == shipped


def test_a_prompt_keeps_the_texts_that_stood_when_it_was_made(written):
    prompt = PromptArgs(file=written('templates: {basic: "One: {problem}"}'))
    written('templates: {basic: "Two: {problem}"}')
    assert render_messages("?", prompt)[0]["content"] == "One: ?"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("templates: [", "expected YAML, but .*line 1"),
        (b"templates: {a: '\xe9 {problem}'}", "expected UTF-8, but byte 16 is 0xe9"),
        ("", "expected a mapping of templates, systems, instructions, shots, but got None"),
        ("- a", "expected a mapping of templates"),
        ("template: {a: '{problem}'}", "expected the sections templates, .* but got 'template'"),
        ("templates: '{problem}'", "templates: expected a mapping, but got '{problem}'"),
        ("systems: {}", "systems: expected a mapping"),
        ("templates: {no: '{problem}'}", r"templates: expected names that are text \(in quotes\), but got False"),
        ("templates: {a: 7}", r"templates\.a: expected a text, but got 7"),
        ("systems: {a: ' '}", r"systems\.a: expected a text"),
        ("systems: {none: 'Be nice.'}", r"systems\.none: expected another name"),
        ("templates: {a: 'Solve it.'}", r"templates\.a: expected {problem} where the problem is to stand"),
        (
            "templates: {a: '{problem} {instructions}'}",
            r"templates\.a: expected of placeholders only {problem} and {instruction}, but got {instructions}",
        ),
        ("systems: {a: 'On {problem}'}", r"systems\.a: expected no placeholder, but got {problem}"),
        ("instructions: {latex: 'In LaTeX.'}", r"instructions\.latex: expected a format of boxed, gsm8k, tags"),
        ("shots: {logic: {problem: a}}", r"shots\.logic: expected a list of worked examples"),
        (
            "shots: {logic: [{problem: a, answer: b}]}",
            r"shots\.logic\[0\]: expected the keys problem, solution, answer",
        ),
        (
            "shots: {logic: [{problem: a, solution: b, answer: 042}]}",
            r"shots\.logic\[0\]\.answer: expected a text \(in quotes\), but got 34",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_named(written, content, complaint):
    with pytest.raises(InputError, match=rf"data\.prompt\.file: .*own\.yaml: {complaint}"):
        PromptArgs(file=written(content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"data\.prompt\.file: .*absent\.yaml: cannot be read \(No such file"):
        PromptArgs(file=str(tmp_path / "absent.yaml"))


BASE = {
    "templates": {"a": "A {problem} {instruction}"},
    "systems": {"a": "S"},
    "instructions": {"boxed": "I"},
    "shots": {"a": [{"problem": "P", "solution": "Q", "answer": "R"}]},
}


@pytest.mark.parametrize(
    "changed",
    [
        {"templates": {"a": "B {problem} {instruction}"}},
        {"systems": {"a": "T"}},
        {"instructions": {"boxed": "J"}},
        *({"shots": {"a": [BASE["shots"]["a"][0] | {key: "X"}]}} for key in ("problem", "solution", "answer")),
    ],
)
def test_the_hash_changes_when_a_text_of_the_file_changes(written, changed):
    def hash_of(texts: dict) -> str:
        file = written(str(texts))  # a Python literal of strings is YAML too
        return template_hash(PromptArgs("a", "a", shots=1, categories=["a"], file=file), "chat")

    assert hash_of(BASE) == hash_of(dict(reversed(BASE.items()))) != hash_of(BASE | changed)


def test_the_hash_does_not_depend_on_where_the_file_lies(written, tmp_path):
    one, other = written(OWN), tmp_path / "other.yaml"
    other.write_text(OWN)
    assert template_hash(PromptArgs("terse", file=one), "") == template_hash(PromptArgs("terse", file=str(other)), "")
