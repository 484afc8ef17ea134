r"""Where the answer is in a text."""

import time

import pytest

from lemma.answers import Extraction, extract_answer, last_boxed, strip_boxes
from lemma.answers.extract import FLEXIBLE_STRATEGIES


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
        ("<answer>42", "42", "number"),
        ('<Answer type="x"> 42 </ANSWER>', "42", "answer_tag"),
        ("<answer>The answer is 42.</answer>", "42", "answer_tag"),
        ("<answer>**42**</answer>", "42", "answer_tag"),
        ("<answer>#### 42</answer>", "42", "answer_tag"),
        ("<answer>18 eggs</answer>", "18", "answer_tag"),
        ("<answer>18 feet</answer>", "18 feet", "answer_tag"),
        ("<answer>Evelyn</answer>", "Evelyn", "answer_tag"),
        (r"<answer>$\boxed{42}$</answer>", "42", "boxed"),
        ("10 + 8\n#### 18\nThat took 3 steps.", "18", "hashes"),
        ("#### $1,234.50", "$1,234.50", "hashes"),
        ("#### 18 eggs", "18", "hashes"),
        ("#### **42**", "42", "hashes"),
        ("#### Evelyn", "Evelyn", "hashes"),
        ("#### x = 5", "x = 5", "hashes"),
        ("#### 1/2 if x > 0", "1/2 if x > 0", "hashes"),
        ("#### 60 miles per hour", "60 miles per hour", "hashes"),
        ("#### Step 1: add\n3 + 4 = 7\n#### Final Answer\n7", "7", "phrase"),
        ("#### 1. Add\n3 + 4\nThe answer is 7.", "7", "phrase"),
        (r"The domain is $x \leq 5$.", r"x \leq 5", "math"),
        (r"We find \[ x = 3 \]", "x = 3", "math"),
        (r"so that \[ 2x = 50 \Rightarrow x = 25 \]", "x = 25", "math"),
        ("$28$ percent", "28 percent", "math"),
        ("The identity is $ \\begin{pmatrix}1 & 0\\end{pmatrix} $.", r"\begin{pmatrix}1 & 0\end{pmatrix}", "math"),
        ("She pays $12 and keeps $5.", "$5", "number"),
        ("He ran 1,234 miles.", "1,234", "number"),
        ("It is -5.", "-5", "number"),
        ("10-5 leaves 3/4", "3/4", "number"),
        ("that is 7.50.", "7.50", "number"),
        ("It fell by 28%.", "28%", "number"),
        ("It fell by 28 percent.", "28 percent", "number"),
        ("the number is not 10 but rather 1,000.99€", "1,000.99€", "number"),
        ("It costs 1.234,56 € in all.", "1.234,56 €", "number"),
        ("It costs £5.", "£5", "number"),
        ("They owe -$5.", "-$5", "number"),
        ("They see 1 234 567 stars.", "1 234 567", "number"),
        ("They see 12{,}000 stars.", "12{,}000", "number"),
        ("She needs 2 1/2 cups.", "2 1/2", "number"),
        ("It starts at 12:30", "12:30", "number"),
        ("The point is (1, 2).", "(1, 2)", "number"),
        ("It is 1,2,3,4.", "1,2,3,4", "number"),
        ("It is 41 or 42.", "41 or 42", "number"),
        ("2^10", "2^10", "math"),
        ("-1 + sqrt(3)", "-1 + sqrt(3)", "math"),
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
        "<answer></answer> so 7",
        "it is 2^10",  # neither 2 nor 10
        "it is x_3",
        "it is -1 + sqrt(3)",
        "It is not 42.",
    ],
)
def test_no_answer_is_none_rather_than_a_guess(text: str):
    assert extract_answer(text) is None


@pytest.mark.parametrize(
    ("text", "answer", "strategy"),
    [
        (r"<reasoning>\boxed{3}</reasoning><answer>4</answer>", "4", "answer_tag"),
        (r"\boxed{3} <answer>2</answer> <answer>4</answer>", "4", "answer_tag"),
        (r"<reasoning>\boxed{3}</reasoning><answer>$\boxed{4}$</answer>", "4", "boxed"),
        (r"<reasoning>\boxed{3}</reasoning><answer>\boxed{1}, \boxed{2}</answer>", "1, 2", "boxed"),
        (r"\boxed{<answer>4</answer>}", "4", "answer_tag"),
        (r"<reasoning>\boxed{3}</reasoning><answer>4", "3", "boxed"),  # cut
        (r"<reasoning>I put it into <answer></answer> tags.</reasoning> \boxed{4}", "4", "boxed"),
        (r"<answer>4</answer> #### 5", "4", "answer_tag"),
    ],
)
def test_an_answer_tag_is_later_than_the_boxes_of_the_reasoning_before_it(text: str, answer: str, strategy: str):
    assert extract_answer(text) == Extraction(answer, strategy)


def test_a_box_in_the_reasoning_is_not_asked_where_the_answer_tag_is_empty():
    assert extract_answer(r"<reasoning>\boxed{3}</reasoning><answer> </answer>") is None


