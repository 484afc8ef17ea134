r"""Decides what the signs of a text mean where an equation may stand: numbers, operators, brackets, words, ends.

Only lines with an equals sign are cut into tokens. Currency signs and LaTeX's delimiters and spaces say nothing here, a
list's bullets and the numbers of its items are dropped, and a line that begins with an equals sign goes on with the one
before it. The time is linear in the text's length.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_TEXT = 100_000
"""Characters of a text that are read; what comes after is left out."""


class Token(NamedTuple):
    """A piece of a line.

    Attributes:
        kind: ``number``, ``operator``, ``percent``, ``frac``, ``open``, ``close``, ``equals``, ``word``, ``end`` (of a
            sentence or clause: what stands on its two sides is not one expression) or ``other`` (a variable's index, a
            root, …: nothing that is read here).
        text: As written, but operators as ``+ - * / ^`` and numbers without commas.
        glued: Whether it touches the token before it.
    """

    kind: str
    text: str
    glued: bool


_SIGNS = str.maketrans({
    "\N{MINUS SIGN}": "-", "\N{MULTIPLICATION SIGN}": "*", "\N{DOT OPERATOR}": "*", "\N{MIDDLE DOT}": "*",
    "\N{ASTERISK OPERATOR}": "*", "\N{DIVISION SIGN}": "/", "\N{SUPERSCRIPT TWO}": "^2", "\N{SUPERSCRIPT THREE}": "^3",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{NO-BREAK SPACE}": " ", "\r": "\n",
})  # fmt: skip
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]{0,200})\}")
_BULLET = re.compile(r"^[ \t]{0,20}(?:[-*+•]|\d{1,3}[.)])[ \t]+", re.MULTILINE)
_CONTINUED = re.compile(r"(?:\\\\|\n)[ \t]{0,20}\n?[ \t]{0,20}&?[ \t]{0,20}=(?![=>])")
_BROKEN = re.compile(r"([+*/]|\\cdot|\\times)[ \t]{0,20}\n")
_SHORT_FRACTION = re.compile(r"(\\[dtc]?frac)\s?(\d)")
_SHORT_DENOMINATOR = re.compile(r"(\\[dtc]?frac\{[^{}]{1,40}\})\s?(\d)")
_REWRITTEN = (
    (_TEXT_COMMAND, r" \1 "),
    (_SHORT_FRACTION, r"\1{\2}"),
    (_SHORT_DENOMINATOR, r"\1{\2}"),
    (_BULLET, ""),
    (_CONTINUED, " = "),
    (_BROKEN, r"\1 "),
)
_ANNOTATION = re.compile(r"<<([^<>\n]{1,500})>>")

_TOKEN = re.compile(
    r"""
    (?P<skip>\s+|\\?[$€£]|[&~]|\\[,;:!\ ()]|\\(?:left|right|[bB]igg?[lr]?|boxed|displaystyle)(?![a-zA-Z])
        |(?<![\w)])\*\*|\*\*(?![\w(]))
    |(?P<number>\d{1,3}(?:(?:,|\{,\}|,\\!)\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)
    |(?P<frac>\\[dtc]?frac(?![a-zA-Z]))
    |(?P<operator>\*\*|[-+*/^]|\\(?:times|cdot|ast|div)(?![a-zA-Z]))
    |(?P<end>[<>!:]=|=[<>]|[<>≤≥≠≈→⇒]|[,;?"`\n]|\.(?!\.)|:(?!\d)|\\[\[\]\\]
        |\\(?:begin|end)\s?\{[a-zA-Z*]{1,20}\}|\\(?:approx|neq?|leq?|geq?|to|implies|iff|q?quad|(?:Long|long)?(?:R|r)ightarrow)(?![a-zA-Z]))
    |(?P<equals>==?)
    |(?P<percent>\\?%)
    |(?P<open>[(\[{])
    |(?P<close>[)\]}])
    |(?P<word>[^\W\d_]+(?:'[^\W\d_]+)?)
    |(?P<other>\\[a-zA-Z]+|\.+|.)
    """,
    re.VERBOSE,
)
_OPERATORS = {"**": "^", r"\times": "*", r"\cdot": "*", r"\ast": "*", r"\div": "/"}
_SEPARATORS = re.compile(r",\\!|\{,\}|,")


def split_annotations(text: str) -> tuple[str, list[str]]:
    """Return a text without its calculator annotations (``<<48/2=24>>``), and what stands in them, in order."""
    text = text[:MAX_TEXT]
    return _ANNOTATION.sub("", text), _ANNOTATION.findall(text)


def equation_lines(text: str) -> Iterator[list[Token]]:
    """Yield the tokens of each line that holds an equals sign."""
    text = text[:MAX_TEXT].translate(_SIGNS)
    for pattern, replacement in _REWRITTEN:
        text = pattern.sub(replacement, text)
    for line in text.split("\n"):
        if "=" in line:
            yield tokens(line)


def tokens(line: str) -> list[Token]:
    """Return the tokens of a line."""
    found: list[Token] = []
    end = -1
    for match in _TOKEN.finditer(line):
        kind, text = match.lastgroup, match[0]
        if kind == "skip":
            continue
        if kind == "number":
            text = _SEPARATORS.sub("", text)
        found.append(Token(kind, _OPERATORS.get(text, text), match.start() == end))
        end = match.end()
    return found
