r"""Normal forms, exact numbers, and which answers are equal."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemma.answers import as_rational, exact_verdict, normalize, symbolic_verdict
from lemma.types import Verdict

COMMANDS = [r"\frac", r"\dfrac", r"\sqrt", r"\text{", r"\left", r"\right", r"\!", r"\,", r"\boxed{", r"\%", r"\circ"]
OTHERS = ["23", "456", "cm", "and", "sin", "**", ">=", *"^{}$\\,. 1x=-()A°"]
LATEX = st.lists(st.sampled_from(COMMANDS + OTHERS), max_size=12).map("".join)


def verdict(gold: str, prediction: str) -> Verdict:
    return exact_verdict(gold, prediction) or symbolic_verdict(gold, prediction)


@given(st.one_of(st.text(max_size=40), LATEX))
@settings(max_examples=600, deadline=None)
def test_normalizing_twice_is_normalizing_once(answer: str):
    assert normalize(normalize(answer)) == normalize(answer)


@given(st.integers(), st.integers(min_value=1))
@settings(max_examples=100, deadline=None)
def test_as_rational_reads_back_what_was_written(numerator: int, denominator: int):
    value = Fraction(numerator, denominator)
    assert as_rational(normalize(f"{numerator}/{denominator}")) == value
    assert as_rational(normalize(rf"$\dfrac{{{numerator}}}{{{denominator}}}$.")) == value
    assert as_rational(normalize(f"{numerator:,}")) == numerator


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (r"\$1,234.50", Fraction(2469, 2)),
        ("1{,}000", 1000),
        (r"32,\! 349", 32349),
        (r"1\,000\,000", 1000000),
        (r"918\frac{1}{2}", Fraction(1837, 2)),
        ("-1 1/2", Fraction(-3, 2)),
        (r"\frac12", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        (r"90^\circ", 90),
        (r"15\text{ cm}^2", 15),
        ("12 dollars", 12),
        (r"2.5\times 10^2", 250),
        ("1e3", 1000),
        ("1/0", None),
        ("1, 234", None),
        ("(1,234)", None),
        ("1e400000", None),
        ("1e999999999", None),
        ("9" * 5000, None),
        (r"3\text{ million}", None),
        (r"2\mathrm{e}", None),
        ("204_5", None),
        ("x", None),
    ],
)
def test_as_rational(answer: str, value: Fraction | None):
    assert as_rational(normalize(answer)) == value


@pytest.mark.parametrize(
    ("gold", "prediction"),
    [
        ("1/2", "0.5"),
        ("5", "x = 5"),
        ("x=5", "5"),
        ("4", "2+2 = 4"),
        (r"\frac{\sqrt{3}}{3} \approx 0.577", r"\frac{\sqrt{3}}{3}"),
        (r"28\%", "28"),
        ("0.6", r"60\%"),
        ("0.335", r"33.5\%"),
        ("204_5", "204"),
        ("204_5", "204_{5}"),
        (r"\text{(C)}", "C"),
        (r"\text{East}", "east"),
        ("(x+1)^2", "x^2+2x+1"),
        ("1,2,3", r"\{3, 2, 1\}"),
        (r"\sqrt{17}", "4.123105625617661"),
        (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5+2\sqrt{6}}"),
        ("R/r", r"\frac{R}{r}"),
        (r"x \geq 5", "x >= 5"),
        ("2x+4y-3=0", r"y=-\frac{1}{2}x+\frac{3}{4}"),
    ],
)
def test_equal_answers_are_correct(gold: str, prediction: str):
    assert verdict(gold, prediction) == Verdict.CORRECT


@pytest.mark.parametrize(
    ("gold", "prediction"),
    [
        ("42", "41 = 42"),
        ("42", "2x = 42"),
        ("42", "40 2"),  # Math-Verify adds them
        ("42", r"40\quad 2"),
        ("42", "42 or 41"),
        ("3", "1,2,3,4"),
        ("11", "x = 5+5+1 = 7 = 11"),
        ("1/3", "0.3333"),
        ("12345678901234567890", "12345678901234567891"),
        ("9007199254740992", "9007199254740993.0"),
        ("0", "0.0000001"),
        (r"\frac{\pi}{10^8}", "0.0"),
        (r"\sqrt{10^{40}+1}", r"\sqrt{10^{40}+2}"),
        (r"10^{-30}\pi", r"2 \cdot 10^{-30}\pi"),
        ("x=2", "y=2"),
        ("x=1, y=2", "2"),
        ("2", "x=1, y=2"),
        ("a^2+b=0", "0"),
        ("x^2+1=0", "x^2+2=0"),  # both without a real solution
        ("204_5", "204_6"),
        ("204", "204_5"),
        ("28/100", "28"),
        (r"28\%", r"0.28\%"),
        ("f'(x)", "f(x)"),
        ("1,2,10", r"1,2,\ldots,10"),
        ("R/r", "r/R"),
        ("1", "R/r"),
        (r"\text{east}", "seat"),
        (r"\text{even}", "odd"),
        ("[0,1)", "(0,1)"),
        ("(1,2)", "(2,1)"),
        ("32349", "32, 349"),
        ("3t", "3"),
        ("3", r"3\mathrm{i}"),
        ("x<1 \\text{ or } x>3", "x<1 \\text{ and } x>3"),
        ("3,000,000", r"3\text{ thousand}"),
    ],
)
def test_different_answers_are_not_correct(gold: str, prediction: str):
    assert verdict(gold, prediction) in (Verdict.WRONG, Verdict.UNPARSEABLE)


@pytest.mark.parametrize("prediction", ["", " $ ", "5" * 2001, r"\frac{1", "???", ")("])
def test_what_is_no_mathematics_is_unparseable(prediction: str):
    assert verdict("5", prediction) == Verdict.UNPARSEABLE
