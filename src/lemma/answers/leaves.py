r"""Whether two single expressions, with or without units, are equal."""

import re
from fractions import Fraction

from lemma.answers.closed_form import closed_form, equal, proportional, rational, without_denominator
from lemma.answers.conventions import Conventions
from lemma.answers.expressions import Tree, parse, symbols
from lemma.answers.numbers import as_rational, last_place
from lemma.answers.regions import Region
from lemma.answers.structure import Answer
from lemma.answers.units import Unit, split_letter, split_unit
from lemma.types import Verdict

_BASED = re.compile(r"\(?([0-9A-Fa-f]+)\)?(?:_([0-9]{1,2}))?")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_INFINITE = re.compile(r"\+?(-?\\infty)")
_OPPOSITE = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


class Leaves:
    """Compares expressions; says None where it cannot tell, which after ``symbolic`` means nothing can.

    Args:
        conventions: How strictly to compare.
        symbolic: Whether to ask what may take long.
    """

    def __init__(self, conventions: Conventions, symbolic: bool) -> None:
        self._units = conventions.units
        self._symbolic = symbolic

    def compare(self, gold: str, prediction: str) -> Verdict | None:
        """Return whether two normal forms of single expressions are equal, units considered."""
        (gold_value, gold_unit), (value, unit) = split_unit(gold), split_unit(prediction)
        if gold_unit is None and unit is not None:
            gold_value, gold_unit = split_letter(gold, unit)
        elif unit is None and gold_unit is not None:
            value, unit = split_letter(prediction, gold_unit)
        if gold_unit is None and unit is None:
            return self._values(gold_value, value)
        if (
            self._units == "required"
            and gold_unit is not None
            and not gold_unit.is_percent
            and (unit is None or gold_unit.known != unit.known)
        ):
            return Verdict.WRONG
        if self._units != "ignored" and gold_unit is not None and unit is not None:
            return self._quantities(gold_value, gold_unit, value, unit)
        verdict = self._values(gold_value, value)
        if verdict == Verdict.CORRECT:
            return verdict
        for one in (gold_unit, unit):  # the side that has the unit, the other having none
            other_value = value if one is gold_unit else gold_value
            if one is None or (gold_unit is not None and unit is not None):
                continue
            rate = self._rate(one, other_value)
            if rate is None:
                continue
            scaled = (_scaled(gold_value, rate), value) if one is gold_unit else (gold_value, _scaled(value, rate))
            if (again := self._values(*scaled)) == Verdict.CORRECT or verdict is None:
                return again
        return verdict

    def compare_relations(self, gold: Answer, prediction: Answer) -> Verdict | None:
        """Return whether two equations or inequalities of two sides each say the same.

        They do if the differences of their sides are proportional, for inequalities by a factor of the right sign.
        """
        (operator,), (other,) = gold.marks, prediction.marks
        sides = [_difference(answer) for answer in (gold, prediction)]
        if None in sides:
            return self.fall_back(gold.text, prediction.text)
        if operator == other and operator in ("=", "!="):
            signs = {1, -1}
        elif operator in _OPPOSITE and other in (operator, _OPPOSITE[operator]):
            signs = {1} if other == operator else {-1}
        else:
            return (
                Verdict.WRONG
                if operator in "=!=<=>=" and other in "=!=<=>="
                else self.fall_back(gold.text, prediction.text)
            )
        forms = [closed_form(side) for side in sides]
        if None not in forms:
            ratio = proportional(*(map(without_denominator, forms) if operator in ("=", "!=") else forms))
            if ratio is not None:
                return Verdict.CORRECT if (1 if ratio > 0 else -1) in signs else Verdict.WRONG
        if not self._symbolic:
            return None
        from lemma.answers.numeric import ratio_sign

        sign = ratio_sign(*sides)
        if sign is not None:
            return Verdict.CORRECT if sign in signs else Verdict.WRONG
        return self.fall_back(gold.text, prediction.text)

    def fall_back(self, gold: str, prediction: str) -> Verdict | None:
        """Ask Math-Verify about what is none of the things read here."""
        if not self._symbolic:
            return None
        from lemma.answers.symbolic import math_verify_verdict

        return math_verify_verdict(gold, prediction)

    def real_value(self, form: str) -> Fraction | None:
        """Return the value of a constant expression, an irrational one to 40 digits; None if it is unknown."""
        value = as_rational(form)
        if value is not None or (tree := parse(form)) is None:
            return value
        if (value := rational(closed_form(tree))) is not None or not self._symbolic:
            return value
        from lemma.answers.numeric import real_value

        return real_value(tree)

    def solve(self, left: str, operator: str, right: str) -> tuple[str, Region] | None:
        """Return the variable and the real numbers for which a relation holds; None if they are unknown."""
        trees = [_tree(form, as_rational(form)) for form in (left, right)]
        if None in trees or not self._symbolic:
            return None
        from lemma.answers.solutions import solutions

        return solutions(_minus(*trees), operator)

    def _values(self, gold: str, prediction: str) -> Verdict | None:
        if gold == prediction:
            return Verdict.CORRECT
        gold_number, number = as_rational(gold), as_rational(prediction)
        if gold_number is not None and number is not None:
            return _of(gold_number == number)
        if ("_" in gold or "_" in prediction) and (verdict := _compare_bases(gold, prediction)) is not None:
            return verdict
        if (":" in gold) != (":" in prediction) and _INTEGER.fullmatch(gold if ":" in prediction else prediction):
            return Verdict.WRONG  # a ratio may be a fraction, but is no whole number
        infinite = [_INFINITE.fullmatch(form) for form in (gold, prediction)]
        if any(infinite):
            return _of(all(infinite) and infinite[0][1] == infinite[1][1])
        trees = [_tree(form, number) for form, number in ((gold, gold_number), (prediction, number))]
        if None in trees:
            return self.fall_back(gold, prediction)
        if len(imaginary := [tree for tree in trees if "I" in symbols(tree)]) == 1 and "i" not in symbols(imaginary[0]):
            trees = [_with_sympy_i(tree) for tree in trees]
        places = [
            (number, last_place(form), other)
            for form, number, other in ((gold, gold_number, trees[1]), (prediction, number, trees[0]))
        ]
        approximate = next((place for place in places if place[1] is not None), None)
        forms = [closed_form(tree) for tree in trees]
        if None not in forms:
            same = equal(*forms)
            if same or (same is False and (approximate is None or None not in map(rational, forms))):
                return _of(same)
        if not self._symbolic:
            return None
        return self._numerically(trees, approximate, gold, prediction)

    def _numerically(self, trees: list[Tree], approximate: tuple | None, gold: str, prediction: str) -> Verdict | None:
        from lemma.answers import numeric

        if approximate is not None:
            close = numeric.approximates(*approximate)
            if close is not None:
                return _of(close)
        same = numeric.same_values(*trees)
        return self.fall_back(gold, prediction) if same is None else _of(same)

    def _quantities(self, gold: str, gold_unit: Unit, value: str, unit: Unit) -> Verdict | None:
        """Compare two quantities that both have a unit."""
        if not (gold_unit.known and unit.known):
            return (
                self._values(gold, value)
                if gold_unit.known == unit.known or self._units == "optional"
                else Verdict.WRONG
            )
        if gold_unit.dimension != unit.dimension:
            angle = {gold_unit.is_degrees, unit.is_degrees} == {True, False} and "radian" in str(
                (gold_unit if unit.is_degrees else unit).dimension
            )
            if not angle:
                return Verdict.WRONG
            in_radians = r"\frac{\pi}{180}"
            gold = f"({gold})*{in_radians}" if gold_unit.is_degrees else gold
            value = f"({value})*{in_radians}" if unit.is_degrees else value
            return self._values(gold, value)
        if gold_unit.factor == unit.factor:
            return self._values(gold, value)
        return self._values(_scaled(gold, gold_unit.factor), _scaled(value, unit.factor))

    def _rate(self, unit: Unit, other: str) -> Fraction | str | None:
        r"""Return by what a value with a unit may be multiplied to be compared with one without; None for nothing."""
        if unit.is_percent:
            return Fraction(1, 100)
        if unit.is_degrees and r"\pi" in other:
            return r"\frac{\pi}{180}"
        return None


