r"""Whether a prediction equals the gold answer.

First exactly (normal forms, rational numbers, words), which is fast and needs no library; what that leaves undecided
goes to Math-Verify, which may take arbitrarily long and therefore belongs into a process that can be killed
(`lemma.answers.grader`). Model text is parsed as LaTeX by a grammar, never evaluated.

Conventions, where graders differ:

* ``x = 5`` equals ``5`` if just one side has the name; ``x = 5`` and ``y = 5`` differ. In a chain (``2 + 2 = 4``) every
  part must equal the gold, so ``41 = 42`` is not 42.
* ``p %`` equals ``p`` and ``p / 100`` if the other side has no percent sign. Other units are ignored.
* Numbers are exact: ``0.33`` is not ``1/3``. Against an irrational gold a decimal counts from six decimals on.
* ``204`` equals the gold ``204_5``; other subscripts than the gold's do not.
"""

import re
from fractions import Fraction
from functools import cache
from typing import Any

from lemma.answers.normalize import as_rational, normalize
from lemma.types import Verdict

MAX_PREDICTION_LENGTH = 2000  # characters; a longer prediction is no answer
_MAX_BRACKETS = 150  # of one kind; deep nesting takes the LaTeX grammar exponential time
_RELATIVE_TOLERANCE = {True: 5e-6, False: 1e-60}  # is one of the two a decimal?

_NAME = re.compile(
    r"(?:[a-zA-Z]|[A-Z]{2,4}|[a-zA-Z ]{3,}|\\[a-zA-Z]+ ?[a-zA-Z]{0,3})(?:_(?:\w|\{\w+\}))?'*(?:\([\w, ]*\))?"
    r"|\([a-zA-Z](?:, [a-zA-Z])*\)"
    r"|\\frac\{[A-Z]{1,3}\}\{[A-Z]{1,3}\}"
)
_PERCENT = re.compile(r"(?:%|percent|percentage|pct)\}?[\s.$]*$")
_BASED = re.compile(r"([0-9]+)(?:_\{?([0-9]{1,2})\}?)?")
_TEXT = re.compile(r"\s*\$?\s*\\(?:text\w*|mbox|mathrm)\s*\{[^{}]*\}[\s.$]*")
_WORDS = re.compile(r"[a-zA-Z]{2,}(?: [a-zA-Z]+)*")
_TWO_NUMBERS = re.compile(r"[0-9] [0-9](?![0-9]*/)")  # Math-Verify adds them up
_DROPPED = re.compile(r"\\[lc]?dots(?![a-zA-Z])|'|\\prime(?![a-zA-Z])|\.\.\.")  # Math-Verify ignores them
_JUNCTION = re.compile(r"\b(and|or)\b")
_LETTER = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])")


def exact_verdict(gold: str, prediction: str) -> Verdict | None:
    """Return the verdict where it needs no algebra, None where it does.

    Args:
        gold: The right answer, not empty.
        prediction: The extracted answer.

    Returns:
        CORRECT if the normal forms are equal or both are rational and equal; WRONG if both are rational, or both words,
        and differ; UNPARSEABLE if the prediction is empty or longer than ``MAX_PREDICTION_LENGTH``; else None.
    """
    if len(prediction) > MAX_PREDICTION_LENGTH or not normalize(prediction):
        return Verdict.UNPARSEABLE
    gold_form, form = _without_lone_name(normalize(gold), normalize(prediction))
    if gold_form == form:
        return Verdict.CORRECT
    gold_value, value = as_rational(gold_form), as_rational(form)
    if gold_value is not None and value is not None:
        return _verdict(_equal_numbers(gold_value, value, _is_percent(gold), _is_percent(prediction)))
    if "_" in gold_form + form and (gold_based := _BASED.fullmatch(gold_form)) and (based := _BASED.fullmatch(form)):
        return _verdict(gold_based[1] == based[1] and based[2] in (None, gold_based[2]))
    if _TEXT.fullmatch(gold) and _WORDS.fullmatch(gold_form) and _WORDS.fullmatch(form):
        return _verdict(gold_form.casefold() == form.casefold())
    return None


def symbolic_verdict(gold: str, prediction: str) -> Verdict:
    """Return Math-Verify's verdict on two answers that `exact_verdict` left undecided.

    It has no time limit: call it in a process that can be killed.

    Args:
        gold: The right answer, not empty.
        prediction: The extracted answer.

    Returns:
        CORRECT, WRONG, or UNPARSEABLE if the prediction is no mathematics that Math-Verify reads.
    """
    if len(prediction) > MAX_PREDICTION_LENGTH:
        return Verdict.UNPARSEABLE
    gold_form, form = _without_lone_name(normalize(gold), normalize(prediction))
    if "=" in form and "=" not in gold_form and "," not in form:
        verdicts = {_compare(gold_form, part) for part in form.split("=")}
        return verdicts.pop() if len(verdicts) == 1 else Verdict.WRONG
    return _compare(gold_form, form)


