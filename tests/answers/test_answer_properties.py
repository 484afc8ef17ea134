r"""Laws that hold for every answer: a normal form is final, equality reflexive and symmetric, spelling immaterial."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemma.answers import as_rational, exact_verdict, normalize
from lemma.answers.closed_form import closed_form, equal, rational
from lemma.answers.expressions import parse
from lemma.types import Verdict

COMMANDS = [r"\frac", r"\dfrac", r"\sqrt", r"\text{", r"\left", r"\right", r"\!", r"\,", r"\boxed{", r"\%", r"\circ"]
SIGNS = [
    r"\$",
    "€",
    r"\pm",
    r"\cup",
    r"\in",
    r"\begin{pmatrix}",
    r"\\",
    r"\mathrm{",
    "½",
    "²",
    "\uff11",
    "°",
    "\u202e",
    "\0",
]
OTHERS = ["23", "456", "cm", "and", "sin", "**", ">=", "A)", "pm", "million", *"^{}$\\,. 1x=-()A°[]_;:|'!%"]
LATEX = st.lists(st.sampled_from(COMMANDS + SIGNS + OTHERS), max_size=14).map("".join)

CHECKED = settings(max_examples=200, deadline=None, derandomize=True)

integers = st.integers(-(10**30), 10**30)
fractions = st.fractions(max_denominator=10**6).filter(lambda value: abs(value) < 10**12)


def fraction_spellings(value: Fraction) -> list[str]:
    n, d = value.numerator, value.denominator
    sign, n = ("-", -n) if n < 0 else ("", n)
    spellings = [
        f"{sign}{n}/{d}",
        rf"{sign}\frac{{{n}}}{{{d}}}",
        rf"$\dfrac{{{sign}{n}}}{{{d}}}$.",
        rf"\frac{{{2 * n}}}{{{sign}{2 * d}}}",
    ]
    if n > d > 1:
        spellings += [rf"{sign}{n // d}\frac{{{n % d}}}{{{d}}}", f"{sign}{n // d} {n % d}/{d}"]
    return [*spellings, rf"\left({sign}\tfrac{{{n}}}{{{d}}}\right)", f"x = {sign}{n}/{d}", rf"\boxed{{{sign}{n}/{d}}}"]


def integer_spellings(value: int) -> list[str]:
    plain, grouped = str(value), f"{value:,}"
    return [
        *(plain, grouped, f"${grouped}$", f"{plain}.", f"{plain}.0", f"{plain}e0", rf"{plain}\times 10^0"),
        *(grouped.replace(",", separator) for separator in ("{,}", r",\!", r"\,", " ")),
        *(f"x = {plain}", rf"\text{{{plain}}}", rf"{plain}\text{{ apples}}", f"{plain} cm", rf"\boxed{{{plain}}}"),
        plain.translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)}),
    ]


@given(st.one_of(st.text(max_size=40), LATEX))
@settings(max_examples=1000, deadline=None, derandomize=True)
def test_normalizing_twice_is_normalizing_once(answer: str):
    assert normalize(normalize(answer)) == normalize(answer)


@given(st.one_of(st.text(max_size=40), LATEX))
@CHECKED
def test_every_answer_that_is_one_equals_itself(answer: str):
    expected = Verdict.CORRECT if normalize(answer) else Verdict.UNPARSEABLE
    assert exact_verdict(answer, answer) == expected


@given(LATEX, LATEX)
@settings(max_examples=1000, deadline=None, derandomize=True)
def test_no_text_breaks_the_exact_path_and_it_is_symmetric(first: str, second: str):
    if normalize(first) and normalize(second) and "_" not in first + second:
        right = [exact_verdict(*pair) == Verdict.CORRECT for pair in ((first, second), (second, first))]
        assert right[0] == right[1]


@given(fractions, st.data())
@CHECKED
def test_a_fraction_equals_itself_however_it_is_written(value: Fraction, data: st.DataObject):
    first, second = (data.draw(st.sampled_from(fraction_spellings(value))) for _ in range(2))
    assert exact_verdict(first, second) == Verdict.CORRECT


@given(integers, st.data())
@CHECKED
def test_an_integer_equals_itself_however_it_is_written_and_no_neighbour(value: int, data: st.DataObject):
    first, second = (data.draw(st.sampled_from(integer_spellings(value))) for _ in range(2))
    assert exact_verdict(first, second) == Verdict.CORRECT
    neighbour = data.draw(st.sampled_from(integer_spellings(value + 1)))
    assert exact_verdict(first, neighbour) == Verdict.WRONG


@given(st.lists(fractions, min_size=2, max_size=5), st.data())
@CHECKED
def test_lists_and_sets_have_no_order_and_tuples_do(values: list[Fraction], data: st.DataObject):
    other = data.draw(st.permutations(values))
    gold, shuffled = ([data.draw(st.sampled_from(fraction_spellings(v)[:2])) for v in each] for each in (values, other))
    assert exact_verdict(", ".join(gold), ", ".join(shuffled)) == Verdict.CORRECT
    assert exact_verdict(", ".join(gold), rf"\{{{', '.join(shuffled)}\}}") in (
        (Verdict.CORRECT,) if len(set(values)) == len(values) else (Verdict.CORRECT, Verdict.WRONG)
    )
    expected = Verdict.CORRECT if other == values else Verdict.WRONG
    assert exact_verdict(f"({', '.join(gold)})", rf"\left({';'.join(shuffled)}\right)") == expected
    assert exact_verdict(", ".join(gold), ", ".join(shuffled[1:])) == Verdict.WRONG


@given(fractions, fractions, st.sampled_from("()[]"), st.sampled_from("()[]"))
@CHECKED
def test_an_interval_equals_its_inequality_and_no_other_brackets(a: Fraction, b: Fraction, left: str, right: str):
    low, high = sorted((a, b))
    if low == high:
        return
    left_closed, right_closed = left == "[", right == "]"
    interval = f"{left}{low}, {high}{right}"
    signs = {True: r"\le", False: "<"}
    inequality = f"{low} {signs[left_closed]} x {signs[right_closed]} {high}"
    if left in "([" and right in ")]":
        assert exact_verdict(interval, inequality) == exact_verdict(inequality, interval) == Verdict.CORRECT
        other = f"{'(' if left_closed else '['}{low}, {high}{right}"
        assert exact_verdict(other, inequality) == Verdict.WRONG
    elif left in ")]" and right in "([" and (left, right) == ("]", "["):
        assert exact_verdict(interval, f"{low} < x < {high}") == Verdict.CORRECT


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=4), st.integers(-9, 9))
@CHECKED
def test_a_product_of_linear_factors_equals_its_expansion_and_no_other_polynomial(roots: list[int], shift: int):
    coefficients = [1]
    for root in roots:
        coefficients = [a - root * b for a, b in zip([*coefficients, 0], [0, *coefficients], strict=True)]
    product = "".join(f"(x-({root}))" for root in roots)
    degree = len(roots)
    expansion = "+".join(f"({c})x^{{{degree - i}}}" for i, c in enumerate(coefficients))
    assert exact_verdict(product, expansion) == Verdict.CORRECT
    expected = Verdict.CORRECT if shift == 0 else Verdict.WRONG
    assert exact_verdict(product, f"{expansion}+({shift})") == expected


@given(st.integers(0, 400), st.integers(1, 60))
@CHECKED
def test_a_square_root_times_itself_is_the_number_and_rationalising_changes_nothing(n: int, d: int):
    assert rational(closed_form(parse(rf"\sqrt{{{n}}}\sqrt{{{n}}}"))) == n
    first, second = (
        closed_form(parse(rf"\sqrt{{\frac{{{n}}}{{{d}}}}}")),
        closed_form(parse(rf"\frac{{\sqrt{{{n * d}}}}}{{{d}}}")),
    )
    assert equal(first, second)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("1,234.50", Fraction(2469, 2)),
        ("1{,}000", 1000),
        (r"32,\! 349", 32349),
        (r"1\,000\,000", 1000000),
        (r"918\frac{1}{2}", Fraction(1837, 2)),
        ("-1 1/2", Fraction(-3, 2)),
        (r"\frac12", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        (r"2.5\times 10^2", 250),
        ("1e3", 1000),
        (r"0.1\overline{6}", Fraction(1, 6)),
        ("1/0", None),
        ("1, 234", None),
        ("(1,234)", None),
        ("1e400000", None),
        ("1e999999999", None),
        ("9" * 5000, None),
        (r"3\text{ million}", None),
        (r"2\mathrm{e}", None),
        ("5 cm", None),
        ("204_5", None),
        ("x", None),
    ],
)
def test_as_rational_reads_literals_exactly(answer: str, value: Fraction | None):
    assert as_rational(normalize(answer)) == value
