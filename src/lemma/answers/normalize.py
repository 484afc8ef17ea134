r"""The normal form of an answer: one spelling for each way of writing the same thing.

Normalising is conservative: it removes what never changes an answer (dollar signs around mathematics, ``\left``,
thousands separators, a final period) and rewrites spellings of one thing to one spelling (``\dfrac12`` to
``\frac{1}{2}``, ``5 cm`` to ``5\text{cm}``). It computes nothing. What depends on the other side of a comparison
(``x=`` in front, units, ``%``) is the business of `lemma.answers.equivalence`.
"""

import re
import unicodedata
from functools import lru_cache

from lemma.answers.boxes import strip_boxes
from lemma.answers.numbers import as_rational
from lemma.answers.units import BARE_UNIT, is_unit_word

__all__ = ["MAX_LENGTH", "as_rational", "normalize"]

MAX_LENGTH = 2000  # characters; what is longer is no answer and only loses its outer blanks

_CHARACTERS = {
    "−": "-",  # noqa: RUF001 (the minus sign)
    "–": "-",  # noqa: RUF001 (the en dash)
    "×": r"\times ",  # noqa: RUF001
    "÷": r"\div ",
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "π": r"\pi ",
    "θ": r"\theta ",
    "∞": r"\infty ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "±": r"\pm ",
    "∈": r"\in ",
    "∪": r"\cup ",  # noqa: RUF001
    "∩": r"\cap ",
    "∖": r"\setminus ",  # noqa: RUF001
    "∅": r"\emptyset ",
    "ℝ": r"\mathbb{R}",  # noqa: RUF001
    "√": r"\sqrt ",
    "°": r"^\circ ",
    "′": "'",  # noqa: RUF001
    "″": "''",
    "’": "'",  # noqa: RUF001
    "¢": r"\text{cents}",
    "€": "€",
    "£": "£",
    "⟨": r"\langle ",
    "⟩": r"\rangle ",
    "½": r"\frac{1}{2}",
    "⅓": r"\frac{1}{3}",
    "⅔": r"\frac{2}{3}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    "\u00a0": " ",
    "\u202f": " ",
    "\u2009": " ",
}
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,20})?")
_CURRENCIES = {"€": "euros", "£": "gbp", "¥": "yen", "₹": "rupees", r"\$": "dollars"}

