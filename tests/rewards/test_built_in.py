"""Lemma's own rewards, worked out by hand."""

import math
import time

import pytest

from lemma.answers import Grader
from lemma.prompts.formats import render_boxed, render_tags
from lemma.rewards import REWARDS, answer_format, correctness, length, overlong, repetition
from lemma.types import InputError, Verdict

VERDICTS = [Verdict.CORRECT, Verdict.WRONG, Verdict.UNPARSEABLE, Verdict.TIMEOUT]
GOOD = "<reasoning>1 + 1 = 2</reasoning><answer>2</answer>"


def test_a_right_answer_earns_five_a_wrong_one_nothing_and_a_timeout_is_left_out():
    assert correctness([""] * 4, verdicts=VERDICTS) == [5.0, 0.0, 0.0, None]
    assert correctness([""] * 4, verdicts=[str(verdict) for verdict in VERDICTS]) == [5.0, 0.0, 0.0, None]


def test_every_verdict_s_worth_can_be_set():
    values = correctness([""] * 4, verdicts=VERDICTS, correct=1, wrong=-1, unparseable=-2, timeout="wrong")
    assert values == [1.0, -1.0, -2.0, -1.0]
    assert correctness([""], verdicts=["unparseable"], wrong=-3) == [-3.0]  # wrong, however much that is
    assert correctness([""], verdicts=["unparseable"], unparseable=None) == [None]


def test_correctness_takes_the_grader_s_verdicts():
    texts = [r"\boxed{0.5}", r"\boxed{2}", "no idea"]
    with Grader() as grader:
        verdicts = [each.verdict for each in grader.grade_texts(["1/2"] * 3, texts)]
    assert correctness(texts, verdicts=verdicts) == [5.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "<reasoning>\nTwo lines\nof it.\n</reasoning>\n<answer>\n2\n</answer>",
        "\n " + GOOD + "\n",
        "<reasoning>a</reasoning> \n\t <answer>b</answer>",
        "<reasoning>x < 3 and y > 2, <b>bold</b></reasoning><answer>$x<3$</answer>",
        "<reasoning>by <reason> and answer></reasoning><answer>2</answer>",
        render_tags("1 + 1 = 2", "2"),
    ],
)
def test_exact_tags_earn_one(text):
    assert answer_format([text]) == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "<answer>2</answer>",
        "<reasoning>a</reasoning>",
        "<reasoning></reasoning><answer>2</answer>",
        "<reasoning> \n </reasoning><answer>2</answer>",
        "<reasoning>a</reasoning><answer></answer>",
        "<reasoning>a</reasoning><answer>\n</answer>",
        "Sure! " + GOOD,
        GOOD + " Done.",
        "<reasoning>a</reasoning> so <answer>2</answer>",
        GOOD + GOOD,
        "<reasoning>a</reasoning>" + GOOD,
        GOOD + "<answer>3</answer>",
        GOOD.replace("</answer>", ""),
        GOOD.replace("</reasoning>", ""),
        GOOD.replace("<reasoning>", ""),
        "<answer>2</answer><reasoning>a</reasoning>",
        "<reasoning>a<answer>2</answer></reasoning>",
        "<reasoning>a<reasoning>b</reasoning></reasoning><answer>2</answer>",
        "<reasoning>a <answer>3</answer></reasoning><answer>2</answer>",
        "<reasoning>a</reasoning><answer><answer>2</answer></answer>",
        "<reasoning>a</answer></reasoning><answer>2</answer>",
        "<reasoning>a</reasoning><answer>2<reasoning></answer>",
        GOOD.replace("answer", "Answer"),
        GOOD.replace("<answer>", '<answer type="x">'),
        GOOD.replace("</answer>", "</answer >"),
        "<reasoning>a <ANSWER>3</ANSWER></reasoning><answer>2</answer>",
        "<think>a</think><answer>2</answer>",
        "&lt;reasoning&gt;a&lt;/reasoning&gt;<answer>2</answer>",
    ],
)
def test_anything_else_loses_one(text):
    assert answer_format([text]) == [-1.0]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (r"So it is \boxed{42}.", True),
        (r"\boxed{\frac{1}{2}}", True),
        ("Then\n\\[\n\\boxed{ x = \\{1, 2\\} }\n\\]\n", True),
        ("\\begin{align*}\nx &= 1 \\\\\n&= \\boxed{1}\n\\end{align*}", True),
        ("\\boxed{\n\\begin{pmatrix}1\\\\2\\end{pmatrix}\n}\n", True),
        (r"That makes $\boxed{42}$ eggs in all.", True),
        (render_boxed("1 + 1 = 2", "2"), True),
        ("", False),
        ("42", False),
        (r"\boxed{}", False),
        (r"\boxed{ }", False),
        (r"\boxed{4", False),
        (r"\boxed 4", False),
        (r"\fbox{4}", False),
        (r"\boxed{1} or \boxed{2}", False),
        (r"\boxed{\boxed{4}}", False),
        (r"\boxed{4} and then \boxed{5", False),
        ("\\boxed{4}\nHowever, let me look again.", False),
        ("\\boxed{4}\n\n7", False),
        (r"\boxedness{4}", False),
    ],
)
def test_one_box_at_the_end_is_the_boxed_style(text, good):
    assert answer_format([text], style="boxed") == [1.0 if good else -1.0]


def test_the_levels_of_the_format_can_be_set():
    assert answer_format([GOOD, "2"], reward=0.25, penalty=0) == [0.25, 0.0]


