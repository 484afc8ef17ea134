"""What a text calculates: equations are read exactly, judged only where that is safe, and never evaluated as code."""

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemma.rewards.coherence import read_path, truth

CHECKED = settings(max_examples=150, deadline=None, derandomize=True)


def judged(text: str) -> list[bool | None]:
    return [equation.holds for equation in read_path(text).equations]


@pytest.mark.parametrize(
    "text",
    [
        "She has 5 + 3 = 8 apples left.",
        "5 apples + 3 apples = 8 apples",
        "80,000 + 50,000 = $130,000",
        "It costs $2.50 * 4 = $10.00.",
        "0.2 x 50 = 10",
        "12 \N{MULTIPLICATION SIGN} 3 \N{DIVISION SIGN} 4 = 9",
        "20% * 50 = 10",
        "90/300 * 100 = 30%",
        "100 - 73 = 27%",
        "-5 + 8 = 3",
        "- 5 + 3 = 8",  # a bullet
        "2. 5 + 3 = 8",  # the number of an item
        "2(3 + 4) = 14",
        "2^3^2 = 512",
        "5**2 = 25",
        "**5** + **3** = **8**",
        "10/3 = 3.33",
        "8 = 5 + 3",
        r"$\frac{1}{2} + \frac12 = 1$",
        r"\(3 \cdot 4 \div 2 = 6\)",
        r"\left(1 + 2\right) \times 3 = 9 \text{ eggs}",
        "2 hours * 60 minutes/hour = 120 minutes",
        r"10\text{ cm} \times 12\text{ cm} = 120\text{ cm}^2",
        "a total of 5 + 3 = 8",
        "12 - 4 = 8 (which is right)",
        "7 * 6 *\n5 = 210",
    ],
)
def test_a_true_equation_is_read_as_true(text):
    assert judged(text) == [True]


@pytest.mark.parametrize(
    "text", ["5 + 3 = 9", "10/3 = 3.34", "7/2 = 4", "5 apples + 3 apples = 9 apples", "-2^2 = 4", "6/2*3 = 1"]
)
def test_a_false_equation_is_read_as_false(text):
    assert judged(text) == [False]


@pytest.mark.parametrize(
    "text",
    [
        "2x + 3 = 7",
        "5a + 3a = 9a",
        "f(2) = 5",
        r"\sqrt{16} + 1 = 9",
        "total - 5 = 9",
        "20% of 50 + 3 = 13",
        "half of 8 + 1 = 5",
        "2 times 5 + 3 = 13",
        "12 x 1 and 1/4 = 15",
        "1 1/2 + 1/2 = 2",
        "3! + 1 = 8",
        "1 + 2 + ... + 10 = 55",
        "3:30 + 2 = 5:30",
        "17 % 5 = 2",
        "6/2(1 + 2) = 9",
        "2 hours = 120 minutes",
        "Day 1 = 5 + 3",
        "5 = 3 \\pmod{2}",
        "1e3 + 1 = 7",
        "1/0 = 7",
    ],
)
def test_what_cannot_be_said_is_neither_true_nor_false(text):
    assert judged(text) == []
    assert truth(read_path(text)) is None


@pytest.mark.parametrize(
    "text", ["1 hour + 30 minutes = 90 minutes", "3 feet * 4 = 144 inches", "5 dollars + 50 cents = 6 dollars"]
)
def test_units_may_excuse_an_equation_but_condemn_none(text):
    assert judged(text) == [None]


def test_a_chain_is_an_equation_at_each_sign_and_a_variable_spoils_only_its_own():
    path = read_path("x = 8 - 3 = 5 = 2 + 2")
    assert [each.holds for each in path.equations] == [True, False]
    assert path.results == (5, 5, 4)
    lines = read_path(r"\begin{align*} x &= 5 + 3 \\ &= 8 \\ &= 2 \cdot 4 \end{align*}")
    assert [each.holds for each in lines.equations] == [True, True]


