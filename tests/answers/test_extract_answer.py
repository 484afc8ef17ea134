r"""Where the answer is in a text."""

import time

import pytest

from lemma.answers import Extraction, extract_answer, last_boxed, strip_boxes


@pytest.mark.parametrize(
    ("text", "answer", "strategy"),
    [
        (r"So \boxed{4}. Therefore \boxed{5}.", "5", "boxed"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}", "boxed"),
        (r"\boxed{\left\{1, 2\right.}", r"\left\{1, 2\right.", "boxed"),
        (r"there remain $\fbox{958}$ values", "958", "boxed"),
        (r"The answer is \boxed 5.", "5", "boxed"),
        (r"\boxed{3} is cut off by \boxed{4", "3", "boxed"),
        (r"\boxed{1}, \boxed{2} and $\boxed{3}$", "1, 2, 3", "boxed"),
        (r"\boxed{4} \boxed{4}", "4", "boxed"),
        (r"<answer>3</answer> or \boxed{4}", "4", "boxed"),
        ("<answer> 42 </answer> in 5 steps", "42", "answer_tag"),
        ("<answer>42</answer> and <answer>cut", "42", "answer_tag"),
        ("10 + 8\n#### 18\nThat took 3 steps.", "18", "hashes"),
        ("#### $1,234.50", "$1,234.50", "hashes"),
        (r"The domain is $x \leq 5$.", r"x \leq 5", "math"),
        (r"Hence \[ x = 3 \]", "x = 3", "math"),
        ("The identity is $ \\begin{pmatrix}1 & 0\\end{pmatrix} $.", r"\begin{pmatrix}1 & 0\end{pmatrix}", "math"),
        ("She pays $12 and keeps $5.", "$5", "number"),
        ("He ran 1,234 miles.", "1,234", "number"),
        ("It is -5.", "-5", "number"),
        ("10-5 leaves 3/4", "3/4", "number"),
        ("that is 7.50.", "7.50", "number"),
        ("It fell by 28%.", "28%", "number"),
    ],
)
def test_the_most_trusted_marker_decides(text: str, answer: str, strategy: str):
    assert extract_answer(text) == Extraction(answer, strategy)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I don't know",
        r"so 7, that is \boxed{}",  # an empty box is an empty answer, not a hint to guess
        "#### \n",
        "2^10",  # neither 2 nor 10
        "at 12:30",
        "-1 + sqrt(3)",
    ],
)
def test_no_answer_is_none_rather_than_a_guess(text: str):
    assert extract_answer(text) is None


def test_only_what_follows_the_reasoning_counts():
    assert extract_answer(r"<think>\boxed{42}</think> So \boxed{43}").answer == "43"
    assert extract_answer(r"\boxed{42}</think> it is 43").answer == "43"
    assert extract_answer(r"<think> let me see, \boxed{42}") is None
    assert extract_answer(r"<think>\boxed{42}</think>") is None


def test_last_boxed_reads_golds():
    assert last_boxed(r"$\boxed{2}$, no, $\boxed{ \text{(C)} }$") == r"\text{(C)}"
    assert last_boxed(r"\boxed{}") == ""
    assert last_boxed("none") is None


def test_strip_boxes_keeps_what_is_inside():
    assert strip_boxes(r"a \boxed{b \fbox{c} {d}} e \boxed 5.") == "a b c {d} e 5."


@pytest.mark.parametrize(
    "piece", ["(", r"\boxed{", "{", "$", "$$", r"\(", r"\[", "9", ",999", "<answer>", "####", r"\frac{", " or "]
)
def test_time_is_linear_in_hostile_text(piece: str):
    start = time.monotonic()
    extract_answer(piece * 100_000)
    assert time.monotonic() - start < 5.0
