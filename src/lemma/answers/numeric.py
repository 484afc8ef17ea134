r"""Whether two expressions have equal values, by evaluating them to 100 digits at a few points.

Two analytic expressions that agree to 100 digits at eight points chosen without regard to either are equal, but for an
expression built to deceive; that they differ at one point is proof that they are not. This decides what has no exact
normal form (nested roots, logarithms, trigonometry), in a millisecond where simplifying takes seconds or for ever.

Values are compared wherever both are real, so that ``\ln x^2`` is ``2 \ln x``; where there are too few such points,
as complex numbers. Odd roots of negative numbers are real.
"""

import hashlib
from fractions import Fraction
from typing import Any

from lemma.answers.expressions import Tree, symbols

_DIGITS = 100
_TOLERANCE = 80  # digits that must agree
_MAX_MAGNITUDE = 100_000  # bits of an exponent's range
_MAX_SERIES = 2_000
_NUM_POINTS = 8
_MIN_POINTS = 3
_CONSTANTS = {r"\pi", "e", "i"}
_COMPLEX_PARTS = {"Re", "Im", "arg"}


class UndefinedError(ArithmeticError):
    """The expression has no value at this point, or none that is small enough to compute."""


def same_values(first: Tree, second: Tree) -> bool | None:
    """Return whether two expressions agree wherever both are real; None if there are too few such points to tell."""
    return _at_points(first, second, lambda pairs: all(_close(a, b) for a, b in pairs))


def ratio_sign(first: Tree, second: Tree) -> int | None:
    """Return the sign of the ratio of two expressions, 0 if that is not the same at every point; None if unknown."""

    def ratio(pairs: list[tuple[Any, Any]]) -> int | None:
        if any(_close(b, 0) or _close(a, 0) for a, b in pairs):
            return 0
        ratios = [a / b for a, b in pairs]
        constant = all(_close(ratio, ratios[0]) for ratio in ratios) and ratios[0].imag == 0
        return (1 if ratios[0].real > 0 else -1) if constant else 0

    return _at_points(first, second, ratio)


def approximates(decimal: Fraction, last_place: Fraction, tree: Tree) -> bool | None:
    """Return whether a constant expression is within one unit in the last place of a decimal; None if it has no value.

    Args:
        decimal: The decimal's value.
        last_place: One unit in the last place it was written with.
        tree: The expression.
    """
    if symbols(tree) - _CONSTANTS:
        return False
    import mpmath

    with mpmath.workdps(_DIGITS):
        try:
            value = _evaluate(tree, {})
        except (UndefinedError, ArithmeticError, ValueError, OverflowError):
            return None
        exact = mpmath.mpf(decimal.numerator) / decimal.denominator
        return bool(abs(value - exact) <= mpmath.mpf(last_place.numerator) / last_place.denominator)


def real_value(tree: Tree) -> Fraction | None:
    """Return a real constant rounded to 40 digits, so that equal constants give equal numbers; None for any other."""
    if symbols(tree) - _CONSTANTS:
        return None
    import mpmath

    with mpmath.workdps(_DIGITS):
        try:
            value = _evaluate(tree, {})
        except (UndefinedError, ArithmeticError, ValueError, OverflowError):
            return None
        return None if value.imag else rounded(value.real)


def rounded(value: Any) -> Fraction:
    """Return a real number rounded to 40 digits."""
    import mpmath

    return Fraction(mpmath.nstr(value, 40, min_fixed=-50, max_fixed=50))


def sign_at(tree: Tree, name: str, value: Fraction) -> int:
    """Return the sign of an expression at a value of its variable: -1, 0, 1, or 2 where it is undefined or not real."""
    import mpmath

    with mpmath.workdps(_DIGITS):
        try:
            result = _evaluate(tree, {name: mpmath.mpc(value.numerator) / value.denominator})
        except (UndefinedError, ArithmeticError, ValueError, OverflowError):
            return 2
        if abs(result) < mpmath.mpf(10) ** -30:
            return 0
        return 2 if result.imag else (1 if result.real > 0 else -1)


def _at_points(first: Tree, second: Tree, decide: Any) -> Any:
    import mpmath

    names = sorted((symbols(first) | symbols(second)) - _CONSTANTS)
    if r"\infty" in names:
        return None
    with mpmath.workdps(_DIGITS):
        pairs = []
        for index in range(_NUM_POINTS if names else 1):
            point = {name: _coordinate(name, index) for name in names}
            try:
                pairs.append((_evaluate(first, point), _evaluate(second, point)))
            except (UndefinedError, ArithmeticError, ValueError, OverflowError):
                continue
        real = [(a, b) for a, b in pairs if a.imag == 0 and b.imag == 0]
        if not names and pairs:
            return decide(pairs)
        if len(real) >= _MIN_POINTS:
            return decide(real)
        return decide(pairs) if len(pairs) >= _MIN_POINTS else None