def _scaled(value: str, rate: Fraction | str) -> str:
    number = as_rational(value)
    if isinstance(rate, str):
        return f"({value})*{rate}"
    return f"({value})*({rate})" if number is None else str(number * rate)


def _tree(form: str, number: Fraction | None) -> Tree | None:
    return ("num", number) if number is not None else parse(form)


def _with_sympy_i(tree: Tree) -> Tree:
    """Read ``I`` as SymPy writes the imaginary unit."""
    if tree == ("sym", "I"):
        return ("sym", "i")
    return tuple(_with_sympy_i(part) if isinstance(part, tuple) else part for part in tree)


def _difference(answer: Answer) -> Tree | None:
    trees = [_tree(item.text, as_rational(item.text)) for item in answer.items]
    if None in trees:
        return None
    return _minus(*trees)


def _minus(left: Tree, right: Tree) -> Tree:
    return ("+", left, ("*", ("num", Fraction(-1)), right))


def _compare_bases(gold: str, prediction: str) -> Verdict | None:
    """Compare digits with bases; the prediction may leave the gold's base out."""
    gold_based, based = _BASED.fullmatch(gold), _BASED.fullmatch(prediction)
    if not gold_based or not based or not gold_based[1][:1].isalnum():
        return None
    if not (gold_based[1][0].isdigit() or gold_based[2]) or gold_based[1].isalpha() or based[1].isalpha():
        return None
    return _of(gold_based[1].upper() == based[1].upper() and based[2] in (None, gold_based[2]))


def _of(same: bool) -> Verdict:
    return Verdict.CORRECT if same else Verdict.WRONG
