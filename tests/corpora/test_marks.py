"""Where a native solution marks its answer: what counts, what does not, and what the solution loses."""

import pytest

from lemma.corpora.marks import marked_answer, split_hashes, split_sentence


@pytest.mark.parametrize(
    ("worked", "solution", "answer"),
    [
        ("So 5.\nThe answer is: 42", "So 5.", "42"),
        ("It weighs 60 kg. The answer is B.", "It weighs 60 kg.", "B"),
        ("It holds. Therefore, the final answer is $\\frac{1}{2}$.", "It holds.", "\\frac{1}{2}"),
        ("We get $x = 3$. The answer is: 1,600", "We get $x = 3$.", "1600"),
        ("The answer is: 3.5", "", "3.5"),
        ("Once more.\nthe answer is 7\n", "Once more.", "7"),
        ("Adding up, we see that the answer is 5.", "Adding up, we see that the answer is 5.", "5"),
    ],
)
def test_the_last_sentence_gives_the_answer_and_goes_where_it_stands_alone(worked, solution, answer):
    assert split_sentence(worked) == (solution, answer)


@pytest.mark.parametrize(
    "worked",
    [
        "The answer is: 42\nWait, check it.",
        "The answer is 42. But this is wrong.",
        "The answer is:",
        "The answer isn't 5.",
        "No answer.",
        r"The answer is \boxed{5}.",
        "",
    ],
)
def test_a_remark_further_up_or_without_a_value_is_no_answer(worked):
    assert split_sentence(worked) == (worked, None)


def test_hashes_count_on_the_last_line_only():
    assert split_hashes("1+1 = <<1+1=2>>2\n#### 1,200") == ("1+1 = 2", "1200")
    assert split_hashes("#### Step 1\nSo 72.") == ("#### Step 1\nSo 72.", None)


@pytest.mark.parametrize(
    ("worked", "expected"),
    [
        ("So 15.\n#### 15\nThe answer is: 15", ("So 15.", "15")),
        ("So 15.\n#### 15", ("So 15.", "15")),
        (r"So $\boxed{3}$.", (r"So $\boxed{3}$.", "3")),
        (r"The answer is $\boxed{3}$.", (r"The answer is $\boxed{3}$.", "3")),
        (r"So $\boxed{3}$. The answer is: 3", (r"So $\boxed{3}$.", "3")),
        ("So 15.", ("So 15.", None)),
    ],
)
def test_marks_are_taken_in_turn_and_a_box_stays(worked, expected):
    assert marked_answer(worked) == expected


def test_a_long_last_line_takes_linear_time():
    worked = "the answer is " * 20_000
    assert split_sentence(worked)[1] is not None