@pytest.mark.parametrize("name", ["format", "repetition"])
def test_hostile_texts_take_no_long_time(name):
    texts = ["<" + " " * 200_000, "<answer" * 50_000, "<answer>" * 50_000, "a" * 300_000, "\\boxed{" * 50_000]
    start = time.process_time()
    values = REWARDS[name](texts)
    values += REWARDS["format"](texts, style="boxed")
    assert time.process_time() - start < 5.0
    assert len(values) == 10


def test_the_cosine_length_reward_runs_from_the_short_value_to_the_long_one():
    def at(verdict, tokens, **options):
        given = {"verdicts": [verdict], "num_tokens": [tokens], "stopped": [True], "max_length": [100]}
        return length([""], **given, **options)[0]

    assert [at("correct", tokens) for tokens in (0, 50, 100)] == pytest.approx([1.0, 0.75, 0.5])
    assert [at("wrong", tokens) for tokens in (0, 50, 100)] == pytest.approx([-1.0, -0.75, -0.5])
    # a third of the way: cos(pi/3) = 1/2, so 0.5 + 0.5 * 0.5 * 1.5
    assert length(
        [""], verdicts=["correct"], num_tokens=[100], stopped=[True], max_length=[300]
    ) == pytest.approx([0.875])  # fmt: skip
    # a quarter: 1 + (2 - 1)/2 * (1 + sqrt(1/2))
    assert at("correct", 25, short_correct=2, long_correct=1) == pytest.approx(1 + 0.5 * (1 + math.sqrt(0.5)))
    assert at("unparseable", 30) == at("wrong", 30)
    assert at("timeout", 30) is None


def test_a_completion_that_was_cut_off_has_the_value_for_that_whatever_its_answer():
    for verdict in VERDICTS:
        given = {"verdicts": [verdict] * 3, "num_tokens": [100, 101, 100], "stopped": [False, True, True]}
        values = length([""] * 3, **given, max_length=[100] * 3, exceeded=-7)
        assert values[:2] == [-7.0, -7.0]
        assert values[2] != -7.0  # its stop token was the last one allowed


def test_the_soft_overlong_punishment_falls_from_zero_to_minus_one_within_the_cache():
    # L = 100, C = 20: 0 up to 80, (80 - t)/20 from there, -1 beyond 100
    tokens = [1, 80, 81, 85, 90, 100, 101, 500]
    expected = [0.0, 0.0, -0.05, -0.25, -0.5, -1.0, -1.0, -1.0]
    assert overlong([""] * 8, num_tokens=tokens, max_length=[100] * 8, cache=20) == pytest.approx(expected)
    assert overlong([""] * 8, num_tokens=tokens, max_length=[100] * 8) == pytest.approx(expected)  # a fifth of 100
    assert str(overlong([""], num_tokens=[1], max_length=[100])[0]) == "0.0"


def test_repetition_is_the_share_of_ngrams_that_occurred_before():
    # pairs of "a b a b a": ab, ba, ab, ba; two of four are new
    assert repetition(["a b a b a"], ngram_size=2) == [-0.5]
    assert repetition(["a b a b a"], ngram_size=2, max_penalty=0.1) == pytest.approx([-0.05])
    assert repetition(["a b c d", "a", ""], ngram_size=2) == [0.0, 0.0, 0.0]
    assert str(repetition(["a b"], ngram_size=2)[0]) == "0.0"


@pytest.mark.parametrize("loop", ["so on and ", "a", "7", "= ", "無限", "hm..."])
def test_a_text_in_a_loop_loses_nearly_all_with_or_without_blanks(loop):
    assert repetition([loop * 2000])[0] < -0.8


def test_an_honest_solution_repeats_nothing():
    text = "She buys 12 + 12 = 24 eggs. Then 24 / 4 = 6 eggs a day. In 12 days that is 12 * 6 = 72 eggs. #### 72"
    assert repetition([text]) == [0.0]


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("correctness", {"verdicts": ["wrong"], "correct": "five"}, "correct"),
        ("correctness", {"verdicts": ["wrong"], "wrong": math.nan}, "wrong"),
        ("correctness", {"verdicts": ["wrong"], "timeout": "none"}, "timeout"),
        ("format", {"style": "xml"}, "style"),
        ("format", {"penalty": None}, "penalty"),
        ("overlong", {"num_tokens": [1], "max_length": [10], "cache": 0}, "cache"),
        ("overlong", {"num_tokens": [1], "max_length": [10], "cache": 11}, "cache"),
        ("repetition", {"ngram_size": 0}, "ngram_size"),
        ("repetition", {"max_penalty": -1}, "max_penalty"),
    ],
)
def test_options_out_of_range_are_refused_by_name(name, options, key):
    with pytest.raises(InputError, match=f"`{key}`"):
        REWARDS[name]([""], **options)


def test_columns_of_another_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        correctness(["", ""], verdicts=["wrong"])


def test_a_completion_s_rewards_do_not_depend_on_its_neighbours():
    texts = [GOOD, "no", "a b " * 50, r"\boxed{5}"]
    columns = {"verdicts": VERDICTS, "num_tokens": [5, 90, 99, 100], "stopped": [True, True, True, False]}
    columns["max_length"] = [100] * 4
    for function in REWARDS.values():
        alone = [
            function([text], **{key: [value[i]] for key, value in columns.items()})[0] for i, text in enumerate(texts)
        ]
        assert function(texts, **columns) == alone
