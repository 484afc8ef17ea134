r"""The exact normal form of an expression, so that two expressions are compared without a computer algebra system.

A value is a quotient of two polynomials with rational coefficients over *atoms*: variables, ``\pi``, ``e``, ``i``,
square roots of square-free integers, and, as they stand, the function values that have no simpler form (``\sin x``).
Monomials of variables, constants and such square roots are linearly independent over the rationals, so two values are
equal exactly if their cross products are; where other atoms occur, unequal forms prove nothing.

Integers have any size and no float occurs. Every size is bounded before it is computed.
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from lemma.answers.expressions import Tree
from lemma.answers.polynomials import MAX_BITS, UNIT, Polynomial, TooHardError, add, exact_root, multiply, square_root

_MAX_EXPONENT = 400
_MAX_FACTORIAL = 400
_MAX_SERIES = 200  # summands, of a series that holds no other


class Value(NamedTuple):
    """``numerator / denominator``; ``exact`` if unequal forms are unequal values."""

    numerator: Polynomial
    denominator: Polynomial
    exact: bool = True


@lru_cache(maxsize=4096)
def closed_form(tree: Tree) -> Value | None:
    """Return the normal form of an expression, or None where it has none within the bounds (``1/0``, ``9^{9^9}``).

    Args:
        tree: What `lemma.answers.expressions.parse` returned.
    """
    try:
        return _value(tree, {})
    except (TooHardError, ZeroDivisionError, RecursionError):
        return None


def rational(value: Value | None) -> Fraction | None:
    """Return the value as a rational number if it is one."""
    if value is None or value.numerator.keys() - {UNIT} or value.denominator.keys() != {UNIT}:
        return None
    return value.numerator.get(UNIT, Fraction(0)) / value.denominator[UNIT]


def equal(first: Value, second: Value) -> bool | None:
    """Return whether two values are equal, None where the normal forms cannot tell."""
    try:
        same = multiply(first.numerator, second.denominator) == multiply(second.numerator, first.denominator)
    except TooHardError:
        return None
    return True if same else (False if first.exact and second.exact else None)


def proportional(first: Value, second: Value) -> Fraction | None:
    """Return the rational ``first / second`` if both are non-zero and it is one, else None.

    Two equations ``f = 0`` describe the same set if their left sides are proportional.
    """
    try:
        left, right = multiply(first.numerator, second.denominator), multiply(second.numerator, first.denominator)
    except TooHardError:
        return None
    if not left or left.keys() != right.keys():
        return None
    ratios = {left[monomial] / right[monomial] for monomial in left}
    return ratios.pop() if len(ratios) == 1 else None


def without_denominator(value: Value) -> Value:
    """Return the numerator, free of negative powers: set to zero it says the same wherever the value is defined."""
    lowest: dict[object, Fraction] = {}
    for monomial in value.numerator:
        for atom, exponent in monomial:
            lowest[atom] = min(exponent, lowest.get(atom, Fraction(0)))
    clearing = frozenset((atom, -exponent) for atom, exponent in lowest.items() if exponent < 0)
    return Value(multiply(value.numerator, {clearing: Fraction(1)}), {UNIT: Fraction(1)}, value.exact)


def _value(tree: Tree, env: dict[str, Fraction]) -> Value:
    kind = tree[0]
    if kind == "num":
        return _constant(tree[1])
    if kind == "sym":
        return _constant(env[tree[1]]) if tree[1] in env else _symbol(tree[1])
    if kind == "sum":
        return _series(tree, env)
    if kind == "call":
        return _call(tree, [_value(part, env) for part in tree[2:]])
    first, second = _value(tree[1], env), _value(tree[2], env)
    if kind == "+":
        return _add(first, second)
    if kind == "*":
        return _times(first, second)
    if kind == "/":
        return _divide(first, second)
    return _power(first, second)


def _constant(value: Fraction | int) -> Value:
    value = Fraction(value)
    return Value({UNIT: value} if value else {}, {UNIT: Fraction(1)})


def _symbol(name: str) -> Value:
    if name == r"\infty":
        raise TooHardError
    return _atom(name)


def _atom(atom: object, exact: bool = True) -> Value:
    return Value({frozenset({(atom, Fraction(1))}): Fraction(1)}, {UNIT: Fraction(1)}, exact)


def _add(first: Value, second: Value) -> Value:
    exact = first.exact and second.exact
    if first.denominator == second.denominator:
        return Value(add(first.numerator, second.numerator), first.denominator, exact)
    return _reduced(
        add(multiply(first.numerator, second.denominator), multiply(second.numerator, first.denominator)),
        multiply(first.denominator, second.denominator),
        exact,
    )


def _times(first: Value, second: Value) -> Value:
    return _reduced(
        multiply(first.numerator, second.numerator),
        multiply(first.denominator, second.denominator),
        first.exact and second.exact,
    )


def _divide(first: Value, second: Value) -> Value:
    if not second.numerator:
        raise ZeroDivisionError
    return _times(first, Value(second.denominator, second.numerator, second.exact))


def _reduced(numerator: Polynomial, denominator: Polynomial, exact: bool) -> Value:
    """Divide by a denominator of one term, so that most values are polynomials; cancel one common polynomial."""
    if len(denominator) == 1:
        (monomial, coefficient), *_ = denominator.items()
        inverse = {frozenset((atom, -exponent) for atom, exponent in monomial): 1 / coefficient}
        return Value(multiply(numerator, inverse), {UNIT: Fraction(1)}, exact)
    if numerator == denominator:
        return Value({UNIT: Fraction(1)}, {UNIT: Fraction(1)}, exact)
    return Value(numerator, denominator, exact)


def _power(base: Value, exponent: Value) -> Value:
    number = rational(exponent)
    if number is None:
        if rational(base) == 1:
            return base
        return _atom(("^", _key(base), _key(exponent)), exact=False)
    if number.denominator == 1:
        return _whole_power(base, int(number))
    if number.denominator == 2 and (value := rational(base)) is not None and abs(number) < _MAX_EXPONENT:
        return _whole_power(Value(square_root(value), {UNIT: Fraction(1)}), number.numerator)
    if len(base.numerator) == 1 and base.denominator == {UNIT: Fraction(1)} and base.exact:
        (monomial, coefficient), *_ = base.numerator.items()
        if coefficient == 1 and len(monomial) == 1 and abs(number) < _MAX_EXPONENT:
            (atom, power), *_ = monomial
            if isinstance(atom, str) and atom != "i" and power == 1:
                return Value({frozenset({(atom, number)}): Fraction(1)}, base.denominator)
    return _root(base, number)


def _whole_power(base: Value, exponent: int) -> Value:
    if exponent == 0:
        if not base.numerator:
            raise TooHardError  # 0^0
        return _constant(1)
    if exponent < 0:
        base, exponent = _divide(_constant(1), base), -exponent
    number = rational(base)
    if number is not None:
        if number in (0, 1, -1):
            return _constant(number if exponent % 2 else abs(number))
        if exponent * max(number.numerator.bit_length(), number.denominator.bit_length()) > MAX_BITS:
            raise TooHardError
        return _constant(number**exponent)
    if exponent > _MAX_EXPONENT:
        raise TooHardError
    result = _constant(1)
    while exponent:
        if exponent & 1:
            result = _times(result, base)
        exponent >>= 1
        base = _times(base, base) if exponent else base
    return result


def _root(base: Value, exponent: Fraction) -> Value:
    """Return a root other than a square root: exact for perfect powers, else an atom; odd roots are real."""
    value = rational(base)
    if value is not None and value < 0 and exponent.denominator % 2:
        return _times(_constant(-1 if exponent.numerator % 2 else 1), _root(_constant(-value), exponent))
    if value is not None and value >= 0:
        parts = [exact_root(part, exponent.denominator) for part in (value.numerator, value.denominator)]
        if None not in parts:
            return _whole_power(_constant(Fraction(*parts)), exponent.numerator)
    return _atom(("^", _key(base), exponent), exact=False)


def _key(value: Value) -> tuple:
    """Return a hashable form, scaled so that equal quotients of the same polynomials have one key."""
    lead = value.denominator[min(value.denominator, key=repr)]
    return tuple(
        frozenset((m, c / lead) for m, c in polynomial.items()) for polynomial in (value.numerator, value.denominator)
    )


def _series(tree: Tree, env: dict[str, Fraction]) -> Value:
    _, name, variable, low_tree, high_tree, term = tree
    low, high = rational(_value(low_tree, env)), rational(_value(high_tree, env))
    if low is None or high is None or low.denominator * high.denominator != 1 or env or high - low > _MAX_SERIES:
        raise TooHardError
    total = _constant(0 if name == "sum" else 1)
    for index in range(int(low), int(high) + 1):
        summand = _value(term, env | {variable: Fraction(index)})
        total = _add(total, summand) if name == "sum" else _times(total, summand)
    return total


def _call(tree: Tree, arguments: list[Value]) -> Value:
    name, numbers = tree[1], [rational(argument) for argument in arguments]
    if name == "root":
        if not numbers[1]:
            raise TooHardError
        return _power(arguments[0], _constant(1 / numbers[1]))
    if None not in numbers and (function := _ON_RATIONALS.get(name)) is not None:
        value = function(*numbers)
        if value is not None:
            return _constant(value)
    if name == "log" and numbers[0] == 1:
        return _constant(0)
    if name in ("min", "max") and len(arguments) == 1:
        return arguments[0]
    return _atom((name, *map(_key, arguments)), exact=False)


def _factorial(value: Fraction) -> int | None:
    return math.factorial(int(value)) if value.denominator == 1 and 0 <= value <= _MAX_FACTORIAL else None


def _binomial(n: Fraction, k: Fraction) -> int | None:
    whole = n.denominator == k.denominator == 1
    return math.comb(int(n), int(k)) if whole and 0 <= k <= _MAX_FACTORIAL and 0 <= n <= 10_000 else None


def _gcd(*numbers: Fraction) -> Fraction:
    """Return the largest rational of which all are whole multiples: gcd(3.6, 2.4) = 1.2."""
    denominator = math.lcm(*(number.denominator for number in numbers))
    return Fraction(math.gcd(*(int(number * denominator) for number in numbers)), denominator)


def _lcm(*numbers: Fraction) -> int | None:
    return math.lcm(*map(int, numbers)) if all(number.denominator == 1 for number in numbers) else None


_ON_RATIONALS = {
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "min": lambda *numbers: min(numbers),
    "max": lambda *numbers: max(numbers),
    "gcd": _gcd,
    "lcm": _lcm,
    "!": _factorial,
    "binom": _binomial,
}