def test_an_annotation_that_repeats_its_line_counts_once_and_another_one_for_itself():
    assert judged("48/2 = $<<48/2=24>>24 each") == [True]
    assert judged("He has half: <<48/2=24>>24. In all 48+24 = <<48+24=72>>73") == [False, True, True]


def test_the_share_of_true_equations_leaves_out_what_cannot_be_said():
    assert truth(read_path("1 + 1 = 2. 2 + 2 = 5. 3 + 3 = 6. 1 hour + 30 minutes = 90 minutes.")) == 2 / 3


def test_order_and_spelling_do_not_change_the_form_but_numbers_and_operators_do():
    (form,) = {each.form for each in read_path("9 * 2 = 18\n2 \N{MULTIPLICATION SIGN} 9.0 = $18\n18 = 2 x 9").equations}
    for other in ("9 + 2 = 11", "9 * 3 = 27", "18 / 2 = 9", "9 * 2 = 19"):
        assert read_path(other).equations[0].form != form


@CHECKED
@given(st.lists(st.tuples(st.sampled_from("+-*/"), st.integers(1, 999)), min_size=1, max_size=6), st.integers(0, 999))
def test_it_calculates_as_fractions_do(steps, first):
    groups, sign, term = [], 1, Fraction(first)
    for operator, number in steps:
        if operator in "+-":
            groups.append(sign * term)
            sign, term = (1 if operator == "+" else -1), Fraction(number)
        else:
            term = term * number if operator == "*" else term / number
    expected = sum(groups, sign * term)
    text = f"{first}" + "".join(f" {operator} {number}" for operator, number in steps)
    (right,) = read_path(f"{text} = {expected.numerator}/{expected.denominator}").equations
    assert right.left == expected
    assert right.holds
    (wrong,) = read_path(f"{text} = {expected.numerator + 1}/{expected.denominator}").equations
    assert wrong.holds is False


@CHECKED
@given(st.text(alphabet="0123456789 +-*/^=()[]{}<>%$,.x\\\n!:&abfrac'", max_size=80))
def test_no_text_raises_and_scores_stay_in_bounds(text):
    share = truth(read_path(text))
    assert share is None or 0 <= share <= 1


HOSTILE = {
    "power tower": "9**9**9 = 1 + 1 = 2",
    "huge exponent": "2^999999999 = 1 + 1 = 2",
    "scientific": "1e999999 + 1 = 1 + 1 = 2",
    "code": "__import__('os').system('true') = 1 + 1 = 2",
    "powers of powers": "(9^64)^64 = 3\n" * 7_000 + "1 + 1 = 2",
    "brackets": "(" * 50_000 + "1 = 1 + 1\n1 + 1 = 2",
    "signs": "-" * 50_000 + "1 = 3\n1 + 1 = 2",
    "digits": "9" * 50_000 + " + 1 = 3\n1 + 1 = 2",
    "products": "9999999999 * " * 3_000 + "1 = 2\n1 + 1 = 2",
    "chain": "1 + 1 = 2\n" + "1+1=" * 20_000,
    "units": "1 + 1 = 2\n" + "5 apples and pears " * 4_000 + "= 3",
    "slashes": "1 + 1 = 2\n" + "5/apple" * 10_000 + "=1",
    "annotations": "1 + 1 = 2\n" + "<<" * 40_000,
    "braces": "1 + 1 = 2\n" + r"\text{" * 15_000 + "=",
    "blank lines": "1 + 1 = 2" + "\n" * 90_000 + "=",
    "megabytes": "1 + 1 = 2\n" + "1 + 2 = 3 and so on. " * 200_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_read_in_bounded_time_and_never_evaluated(name):
    start = time.process_time()
    path = read_path(HOSTILE[name])
    assert time.process_time() - start < 5
    assert [each.form for each in path.equations].count("(+1 +1)=2") >= 1
    assert all(each.left.numerator.bit_length() <= 4096 for each in path.equations)