def _coordinate(name: str, index: int) -> Any:
    """Return a number that depends on the name and the index only: positive at the first points, then of any sign."""
    import mpmath

    digest = int.from_bytes(hashlib.blake2b(f"{name}/{index}".encode(), digest_size=16).digest(), "big")
    value = mpmath.mpf(digest % 10**30) / 10**30 * 3 + mpmath.mpf(1) / 7
    return mpmath.mpc(-value if index >= _NUM_POINTS // 2 and digest >> 127 else value)


def _close(a: Any, b: Any) -> bool:
    import mpmath

    scale = max(abs(a), abs(b))
    if b == 0 or a == 0:
        return scale < mpmath.mpf(10) ** (-_TOLERANCE)
    return bool(abs(a - b) <= scale * mpmath.mpf(10) ** (-_TOLERANCE))


def _evaluate(tree: Tree, point: dict[str, Any]) -> Any:
    """Return the value as a complex number."""
    import mpmath

    kind = tree[0]
    if kind == "num":
        return mpmath.mpc(tree[1].numerator) / tree[1].denominator
    if kind == "sym":
        return _symbol(tree[1], point)
    if kind == "sum":
        return _series(tree, point)
    if kind == "call":
        value = _call(tree[1], [_evaluate(part, point) for part in tree[2:]])
    else:
        a, b = _evaluate(tree[1], point), _evaluate(tree[2], point)
        if kind == "/" and b == 0:
            raise UndefinedError
        value = a + b if kind == "+" else a * b if kind == "*" else a / b if kind == "/" else _power(a, b)
    if not mpmath.isfinite(value) or (abs(mpmath.mag(value)) > _MAX_MAGNITUDE and value != 0):
        raise UndefinedError
    scale = abs(value) * mpmath.mpf(10) ** (-_TOLERANCE - 10)
    return mpmath.mpc(0 if abs(value.real) <= scale else value.real, 0 if abs(value.imag) <= scale else value.imag)


def _symbol(name: str, point: dict[str, Any]) -> Any:
    import mpmath

    if name in point:
        return point[name]
    values = {r"\pi": mpmath.pi, "e": mpmath.e, "i": mpmath.mpc(0, 1)}
    if name not in values:
        raise UndefinedError
    return mpmath.mpc(values[name])


def _power(base: Any, exponent: Any) -> Any:
    import mpmath

    if base == 0:
        if exponent.real <= 0:
            raise UndefinedError
        return mpmath.mpc(0)
    if abs(exponent) * max(abs(mpmath.mag(base)), 1) > _MAX_MAGNITUDE:
        raise UndefinedError
    if base.imag == 0 and base.real < 0 and exponent.imag == 0:
        for degree in range(3, 20, 2):  # an odd root of a negative number is real
            times = exponent.real * degree
            if abs(times - mpmath.nint(times)) < mpmath.mpf(10) ** (-_TOLERANCE) and not mpmath.isint(exponent.real):
                size = mpmath.power(-base.real, exponent.real)
                return mpmath.mpc(-size if int(mpmath.nint(times)) % 2 else size)
    return mpmath.mpc(mpmath.power(base, exponent))


def _call(name: str, arguments: list[Any]) -> Any:
    import mpmath

    first = arguments[0]
    if name == "root":
        if arguments[1] == 0:
            raise UndefinedError
        return _power(first, 1 / arguments[1])
    if name.endswith("()"):
        seed = _coordinate(name, 0)
        return mpmath.mpc(sum(mpmath.sin(seed * (place + 1) * each + place) for place, each in enumerate(arguments)))
    if name in ("min", "max", "gcd", "lcm", "floor", "ceil", "mod"):
        return _on_reals(name, arguments)
    if name == "binom":
        return mpmath.mpc(mpmath.binomial(*arguments))
    if name == "log":
        if first == 0:
            raise UndefinedError
        return mpmath.mpc(mpmath.log(first))
    if name == "!":
        if abs(first) > 10_000:
            raise UndefinedError
        return mpmath.mpc(mpmath.factorial(first))
    functions = {"abs": abs, "Gamma": mpmath.gamma, "zeta": mpmath.zeta} | {
        f"{arc}{function}{h}": getattr(mpmath, f"{arc and 'a'}{function}{h}")
        for arc in ("", "arc")
        for function in ("sin", "cos", "tan", "cot", "sec", "csc")
        for h in ("", "h")
    }
    if name not in functions or len(arguments) != 1:
        raise UndefinedError
    return mpmath.mpc(functions[name](first))


def _on_reals(name: str, arguments: list[Any]) -> Any:
    import mpmath

    if any(argument.imag for argument in arguments):
        raise UndefinedError
    if name in ("min", "max"):
        return mpmath.mpc((min if name == "min" else max)(argument.real for argument in arguments))
    if name in ("floor", "ceil"):
        return mpmath.mpc(getattr(mpmath, name)(arguments[0].real))
    raise UndefinedError


def _series(tree: Tree, point: dict[str, Any]) -> Any:
    import mpmath

    _, name, variable, low_tree, high_tree, term = tree
    low, high = _evaluate(low_tree, point), _evaluate(high_tree, point)
    if not (mpmath.isint(low) and mpmath.isint(high)) or high.real - low.real > _MAX_SERIES or variable in point:
        raise UndefinedError
    total = mpmath.mpc(0 if name == "sum" else 1)
    for index in range(int(low.real), int(high.real) + 1):
        value = _evaluate(term, point | {variable: mpmath.mpc(index)})
        total = total + value if name == "sum" else total * value
    return total
