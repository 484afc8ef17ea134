r"""Polynomials with rational coefficients over atoms, among which ``i`` and square roots are reduced.

A monomial is a set of (atom, exponent). An atom is any hashable thing; an integer ``n`` among them is ``\sqrt{n}``, of
which a monomial holds at most one, free of squares, and ``"i"`` is the imaginary unit, at most to the first power.
"""

import math
from fractions import Fraction

Monomial = frozenset  # of (atom, exponent)
Polynomial = dict[Monomial, Fraction]
UNIT: Monomial = frozenset()

MAX_BITS = 20_000  # of a coefficient
_MAX_TERMS = 300
_MAX_RADICAND = 10**12  # square factors are found by trial division


class TooHardError(ArithmeticError):
    """The value has no normal form within the bounds."""


def add(first: Polynomial, second: Polynomial) -> Polynomial:
    """Return the sum."""
    total = dict(first)
    for monomial, coefficient in second.items():
        coefficient += total.pop(monomial, 0)
        if coefficient:
            total[monomial] = coefficient
    return total


def multiply(first: Polynomial, second: Polynomial) -> Polynomial:
    """Return the product.

    Raises:
        TooHardError: If it would have more than 300 terms, or a coefficient of more than ``MAX_BITS``.
    """
    if len(first) * len(second) > 4 * _MAX_TERMS:
        raise TooHardError
    product: Polynomial = {}
    for left, a in first.items():
        for right, b in second.items():
            monomial, factor = _join(left, right)
            coefficient = a * b * factor + product.pop(monomial, 0)
            if coefficient.numerator.bit_length() + coefficient.denominator.bit_length() > MAX_BITS:
                raise TooHardError
            if coefficient:
                product[monomial] = coefficient
    if len(product) > _MAX_TERMS:
        raise TooHardError
    return product


def _join(left: Monomial, right: Monomial) -> tuple[Monomial, Fraction]:
    r"""Multiply two monomials; ``i^2`` and ``\sqrt{2}\sqrt{6}`` give a rational factor."""
    if not left and not right:
        return left, Fraction(1)
    powers: dict[object, Fraction] = dict(left)
    for atom, exponent in right:
        powers[atom] = powers.get(atom, Fraction(0)) + exponent
    factor, radicand = Fraction(1), 1
    for atom in [atom for atom in powers if isinstance(atom, int)]:
        exponent = int(powers.pop(atom))
        factor *= Fraction(atom) ** (exponent // 2)
        if exponent % 2:
            common = math.gcd(radicand, atom)
            factor, radicand = factor * common, radicand * atom // common**2
    if "i" in powers:
        quarter = int(powers.pop("i")) % 4
        factor *= (1, 1, -1, -1)[quarter]
        if quarter % 2:
            powers["i"] = Fraction(1)
    if radicand != 1:
        powers[radicand] = Fraction(1)
    return frozenset((atom, exponent) for atom, exponent in powers.items() if exponent), factor


def square_root(value: Fraction) -> Polynomial:
    r"""Return the root of a rational number: a rational times ``\sqrt{n}``, ``n`` square-free, or ``i`` times that.

    Raises:
        TooHardError: If square factors would be too costly to find.
    """
    sign, radicand = (-1, -value) if value < 0 else (1, value)
    number, outside = radicand.numerator * radicand.denominator, Fraction(1, radicand.denominator)
    if not number:
        return {}
    root = math.isqrt(number)
    if root * root == number:
        outside, number = outside * root, 1
    elif number > _MAX_RADICAND:
        raise TooHardError
    divisor = 2
    while divisor * divisor <= number:
        if divisor > 10_000:  # what is left has no small factor: it is a square or free of squares
            break
        while number % (divisor * divisor) == 0:
            number, outside = number // (divisor * divisor), outside * divisor
        divisor += 1
    root = math.isqrt(number)
    if root > 1 and root * root == number:
        outside, number = outside * root, 1
    monomial = set() if number == 1 else {(number, Fraction(1))}
    if sign < 0:
        monomial.add(("i", Fraction(1)))
    return {frozenset(monomial): outside}


def exact_root(number: int, degree: int) -> int | None:
    """Return the exact root of a natural number if it has one."""
    if number.bit_length() > 1000 or degree > 100:
        return None
    root = round(number ** (1 / degree)) if number.bit_length() < 50 else None
    if root is None:
        low, high = 0, 1 << (number.bit_length() // degree + 1)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if middle**degree < number else (low, middle)
        root = low
    return root if root**degree == number else None
