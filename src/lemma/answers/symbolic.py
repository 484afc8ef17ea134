r"""Whether two expressions are equal, for a process that can be killed: numerically, then by Math-Verify.

Math-Verify answers what our own parser does not read (integrals, limits, matrices in expressions). What it is known to
take for equal and is not is checked around it. It parses LaTeX by a grammar; model text is never evaluated.
"""

import re
from functools import cache
from typing import Any

from lemma.types import Verdict

_MAX_BRACKETS = 60  # of one kind; deep nesting takes the LaTeX grammar exponential time
_RELATIVE_TOLERANCE = 1e-60
_TWO_NUMBERS = re.compile(r"(?<![_^])[0-9] [0-9](?![0-9]*/)")  # Math-Verify adds them up
_DROPPED = re.compile(r"\\[lc]?dots(?![a-zA-Z])|'|\\prime(?![a-zA-Z])|\.\.\.")  # Math-Verify ignores them
_LETTER = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])")


def math_verify_verdict(gold: str, prediction: str) -> Verdict:
    """Return Math-Verify's verdict on two normal forms, after what it is known to get wrong.

    It has no time limit: call it in a process that can be killed.

    Args:
        gold: Normal form of the right answer.
        prediction: Normal form of the prediction.

    Returns:
        CORRECT, WRONG, or UNPARSEABLE if the prediction is no mathematics that Math-Verify reads.
    """
    if _TWO_NUMBERS.search(gold):
        return Verdict.WRONG
    if _TWO_NUMBERS.search(prediction) or max(map(prediction.count, "([{")) > _MAX_BRACKETS:
        return Verdict.UNPARSEABLE
    if ("=" in gold) != ("=" in prediction) and "," not in gold + prediction:
        return Verdict.WRONG  # an equation is not a value
    if len(_DROPPED.findall(gold)) != len(_DROPPED.findall(prediction)):
        return Verdict.WRONG
    gold, prediction = _with_one_case(gold, prediction)
    parse, verify = _math_verify()
    parsed, parsed_gold = parse(prediction), parse(gold)
    if not parsed:
        return Verdict.UNPARSEABLE
    if not parsed_gold or not verify(parsed_gold, parsed) or _is_lenient(parsed_gold[0], parsed[0]):
        return Verdict.WRONG
    return Verdict.CORRECT


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
    from sympy import Eq, Expr, solve

    if isinstance(gold, Eq) and isinstance(prediction, Eq) and gold != prediction:
        # It compares lists of solutions; two equations without one compare equal.
        ratio = ((gold.lhs - gold.rhs) / (prediction.lhs - prediction.rhs)).simplify()
        return not ratio.is_number and not solve(gold, gold.free_symbols)
    if isinstance(gold, Expr) and isinstance(prediction, Expr) and gold.is_number and prediction.is_number:
        # It rounds to a number of decimals, so that everything small is zero, and chops small differences.
        difference, size = abs((gold - prediction).doit().evalf(80)), abs(gold.doit().evalf(80))
        return bool(difference.is_Float and size.is_Float and difference > _RELATIVE_TOLERANCE * size)
    return False


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
