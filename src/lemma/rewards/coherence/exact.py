"""Decides how exact numbers are calculated within bounds, and what normal form a calculation has."""

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

MAX_DIGITS = 40
MAX_BITS = 4096  # of a numerator or denominator
MAX_EXPONENT = 64


class UnreadableError(ValueError):
    """An expression that has no value here."""


class Value(NamedTuple):
    """What an expression is.

    Attributes:
        number: Its exact value.
        form: Its normal form: the same for sums and products in another order and numbers written otherwise.
        is_literal: Whether it is one number as written, with or without a sign, a percent sign and a unit.
        has_sum: Whether something is added or subtracted in it.
        decimals: Of a literal the places after the point, those of a percentage two more; 0 for any other.
        is_percentage: Whether it is a literal with a percent sign.
        units: Its units, each by its last word in the singular.
    """

    number: Fraction
    form: str
    is_literal: bool = True
    has_sum: bool = False
    decimals: int = 0
    is_percentage: bool = False
    units: frozenset[str] = frozenset()


@functools.lru_cache(maxsize=4096)
def literal(text: str) -> Value:
    """Return the value of a number as written, without commas.

    Raises:
        UnreadableError: If it has too many digits.
    """
    if len(text) > MAX_DIGITS:
        raise UnreadableError("too many digits")
    number = Fraction(text)
    return Value(number, str(number), decimals=len(text.partition(".")[2]))


def combined(
    number: Fraction, parts: Sequence[tuple[str, Value]], *, ordered: bool = False, has_sum: bool = False
) -> Value:
    """Return the value of a calculation.

    Args:
        number: Its result.
        parts: (sign, part) of each term or factor.
        ordered: Whether their order matters, as for a power.
        has_sum: Whether they are added or subtracted.

    Raises:
        UnreadableError: If the result is too large.
    """
    forms = [f"{sign}{part.form}" for sign, part in parts]
    return Value(
        bounded(number),
        f"({' '.join(forms if ordered else sorted(forms))})",
        is_literal=False,
        has_sum=has_sum or any(part.has_sum for _, part in parts),
        units=frozenset().union(*(part.units for _, part in parts)),
    )


def divide(above: Fraction, below: Fraction) -> Fraction:
    """Return a quotient.

    Raises:
        UnreadableError: If it is one by zero.
    """
    if not below:
        raise UnreadableError("division by zero")
    return above / below


def power(base: Fraction, exponent: Fraction) -> Fraction:
    """Return a power; its size is bounded before it is calculated.

    Raises:
        UnreadableError: If the exponent is no whole number in range, or the power too large or not defined.
    """
    if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT or (not base and exponent < 0):
        raise UnreadableError("an exponent out of range")
    if max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent) > MAX_BITS:
        raise UnreadableError("too large")
    return base ** int(exponent)


def bounded(number: Fraction) -> Fraction:
    """Return a number that is not too large.

    Raises:
        UnreadableError: If it is.
    """
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > MAX_BITS:
        raise UnreadableError("too large")
    return number