def test_only_what_follows_the_reasoning_counts():
    assert extract_answer(r"<think>\boxed{42}</think> So \boxed{43}").answer == "43"
    assert extract_answer(r"\boxed{42}</think> it is 43").answer == "43"
    assert extract_answer(r"<think> let me see, \boxed{42}") is None
    assert extract_answer(r"<think>\boxed{42}</think>") is None
    assert extract_answer(r"<think>a</think> \boxed{1} </think> So \boxed{2}").answer == "2"
    assert extract_answer(r"<Thinking>\boxed{42}") is None
    assert extract_answer(r"<think> The answer is 42.") is None


def test_nothing_counts_after_the_end_of_the_turn():
    assert extract_answer("\\boxed{42}<|im_end|>\n<|im_start|>user\nNext: \\boxed{7}").answer == "42"


def test_only_the_guesses_are_not_strict():
    for text in (r"\boxed{4}", "<answer>4</answer>", "#### 4", "The answer is 4."):
        assert extract_answer(text).strict
    for text in ("$x = 4$", "I see 4"):
        found = extract_answer(text)
        assert found.strategy in FLEXIBLE_STRATEGIES
        assert not found.strict


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{41} or \boxed{42}", "41, 42"),
        (r"\boxed{1}, \boxed{2}, and $\boxed{3}$", "1, 2, 3"),
        (r"\[\boxed{-2} \quad \text{and} \quad \boxed{1}\]", "-2, 1"),
        (r"\(\boxed{1}\)\text{ or }\(\boxed{2}\)", "1, 2"),
        (r"\boxed{1}\boxed{2}", "1, 2"),
        ("\\boxed{1},\n\\boxed{2}", "1, 2"),
        (r"\boxed{4} and \boxed{4}", "4"),
        (r"$x = \boxed{1}$ or $x = \boxed{2}$", "1, 2"),
        (r"$x = \boxed{1}$ and $y = \boxed{2}$", "x = 1, y = 2"),
        (r"\boxed{41} wait, no. \boxed{42}", "42"),
        (r"\boxed{41} is wrong, and \boxed{42}", "42"),
        (r"\boxed{1} for (a) and \boxed{2}", "2"),
        ("\\boxed{41}\n\\boxed{42}", "42"),
    ],
)
def test_boxes_joined_by_nothing_but_commas_and_or_are_a_list_and_else_the_last_speaks(text: str, answer: str):
    assert extract_answer(text) == Extraction(answer, "boxed")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed 5.", "5"),
        (r"\boxed-1,234, then", "-1,234"),
        (r"$\boxed \frac{1}{2}$", r"\frac{1}{2}"),
        (r"\boxed { 5 }", "5"),
        (r"\\boxed{5}", "5"),  # escaped twice
        (r"a \\\boxed{5}", "5"),  # a new line in front
        (r"\boxed{\fbox{5}}", "5"),
        (r"\boxed{\text{(C)}}", r"\text{(C)}"),
    ],
)
def test_a_box_is_read_as_people_write_it(text: str, answer: str):
    assert last_boxed(text) == answer


def test_last_boxed_reads_golds():
    assert last_boxed(r"$\boxed{2}$, no, $\boxed{ \text{(C)} }$") == r"\text{(C)}"
    assert last_boxed(r"\boxed{}") == ""
    assert last_boxed("none") is None


def test_strip_boxes_keeps_what_is_inside():
    assert strip_boxes(r"a \boxed{b \fbox{c} {d}} e \boxed 5.") == "a b c {d} e 5."


PIECES = [
    "(",
    r"\boxed{",
    r"\boxed{1} ",
    "{",
    "$",
    "$$",
    "$1",
    r"\(",
    r"\[",
    r"\begin{a}",
    r"\frac{",
    r"\\",
    "9",
    ",999",
    "1, ",
]
PIECES += [
    "<answer>",
    "</answer>",
    "<answer ",
    "####",
    "#### a b c\n",
    "<think>",
    "</think>",
    "<think></think>",
    "A: ",
    "**",
]
PIECES += [
    "the answer is ",
    "the answer is 1. ",
    "the answer is not 1. ",
    "Answer: ",
    "answer ",
    "answer to a",
    "answer,",
]
PIECES += [
    "1 is the answer ",
    "therefore 1 ",
    "so 1, ",
    "is 1 and 2 ",
    "not 1 but ",
    " or ",
    "1 or ",
    "no wait, ",
    "\n",
    "p.m. ",
]


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("end", ["", "^ 1 = $"])
def test_time_is_linear_in_hostile_text(piece: str, end: str):
    check_time((piece * 100_000)[:100_000] + end)


@pytest.mark.parametrize("blank", [" ", "\n", " \n", "\t", "\u00a0", "*"])
@pytest.mark.parametrize("word", ["answer", "the answer is", "####", "1 or", "so", "not", "$", "A:", "x =", r"\boxed"])
def test_time_is_linear_in_runs_of_blanks(word: str, blank: str):
    check_time(word + blank * 100_000 + "x")
    check_time((word + blank * 1_000) * 100)


def test_time_is_linear_in_a_long_marked_answer():
    for inside in ("*.", "1, ", "no, wait, ", "**a**", '"', "(", "is 1 "):
        check_time(f"<answer>{inside * 50_000}</answer>")
        check_time(f"#### {inside * 50_000}")


def check_time(text: str):
    start = time.monotonic()
    extract_answer(text)
    assert time.monotonic() - start < 2.0
