r"""For which real numbers an inequality in one variable holds: ``x^2 < 4``, ``|x - 1| \ge 2``, ``\frac{x}{x-3} > 0``.

The two sides differ by a function that changes its sign only where a numerator, a denominator or the inside of an
absolute value is zero. Between these points one evaluation each decides. Belongs into a process that can be killed.
"""

from fractions import Fraction
from itertools import pairwise, product
from typing import Any

from lemma.answers.closed_form import closed_form
from lemma.answers.expressions import Tree, symbols
from lemma.answers.numeric import rounded, sign_at
from lemma.answers.polynomials import Polynomial
from lemma.answers.regions import Cut, Region, cleaned

_MAX_DEGREE = 12
_MAX_ABSOLUTE_VALUES = 3
_CONSTANTS = {r"\pi", "e"}


def solutions(difference: Tree, operator: str) -> tuple[str, Region] | None:
    """Return the variable and the region in which ``difference operator 0``; None where it is none of one variable.

    Args:
        difference: Left side minus right side.
        operator: ``<``, ``<=``, ``>``, ``>=``, ``=`` or ``!=``.
    """
    names = symbols(difference) - _CONSTANTS
    if len(names) != 1:
        return None
    (name,) = names
    points = _critical_points(difference, name)
    if points is None:
        return None
    samples = _between(points)
    signs = [sign_at(difference, name, value) for value in samples]
    holds = {"<": {-1}, "<=": {-1, 0}, ">": {1}, ">=": {1, 0}, "=": {0}, "!=": {-1, 1}}.get(operator)
    if holds is None:
        return None
    ends: list[Cut] = [(float("-inf"), 0), *((point, 0) for point in points), (float("inf"), 0)]
    pieces = []
    for index, sign in enumerate(signs):
        low, high = ends[index], ends[index + 1]
        if sign in holds:
            pieces.append(((low[0], int(index > 0)), high))
    for point in points:
        if sign_at(difference, name, point) in holds:
            pieces.append(((point, 0), (point, 1)))
    found = cleaned(pieces)
    return None if operator == "=" and not found else (name, found)  # without roots, equations may still differ


def _critical_points(tree: Tree, name: str) -> list[Fraction] | None:
    """Return, in order, every point where the sign may change; None if they cannot be found."""
    insides = _absolute_values(tree)
    if len(insides) > _MAX_ABSOLUTE_VALUES:
        return None
    points: set[Fraction] = set()
    for signs in product((1, -1), repeat=len(insides)):
        value = closed_form(_without_absolute_values(tree, dict(zip(insides, signs, strict=True))))
        if value is None:
            return None
        for polynomial in (value.numerator, value.denominator):
            roots = _real_roots(polynomial, name)
            if roots is None:
                return None
            points |= roots
    return sorted(points)


def _absolute_values(tree: Tree) -> list[Tree]:
    found = [tree] if tree[:2] == ("call", "abs") else []
    found.extend(inner for part in tree if isinstance(part, tuple) for inner in _absolute_values(part))
    return list(dict.fromkeys(found))


def _without_absolute_values(tree: Tree, signs: dict[Tree, int]) -> Tree:
    if tree in signs:
        inside = _without_absolute_values(tree[2], signs)
        return ("*", ("num", Fraction(signs[tree])), inside)
    return tuple(_without_absolute_values(part, signs) if isinstance(part, tuple) else part for part in tree)


def _real_roots(polynomial: Polynomial, name: str) -> set[Fraction] | None:
    """Return the real roots, rounded as other constants are, zero where powers are negative; None if not univariate."""
    import mpmath

    coefficients: dict[int, Any] = {}
    with mpmath.workdps(100):
        for monomial, coefficient in polynomial.items():
            exponent, factor = 0, mpmath.mpf(coefficient.numerator) / coefficient.denominator
            for atom, power in monomial:
                if atom == name and power.denominator == 1:
                    exponent = int(power)
                elif isinstance(atom, int) or atom in _CONSTANTS:
                    base = mpmath.sqrt(atom) if isinstance(atom, int) else mpmath.pi if atom == r"\pi" else mpmath.e
                    factor *= base ** (mpmath.mpf(power.numerator) / power.denominator)
                else:
                    return None
            coefficients[exponent] = coefficients.get(exponent, 0) + factor
        if not coefficients:
            return set()
        lowest, highest = min(coefficients), max(coefficients)
        roots = {Fraction(0)} if lowest else set()
        if highest - lowest > _MAX_DEGREE:
            return None
        if highest > lowest:
            found = _polynomial_roots([coefficients.get(index, 0) for index in range(highest, lowest - 1, -1)])
            if found is None:
                return None
            roots |= {rounded(root.real) for root in found if abs(root.imag) < mpmath.mpf(10) ** -25}
        return roots


def _polynomial_roots(coefficients: list[Any]) -> list[Any] | None:
    import mpmath

    try:
        return mpmath.polyroots(coefficients, maxsteps=200, extraprec=400)
    except mpmath.libmp.libhyper.NoConvergence:
        return None


def _between(points: list[Fraction]) -> list[Fraction]:
    """Return a number below all points, one between each two, and one above all."""
    if not points:
        return [Fraction(1, 3)]
    middles = [(low + high) / 2 for low, high in pairwise(points)]
    return [points[0] - 1, *middles, points[-1] + 1]
