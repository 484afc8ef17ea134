r"""The normal form of an answer, and the exact rational number that it is, if it is one.

Normalising is conservative: it removes what never changes an answer (dollar signs, ``\left``, thousands separators, a
unit or a percent sign at the end, a final period) and rewrites spellings of one thing to one spelling (``\dfrac12`` to
``\frac{1}{2}``). It computes nothing. What depends on the other side of a comparison (``x=`` in front, ``%``) is the
business of `lemma.answers.equivalence`.
"""

import re
from fractions import Fraction

from lemma.answers.boxes import strip_boxes

MAX_EXPONENT = 400  # a larger power of ten is left to the symbolic comparison
MAX_DIGITS = 1000  # below the 4,300 at which `int` refuses a string

_CHARACTERS = str.maketrans(
    {
        "−": "-",  # noqa: RUF001 (the minus sign)
        "–": "-",  # noqa: RUF001 (the en dash)
        "×": r"\times ",  # noqa: RUF001
        "·": r"\cdot ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "∪": r"\cup ",  # noqa: RUF001
        "°": r"^\circ",
    }
)
_TEXT_COMMAND = r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mbox)"
_UNIT_WORDS = (
    r"(?:(?:sq(?:uare|\.)?|cubic|cu\.?)\s+)?(?:mm|cm|km|ft|kg|mg|ml|lbs?|mph|inch(?:es)?|feet|foot|yards?|miles?|"
    r"(?:milli|centi|kilo)?met(?:er|re)s?|(?:milli|kilo)?grams?|pounds?|ounces?|lit(?:er|re)s?|gallons?|dollars?|cents?|"
    r"euros?|seconds?|minutes?|hours?|days?|weeks?|months?|years?|degrees?|radians?|units?|points?|people|students?)"
)
_TRIGONOMETRIC = "(?:sin|cos|tan|cot|sec|csc)h?"
_SMALL_POWER = r"(?:\s*\^\s*(?:[0-9]|\{\s*[0-9]\s*\}))?"
# Words that change the value, or join two answers, are no unit.
_NO_UNIT = r"(?!\s*[eij]\s*\})(?![^{}]*\b(?:and|or|not|to|dozen|hundred|thousand|million|billion|trillion)\b)"
_ENDS = [
    (re.compile(r"[\s.,;:]+$|(?<!\\)\\$"), ""),
    (re.compile(r"^[€£¥₹]\s*|\s*[€£¥₹]$"), ""),
    (re.compile(r"(?<=[0-9)}\]])\s*(?:\\?%|\b(?:percent|percentage|pct)\b|\\text\s*\{\s*(?:percent|pct)\s*\})$"), ""),
    (re.compile(r"(?<=[0-9})])\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})$"), ""),
    (re.compile(rf"(?<=[0-9)}}\]])\s*{_TEXT_COMMAND}\s*\{{{_NO_UNIT}[a-zA-Z .,/]{{1,30}}\}}{_SMALL_POWER}$"), ""),
    (re.compile(rf"(?<=[0-9)}}])\s*\\mathrm\s*\{{\s*~?{_UNIT_WORDS}\s*\}}{_SMALL_POWER}$"), ""),
    (re.compile(rf"(?<=[0-9}}])\s*\b{_UNIT_WORDS}{_SMALL_POWER}$"), ""),
]
_REWRITES = [
    (re.compile(r"(?<=[0-9])(?:\{,\}\s*|,\s*\\!\s*|\\,\s*|\{\\,\})(?=[0-9]{3}(?![0-9]))"), ""),
    (re.compile(r"\\(?:left|right)(?![a-zA-Z])\s*\.?|\\(?:displaystyle|limits)(?![a-zA-Z])|\\!"), ""),
    (re.compile(r"(?<!\\)\\[()\[\]]|\\?\$"), " "),
    (re.compile(r"(?<!\\)\\(?:[ ,;:\n]|quad(?![a-zA-Z])|qquad(?![a-zA-Z]))|~|\s+"), " "),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\frac\s*([0-9a-zA-Z])(?![a-zA-Z])"), r"\\frac{\1}"),
    (re.compile(r"\\frac\s*(\{[^{}]*\})\s*([0-9a-zA-Z])"), r"\\frac\1{\2}"),
    (re.compile(r"\\sqrt\s*([0-9a-zA-Z])"), r"\\sqrt{\1}"),
    (re.compile(r"\\(le|ge|ne)q(?![a-zA-Z])"), r"\\\1"),
    (re.compile(r"<="), r"\\le "),
    (re.compile(r">="), r"\\ge "),
    (re.compile(r"\s!=\s"), r"\\ne "),  # "5!=120" is a factorial
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"\^(-[0-9a-zA-Z])"), r"^{\1}"),
    (re.compile(rf"\\operatorname\s*\{{\s*(?:arc|ar|a)({_TRIGONOMETRIC})\s*\}}"), r"\\arc\1"),
    (re.compile(rf"\\operatorname\s*\{{\s*({_TRIGONOMETRIC}|ln|log)\s*\}}"), r"\\\1"),
    (re.compile(rf"(?<![a-zA-Z\\{{])((?:arc)?{_TRIGONOMETRIC}|ln|log|sqrt|pi)(?![a-zA-Z])"), r"\\\1"),
]
_WORDS = re.compile(rf"(?:{_TEXT_COMMAND}|\\math(?:rm|bf|it|sf))\s*\{{([^{{}}]*)\}}")
_GROUPED = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])[^,(\[]*")
_SPACES = re.compile(
    r"(?<![a-zA-Z0-9]) (?!(?:and|or) )|(?<! and)(?<! or) (?![a-zA-Z0-9])|(?<=[0-9]) (?!(?:and|or) )(?=[a-zA-Z])"
)
_CHOICE = re.compile(r"\(([A-Z])\)")

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


def normalize(answer: str) -> str:
    r"""Return the normal form of an answer; ``normalize(normalize(x)) == normalize(x)``.

    A space stays only between two letters or digits where it may mean something (``1 1/2`` is not ``11/2``), and after
    the comma of a list (``1, 234`` is two numbers, ``1,234`` becomes ``1234``).

    Args:
        answer: An answer as written in a corpus or extracted from a completion.
    """
    previous = None
    while answer != previous:  # ends: a pass only removes characters or puts missing braces, zeros and spaces in
        previous = answer
        answer = _rewrite(answer)
    return answer


def as_rational(normalized: str) -> Fraction | None:
    r"""Return the exact value of a normal form that is a rational number, else None.

    Integers, decimals, ``a/b``, ``\frac{a}{b}``, mixed numbers (``1\frac{1}{2}``, ``1 1/2``), ``1e3`` and
    ``1.5\times10^{3}``. Never by way of a float.

    Args:
        normalized: What `normalize` returned.
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
    return None


def _signed(sign: str | None, magnitude: Fraction) -> Fraction:
    return -magnitude if sign == "-" else magnitude


def _rewrite(answer: str) -> str:
    """Apply every rewriting once."""
    answer = strip_boxes(answer.translate(_CHARACTERS))
    for pattern, replacement in _REWRITES:
        answer = pattern.sub(replacement, answer)
    previous = None
    while answer != previous:
        previous = answer
        for pattern, replacement in _ENDS:
            answer = pattern.sub(replacement, answer.strip())
    answer = re.sub(r"\s+", " ", _WORDS.sub(r" \1 ", answer))
    answer = "=".join(_ungroup(side.strip()) for side in answer.split("="))
    answer = re.sub(r"(?<![0-9])\.(?=[0-9])", "0.", answer)
    answer = re.sub(r"\s*,\s*", ", ", _SPACES.sub("", answer)).strip()
    choice = _CHOICE.fullmatch(answer)
    return choice[1] if choice else answer


def _ungroup(side: str) -> str:
    """Drop the thousands commas of one number; leave lists, pairs and intervals as they are."""
    return side.replace(",", "") if _GROUPED.fullmatch(side) else side