def _compare(gold: str, prediction: str) -> Verdict:
    """Compare two normal forms by Math-Verify, after what it is known to get wrong."""
    if (verdict := exact_verdict(gold, prediction)) is not None:
        return verdict
    if _TWO_NUMBERS.search(prediction) or max(map(prediction.count, "([{")) > _MAX_BRACKETS:
        return Verdict.UNPARSEABLE
    if ("=" in gold) != ("=" in prediction) and "," not in gold + prediction:
        return Verdict.WRONG  # an equation is not a value
    if len(_DROPPED.findall(gold)) != len(_DROPPED.findall(prediction)):
        return Verdict.WRONG
    if {*_JUNCTION.findall(gold), *_JUNCTION.findall(prediction)} == {"and", "or"}:
        return Verdict.WRONG  # Math-Verify takes both for a comma
    gold, prediction = _with_one_case(gold, prediction)
    parse, verify = _math_verify()
    parsed, parsed_gold = parse(prediction), parse(gold)
    if not parsed:
        return Verdict.UNPARSEABLE
    if not parsed_gold or not verify(parsed_gold, parsed):
        return Verdict.WRONG
    return _verdict(not _is_lenient(parsed_gold[0], parsed[0]))


@cache
def _math_verify() -> tuple[Any, Any]:
    """Import Math-Verify (a second) and bind its functions to LaTeX only, our own units and no time limits."""
    import logging

    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limits are off
    normalization = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
    # Its other extraction target, plain expressions, goes through SymPy's parse_expr, which is `eval`.
    target = LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normalization)

    def parse_answer(form: str) -> list[Any]:
        # Without the fallbacks a part of what it could not read would stand for the whole.
        return parse(
            f"${form}$",
            extraction_config=[target],
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=None,
        )

    def verify_answer(gold: list[Any], prediction: list[Any]) -> bool:
        return verify(gold, prediction, timeout_seconds=None)

    return parse_answer, verify_answer


def _is_lenient(gold: Any, prediction: Any) -> bool:
    """Return whether Math-Verify took two different things for equal, in the ways in which it is known to."""
    from sympy import Eq, Expr, Float, solve

    if isinstance(gold, Eq) and isinstance(prediction, Eq) and gold != prediction:
        # It compares lists of solutions; two equations without one compare equal.
        ratio = ((gold.lhs - gold.rhs) / (prediction.lhs - prediction.rhs)).simplify()
        return not ratio.is_number and not solve(gold, gold.free_symbols)
    if isinstance(gold, Expr) and isinstance(prediction, Expr) and gold.is_number and prediction.is_number:
        # It rounds to a number of decimals, so that everything small is zero, and chops small differences.
        difference, size = abs((gold - prediction).doit().evalf(30)), abs(gold.doit().evalf(30))
        tolerance = _RELATIVE_TOLERANCE[bool(gold.has(Float) or prediction.has(Float))]
        return bool(difference.is_Float and size.is_Float and difference > tolerance * size)
    return False


def _without_lone_name(gold: str, prediction: str) -> tuple[str, str]:
    r"""Drop ``x=`` where only one side has it, or both have the same; drop ``\approx 0.58`` behind an exact value."""
    (gold_name, gold_value), (name, value) = _split_name(gold), _split_name(prediction)
    if (gold_name == name) or (name is None and "=" not in prediction) or (gold_name is None and "=" not in gold):
        return gold_value, value
    return gold, prediction


def _split_name(form: str) -> tuple[str | None, str]:
    left, approximately, right = form.partition(r"\approx")
    if approximately:
        form = f"{left}={right}" if _NAME.fullmatch(left) else left
    name, equals, value = form.partition("=")
    # "x=1, y=2" is no value with a name but a list of two; "x=1+1=2" is a value, a chain.
    if equals and _NAME.fullmatch(name) and not ("," in value and "=" in value):
        return name, value.strip()
    return None, form


def _is_percent(answer: str) -> bool:
    return _PERCENT.search(answer) is not None


def _equal_numbers(gold: Fraction, value: Fraction, gold_percent: bool, percent: bool) -> bool:
    if percent == gold_percent:
        return gold == value
    return gold == value or (gold == value / 100 if percent else gold / 100 == value)


def _with_one_case(gold: str, prediction: str) -> tuple[str, str]:
    """Rename capital variables that also occur in lower case, since Math-Verify's parser ignores case."""
    letters = set(_LETTER.findall(f"{gold} {prediction}"))
    clashing = sorted(letter for letter in letters if letter.isupper() and letter.lower() in letters)
    used = {letter.lower() for letter in letters}
    free = (letter for letter in "uvwpqrstghklmnabcxyz" if letter not in used)
    names = dict(zip(clashing, free, strict=False))

    def rename(form: str) -> str:
        return _LETTER.sub(lambda match: names.get(match[0], match[0]), form)

    return rename(gold), rename(prediction)


def _verdict(equal: bool) -> Verdict:
    return Verdict.CORRECT if equal else Verdict.WRONG
