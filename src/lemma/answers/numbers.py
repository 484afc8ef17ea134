r"""Which rational number a literal is, in every way of writing one.

Integers, decimals, fractions, mixed numbers, scientific notation, repeating decimals, percentages of none: the value is
exact and never comes by way of a float. What needs arithmetic (``\frac{1}{2}+\frac{1}{3}``) is an expression
(`lemma.answers.expressions`).
"""

import re
from fractions import Fraction

MAX_EXPONENT = 400  # of ten
MAX_DIGITS = 2000  # below the 4,300 at which `int` refuses a string

_DECIMAL = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_INTEGER_OR_DECIMAL = re.compile(rf"([-+]?)({_DECIMAL})")
_SCIENTIFIC = re.compile(
    rf"([-+]?)(?:({_DECIMAL})(?:\\times ?|\\cdot ?|\*))?10\^(?:\{{([-+]?[0-9]{{1,6}})\}}|([0-9]))"
    rf"|([-+]?)({_DECIMAL})[eE]([-+]?[0-9]{{1,6}})"
)
_FRACTION = re.compile(
    rf"([-+]?)(?:([0-9]+) ?(?=\\frac|(?<= )[0-9]))?"
    rf"(?:\\frac\{{(-?{_DECIMAL})\}}\{{(-?{_DECIMAL})\}}|({_DECIMAL})/({_DECIMAL}))"
)
_REPEATING = re.compile(r"([-+]?)([0-9]*)\.([0-9]*)(?:\\overline\{([0-9]+)\}|\(([0-9]+)\)|\\dot\{([0-9])\})")


def as_rational(normalized: str) -> Fraction | None:
    r"""Return the exact value of a normal form that is a literal of a rational number, else None.

    Integers, decimals, ``a/b``, ``\frac{a}{b}``, mixed numbers (``1\frac{1}{2}``, ``1 1/2``), ``1e3``,
    ``1.5\times10^{3}`` and ``0.1\overline{6}``.

    Args:
        normalized: What `lemma.answers.normalize` returned.
    """
    if len(normalized) > MAX_DIGITS:
        return None
    if match := _INTEGER_OR_DECIMAL.fullmatch(normalized):
        return _signed(match[1], Fraction(match[2]))
    if match := _SCIENTIFIC.fullmatch(normalized):
        exponent = int(match[3] or match[4] or match[7])
        if abs(exponent) > MAX_EXPONENT:
            return None
        return _signed(match[1] or match[5], Fraction(match[2] or match[6] or 1) * Fraction(10) ** exponent)
    if match := _FRACTION.fullmatch(normalized):
        whole, numerator, denominator = match[2], Fraction(match[3] or match[5]), Fraction(match[4] or match[6])
        if denominator == 0 or (whole is not None and (numerator < 0 or denominator < 0)):
            return None
        return _signed(match[1], Fraction(whole or 0) + numerator / denominator)
    if match := _REPEATING.fullmatch(normalized):
        period = match[4] or match[5] or match[6]
        first = Fraction(f"{match[2] or 0}.{match[3] or 0}")
        return _signed(match[1], first + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(match[3])))
    return None


def last_place(normalized: str) -> Fraction | None:
    """Return one unit in the last place of a decimal with at least six significant decimals; None for any other."""
    match = _INTEGER_OR_DECIMAL.fullmatch(normalized)
    whole, point, decimals = (match[2] if match else "").partition(".")
    if not point or len((whole + decimals).lstrip("0")) < 6 or not decimals or len(decimals) > MAX_EXPONENT:
        return None
    return Fraction(1, 10 ** len(decimals))


def _signed(sign: str | None, magnitude: Fraction) -> Fraction:
    return -magnitude if sign == "-" else magnitude
