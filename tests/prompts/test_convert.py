"""Conversion among the answer formats: the answer is the same, the words stay, and the way back leads home."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemma.answers import extract_answer, strip_boxes
from lemma.prompts import ANSWER_FORMATS, convert_format
from lemma.types import InputError

PAIRS = list(itertools.permutations(ANSWER_FORMATS, 2))
WRITTEN = {
    "boxed": "So x = 3.\nThe answer is \\boxed{3}.",
    "gsm8k": "So x = 3.\n#### 3",
    "tags": "<reasoning>\nSo x = 3.\n</reasoning>\n<answer>\n3\n</answer>",
}
leaf = st.from_regex(r"[a-z0-9 ,.+*/()=-]{1,8}", fullmatch=True)
latex = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.builds(r"\frac{{{}}}{{{}}}".format, inner, inner),
        st.builds(r"\sqrt{{{}}}".format, inner),
        st.builds(r"\{{{}, {}\}}".format, inner, inner),
        st.builds(r"\text{{{}}}".format, inner),
        st.builds("{}^{{{}}}".format, inner, inner),
        st.builds("({}, {}]".format, inner, inner),
    ),
    max_leaves=4,
)
number = st.integers(-(10**9), 10**9).map("{:,}".format)
answers = st.one_of(number, latex).map(str.strip).filter(bool)
words = st.text(st.sampled_from("ab3 .\n=${}\\#<>"), max_size=30).filter(lambda text: "####" not in text)


@pytest.mark.parametrize(("source", "target"), itertools.product(ANSWER_FORMATS, repeat=2))
def test_conversions_by_hand(source, target):
    assert convert_format(WRITTEN[source], source, target) == WRITTEN[target]


@given(reasoning=words, answer=answers)
@settings(max_examples=150, deadline=None)
def test_the_way_there_and_back_leads_to_the_same_text(reasoning, answer):
    for source, target in PAIRS:
        text = ANSWER_FORMATS[source](reasoning, answer)
        converted = convert_format(text, source, target)
        if converted is None:  # the braces of the reasoning close no box of the answer
            assert "boxed" in (source, target)
            assert "{" in reasoning or "}" in reasoning or "\\" in reasoning
            continue
        back = convert_format(converted, target, source)
        assert back == text
        assert convert_format(back, source, target) == converted
        assert convert_format(converted, target, target) == converted
        assert reasoning in converted


@given(reasoning=st.text(st.sampled_from("ab3 .,=$\n"), max_size=30), answer=st.one_of(number, st.just(r"\frac{1}{2}")))
@settings(max_examples=100, deadline=None)
def test_a_grader_reads_the_same_answer_in_every_format(reasoning, answer):
    strategies = {"boxed": "boxed", "gsm8k": "hashes", "tags": "answer_tag"}
    for source, target in PAIRS:
        found = extract_answer(convert_format(ANSWER_FORMATS[source](reasoning, answer), source, target))
        assert (found.answer, found.strategy) == (answer, strategies[target])


def test_a_box_inside_the_reasoning_becomes_words_and_the_rest_stays():
    text = "First $x = \\boxed{2}$.\nHence\n\n$$\\boxed{\\frac{1}{2}}$$\nas was to be found.\n"
    converted = convert_format(text, "boxed", "gsm8k")
    assert converted == f"{strip_boxes(text)}\n#### \\frac{{1}}{{2}}"
    assert convert_format(convert_format(converted, "gsm8k", "boxed"), "boxed", "gsm8k") == converted


def test_boxes_that_form_a_list_are_one_answer():
    text = "The roots are \\boxed{1} and \\boxed{2}."
    assert convert_format(text, "boxed", "gsm8k") == "The roots are 1 and 2.\n#### 1, 2"


def test_what_follows_the_answer_stands_before_it():
    assert convert_format("So 3.\n#### 3\nI hope this helps.", "gsm8k", "boxed") == (
        "So 3.\nI hope this helps.\nThe answer is \\boxed{3}."
    )
    assert convert_format("<answer>7</answer> Done.", "tags", "gsm8k") == "Done.\n#### 7"


def test_the_named_format_decides_whatever_other_markers_the_text_has():
    text = "A \\boxed{1}\n<answer>2</answer>\n#### 3"
    assert convert_format(text, "gsm8k", "boxed") == "A 1\n2\nThe answer is \\boxed{3}."
    assert convert_format(text, "tags", "gsm8k") == "A 1\n3\n#### 2"
    assert convert_format(text, "boxed", "tags") == "<reasoning>\nA 1\n2\n3\n</reasoning>\n<answer>\n1\n</answer>"


def test_a_marker_that_comes_to_light_as_another_goes_goes_too():
    converted = convert_format("####<answer>7</answer> and \\box<answer>ed{4}\n#### 3", "gsm8k", "boxed")
    assert converted == "7 and 4\nThe answer is \\boxed{3}."


def test_headings_are_no_answers_and_stay():
    text = "#### Step 1\nAdd.\n#### 4\n"
    assert convert_format(text, "gsm8k", "tags") == (
        "<reasoning>\n#### Step 1\nAdd.\n</reasoning>\n<answer>\n4\n</answer>"
    )
    assert convert_format("#### Step 1\nAdd: 4", "gsm8k", "boxed") is None


def test_an_answer_of_several_lines_is_one_line_after_hashes():
    text = "\\boxed{\\begin{pmatrix} 1 \\\\\n 2 \\end{pmatrix}}"
    assert convert_format(text, "boxed", "gsm8k").endswith("\n#### \\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("", "boxed"),
        ("So it is 3.", "boxed"),
        ("\\boxed{}", "boxed"),
        ("\\boxed{3", "boxed"),
        ("#### 3", "boxed"),
        ("So \\boxed{3}.", "gsm8k"),
        ("#### 3\n####", "gsm8k"),
        ("<answer>3", "tags"),
        ("<answer> </answer>", "tags"),
    ],
)
def test_a_text_without_an_answer_in_its_format_is_none(text, source):
    assert [convert_format(text, source, target) for target in ANSWER_FORMATS] == [None] * 3


def test_an_answer_that_a_box_cannot_hold_is_none():
    assert convert_format("#### \\sqrt{2", "gsm8k", "boxed") is None
    assert convert_format("#### \\sqrt{2", "gsm8k", "tags") is not None


@pytest.mark.parametrize(("name", "formats"), [("source", ("latex", "boxed")), ("target", ("boxed", "latex"))])
def test_an_unknown_format_is_refused_by_name(name, formats):
    with pytest.raises(InputError, match=rf"`{name}` to be one of boxed, gsm8k, tags, but got 'latex'"):
        convert_format("\\boxed{1}", *formats)