_TEXT_COMMAND = r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mbox|hbox)"
_TRIGONOMETRIC = "(?:sin|cos|tan|cot|sec|csc)h?"
_NUMBER = r"[0-9](?:[0-9.,]*[0-9])?"
_REWRITES = [
    # Thousands and decimal separators
    (re.compile(r"(?<=[0-9])(?:\{,\}\s*|,\s*\\!\s*|\\,\s*|\{\\,\}|\\ )(?=[0-9]{3}(?![0-9]))"), ""),
    (re.compile(r"(?<=[0-9])\{,\}(?=[0-9])"), "."),
    (re.compile(r"(?<![0-9.,])([0-9]{1,3}) (?=[0-9]{3}(?: [0-9]{3})*(?![0-9/]))"), r"\1"),
    # Typography
    (re.compile(r"\\(?:left|right)(?![a-zA-Z])\s*\.?|\\(?:displaystyle|limits|bigl|bigr|big|Big)(?![a-zA-Z])|\\!"), ""),
    (re.compile(r"\\\\(?=[a-zA-Z])"), r"\\"),
    (re.compile(r"(?<!\\)\\[()\[\]]|(?<!\\)\$"), " "),
    (re.compile(r"(?<!\\)\\(?:[ ,;:\n]|quad(?![a-zA-Z])|qquad(?![a-zA-Z]))|~|\s+"), " "),
    (re.compile(r"\\[lr]angle(?=[a-zA-Z])"), r"\g<0> "),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\[dt]binom(?![a-zA-Z])"), r"\\binom"),
    (re.compile(r"\\frac\s*([0-9a-zA-Z])(?![a-zA-Z])"), r"\\frac{\1}"),
    (re.compile(r"\\frac\s*(\{[^{}]*\})\s*([0-9a-zA-Z])"), r"\\frac\1{\2}"),
    (re.compile(r"\\sqrt\s*([0-9a-zA-Z])"), r"\\sqrt{\1}"),
    (re.compile(r"\\(le|ge|ne)q(?![a-zA-Z])q?|\\(le|ge)qslant(?![a-zA-Z])"), r"\\\1\2"),
    (re.compile(r"\\(l|g)t(?![a-zA-Z])"), lambda match: "<" if match[1] == "l" else ">"),
    (re.compile(r"\\not\s*="), r"\\ne "),
    (re.compile(r"<="), r"\\le "),
    (re.compile(r">="), r"\\ge "),
    (re.compile(r"\s!=\s"), r"\\ne "),  # "5!=120" is a factorial
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"\^(-[0-9a-zA-Z])"), r"^{\1}"),
    (re.compile(r"\^\s*\{\s*\\(circ|prime)\s*\}|\^\s*\\(circ|prime)(?![a-zA-Z])"), r"^\\\1\2"),
    (re.compile(r"\^\\prime(?:\\prime)?"), "'"),
    (re.compile(r"\\pmod\s*([0-9a-zA-Z])"), r"\\pmod{\1}"),
    (re.compile(r"\^\\circ\s*(?:\\(?:text|mathrm)\s*\{\s*C\s*\}|C(?![a-zA-Z]))"), r"\\text{celsius}"),
    (re.compile(r"\^\\circ\s*(?:\\(?:text|mathrm)\s*\{\s*F\s*\}|F(?![a-zA-Z]))"), r"\\text{fahrenheit}"),
    (re.compile(r"\\degree(?![a-zA-Z])"), r"^\\circ"),
    (re.compile(r"\\(?:varnothing|empty)(?![a-zA-Z])"), r"\\emptyset"),
    (re.compile(r"\\(?:land|wedge)(?![a-zA-Z])"), " and "),
    (re.compile(r"\\(?:lor|vee)(?![a-zA-Z])"), " or "),
    (re.compile(r"(\\text\{[^{}]*)\}\s*\\text\{"), r"\1 "),
    # Functions
    (re.compile(rf"\\operatorname\*?\s*\{{\s*(?:arc|ar|a)({_TRIGONOMETRIC})\s*\}}"), r"\\arc\1"),
    (
        re.compile(rf"\\(?:operatorname\*?|mathrm|text)\s*\{{\s*({_TRIGONOMETRIC}|ln|log|gcd|lcm)\s*\}}"),
        r"\\\1",
    ),
    (re.compile(rf"(?<![a-zA-Z\\{{])((?:arc)?{_TRIGONOMETRIC}|ln|log|sqrt|pi)(?![a-zA-Z])"), r"\\\1"),
]
_ENDS = re.compile(r"^[\s,;:]+|[\s,;:]+$|(?<!\.)\.$|(?<!\\)\\$")  # "5..." goes on
_DOLLAR = re.compile(r"^(\s*-?)\$(?=\s*-?[0-9])")
_MONEY = re.compile(rf"(\\\$|[€£¥₹])\s*(-?\s*(?:{_NUMBER}|\\frac\{{[^{{}}]*\}}\{{[^{{}}]*\}}))")
_CURRENCY_NAME = re.compile(r"\s*(?:\\text\{)?\s*(?:dollar|cent|euro|yen|rupee|gbp|usd)", re.IGNORECASE)
_SUFFIX = re.compile(r"(?<=[0-9])\s*([€£¥₹]|\\\$)(?![0-9])")
_PERCENT = re.compile(
    rf"(?<=[0-9)}}\]])\s*(?:\\?%|\b(?:percent|percentage|pct)\b|{_TEXT_COMMAND}\s*\{{\s*(?:\\?%|percent|pct)\s*\}})"
)
_BARE_UNIT = re.compile(rf"(?<=[0-9)}}])\s*(?<![_^])\b(?<!\{{)({BARE_UNIT})(?![a-zA-Z{{])")
_COUNTED = re.compile(
    r"(-?[0-9][0-9.,/]*) (?!(?:more|less|fewer|times|plus|minus|base|mod|sin|cos|tan|log|sqrt|factorial)\b)"
    r"((?!(?:and|or|to)\b)[a-z]{3,20}(?: (?!(?:and|or|to)\b)[a-z]{2,20}){0,2})"
)
_COMMAND = re.compile(rf"({_TEXT_COMMAND}|\\math(?:rm|bf|it|sf))\s*\{{([^{{}}]*)\}}")
_LOOKED_BACK = 60  # characters
_SUBSCRIPT = re.compile(r"[_^]\{[^{}]*$")
_JOINING = re.compile(r"\b(?:and|or|not|to|if|when|where|for|as|no|is|are)\b|[,;=<>]")
_GROUPED = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])[^,(\[]*")
_EUROPEAN = re.compile(
    r"([-+]?[0-9]{1,3}(?:\.[0-9]{3})+),([0-9]+)(?![0-9,.])|([-+]?[0-9]{1,3}(?:\.[0-9]{3}){2,})(?![0-9.])"
)
_SPACES = re.compile(
    r"(?<![a-zA-Z0-9]) (?!(?:and|or) )|(?<! and)(?<! or) (?![a-zA-Z0-9])|(?<=[0-9]) (?!(?:and|or) )(?=[a-zA-Z])"
)
_CHOICE = re.compile(r"\(([A-Z])\)")
_BASE = re.compile(r"(?<=[0-9A-F)])_\{ ?([0-9]{1,2}) ?\}")


@lru_cache(maxsize=8192)
def normalize(answer: str) -> str:
    r"""Return the normal form of an answer; ``normalize(normalize(x)) == normalize(x)``.

    A space stays only between two letters or digits where it may mean something (``1 1/2`` is not ``11/2``), and after
    the comma of a list (``1, 234`` is two numbers, ``1,234`` becomes ``1234``).

    Args:
        answer: An answer as written in a corpus or extracted from a completion.
    """
    if len(answer) > MAX_LENGTH:
        return answer.strip()
    if _PLAIN.fullmatch(answer):
        return answer
    for _ in range(_MAX_PASSES):
        previous, answer = answer, _rewrite(answer)
        if answer == previous:
            return answer
    return answer


_MAX_PASSES = 60  # each pass removes characters or puts missing braces, zeros and spaces in; two or three are the rule


def _rewrite(answer: str) -> str:
    """Apply every rewriting once."""
    if not answer.isascii():
        answer = _to_ascii(answer)
    answer = strip_boxes(answer)
    if answer.count("$") % 2:
        answer = _DOLLAR.sub(r"\1\\$", answer)  # "$5": no mathematics begins here, it is money
    in_matrix = "\\begin" in answer
    for pattern, replacement in _REWRITES:
        if in_matrix and pattern.pattern.startswith(r"\\\\"):
            continue  # a row break, not an escaped command
        answer = pattern.sub(replacement, answer)
    previous = None
    while answer != previous:
        previous = answer
        answer = _ENDS.sub("", answer.strip())
    answer = _units(_COMMAND.sub(_text, answer))
    answer = re.sub(r"\s+", " ", answer)
    answer = "=".join(_ungroup(side.strip()) for side in answer.split("="))
    answer = re.sub(r"(?<![0-9])\.(?=[0-9])", "0.", answer)
    answer = _BASE.sub(r"_\1", answer)
    answer = re.sub(r"\s*,\s*", ", ", _SPACES.sub("", answer)).strip()
    choice = _CHOICE.fullmatch(answer)
    return choice[1] if choice else answer


def _to_ascii(answer: str) -> str:
    """Spell out the usual signs, digits of any script and compatibility forms; leave the rest as it is."""
    answer = _SUPERSCRIPTS.sub(lambda m: "^{" + unicodedata.normalize("NFKC", m[0]).replace("−", "-") + "}", answer)  # noqa: RUF001
    answer = "".join(_CHARACTERS.get(character, character) for character in answer)
    answer = "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in answer)
    folded = unicodedata.normalize("NFKC", answer)
    return folded if len(folded) <= 2 * MAX_LENGTH else answer


def _units(answer: str) -> str:
    r"""Bring money, percent signs and bare unit words into the form ``value\text{unit}``."""
    answer = _SUFFIX.sub(lambda match: f"\\text{{{_CURRENCIES[match[1]]}}}", _MONEY.sub(_money, answer))
    if "%" in answer or "pct" in answer or "percent" in answer:
        answer = _PERCENT.sub(r"\\%", answer)
    if counted := _COUNTED.fullmatch(answer):
        return f"{counted[1]}\\text{{{counted[2]}}}"
    return _BARE_UNIT.sub(_bare_unit, answer)


def _bare_unit(match: re.Match) -> str:
    before = match.string[max(0, match.start() - _LOOKED_BACK) : match.start()]
    return match[0] if _SUBSCRIPT.search(before) else f"\\text{{{match[1]}}}"


def _money(match: re.Match) -> str:
    """Put the currency behind the amount, unless it is named there."""
    named = _CURRENCY_NAME.match(match.string, match.end())
    return match[2] if named else f"{match[2]}\\text{{{_CURRENCIES[match[1]]}}}"


def _text(match: re.Match) -> str:
    r"""Keep ``\text{…}`` behind a value, as its unit; elsewhere keep what it holds."""
    command, content = match[1], match[2].strip(" ~.,")
    before = match.string[max(0, match.start() - _LOOKED_BACK) : match.start()].rstrip()
    known = all(is_unit_word(word) for word in re.findall("[a-zA-Z]+", content)) and any(map(str.isalpha, content))
    if (
        not before
        or not content
        or _SUBSCRIPT.search(before)
        or before[-1] in "_^{([,;=<>&"
        or content in ("e", "i", "j")
        or _JOINING.search(content)
    ):
        return f" {match[2]} "
    if not known and (command.startswith("\\math") or any(map(str.isdigit, content))):
        return f" {match[2]} "
    is_unit = before[-1] in "0123456789)}]%" if not known else before[-1] not in "+-*/"
    return f"\\text{{{content}}}" if is_unit and not before.endswith((r"\in", r"\cdot", r"\times")) else f" {match[2]} "


def _ungroup(side: str) -> str:
    """Drop the thousands commas of one number; leave lists, pairs and intervals as they are."""
    if match := _EUROPEAN.match(side):
        number = match[3].replace(".", "") if match[3] else f"{match[1].replace('.', '')}.{match[2]}"
        return number + side[match.end() :]
    return side.replace(",", "") if _GROUPED.fullmatch(side) else side
