r"""Which formulas and numbers a text mentions, and which of them is last.

A number is taken whole, with its currency, its percent sign and its separators in any convention (``€1.234,56``,
``12{,}000``, ``2 1/2``, ``3:00 p.m.``, ``(1, 2)``); whether it can be read is for the comparison to say. A number that
is part of something larger (``2^10``, ``x_3``, ``sqrt(3)``) is no mention at all: better none than a part of it.
"""

import re

MATH = (
    r"\$\$[^$]+\$\$"
    r"|\\\[(?:[^\\]|\\(?![\[\]]))+\\\]"
    r"|\\\((?:[^\\]|\\(?![()]))+\\\)"
    r"|(?<![\\$])\$(?=[^\s$])(?:[^$\n\\]|\\[^\n])+(?<!\s)\$(?![\d$])"  # pandoc's rule keeps "$5 and $6" out
    r"|(?<![\\$])\$\s*\\[a-zA-Z](?:[^$\n\\]|\\[^\n])*\$"  # but blanks may stand before a command
)
"""Pattern of a formula with its delimiters."""

_SEPARATOR = r"(?:[.,']|\{,\}|\\[,!]|,\\!|[\u00a0\u2009\u202f])"
_PLAIN = rf"[0-9]++(?:{_SEPARATOR}[0-9]++)*+(?:(?<![0-9]{{4}})(?: [0-9]{{3}}(?![0-9])){{1,6}})?+"
_FRACTION = r"\\[dt]?frac\{-?[0-9]++\}\{-?[0-9]++\}|[0-9]++/[0-9]++"
_NUMBER = (
    r"(?:(?<![\w)\]}])[-\u2212])?(?:(?:(?:US)?\\?\$|[€£¥₹])\s?[-\u2212]?)?"
    r"(?:"
    r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?:\s?[aApP](?:\.\s?[mM]\.?|[mM]\b))?(?![0-9])|[0-9]++(?::[0-9]++)+"
    rf"|[0-9]++\s(?:{_FRACTION})|{_FRACTION}"
    rf"|(?:{_PLAIN}|(?<![0-9])\.[0-9]++)(?:[eE][-+]?[0-9]++)?(?:\s?[¼½¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])?(?:/[0-9]++(?:\.[0-9]++)?)?"
    r"|[¼½¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]"
    r")(?:\s?(?:\\?%|percent\b|pct\b|[€£¥₹]))?"
)
_MENTION = re.compile(rf"(?P<math>{MATH})|(?P<number>[(\[]\s?{_NUMBER}(?:\s?,\s?{_NUMBER}){{1,20}}+\s?[)\]]|{_NUMBER})")
_BEFORE_PART = re.compile(r"(?:[\w^{\\./]|sqrt\()$")
_AFTER_PART = re.compile(r"\s?[\^}]|_[0-9{]|:[0-9]")
_ARROW = re.compile(r"(?:\\(?:Longr|R)ightarrow|\\implies|\\iff)(?![a-zA-Z])\s*(?:\\q?quad(?![a-zA-Z])\s*)*(?=[^\s])")
_PERCENT = re.compile(r"\s?(?:\\?%|(?:percent|pct)\b)")
_DENIAL = re.compile(r"(?:\b(?:not|never|neither|nor|cannot)|n['’]t)\s+(?:be\s+|equal\s+(?:to\s+)?)?$", re.IGNORECASE)  # noqa: RUF001
_ALTERNATIVE = re.compile(r"\s*,?\s*(?:\bor\b|\bor\b\s+maybe|\\text\{\s*or\s*\})\s*")


def mentions(text: str) -> list[re.Match[str]]:
    """Return what the text mentions, in order: matches with one of the groups ``math`` and ``number``.

    Args:
        text: A text of any length; the time is linear in it.
    """
    return list(_MENTION.finditer(text))


def is_part(text: str, mention: re.Match[str]) -> bool:
    """Return whether a number is only a part of something larger, such as the 10 of ``2^10``."""
    if mention["number"] is None:
        return False
    before = text[max(mention.start() - 5, 0) : mention.start()]
    return bool(_BEFORE_PART.search(before) or _AFTER_PART.match(text, mention.end()))


def bare_formula(math: str) -> str:
    r"""Return what stands between the delimiters of a formula: what it arrives at, if ``\Rightarrow`` stands in it."""
    width = 2 if math.startswith(("$$", "\\")) else 1
    return _ARROW.split(math[width:-width])[-1].strip().removeprefix("=").strip()


def last_mention(text: str) -> tuple[str, str] | None:
    """Return what flexible mode takes for the answer of a text that does not say what its answer is.

    The last formula if it holds the last number or stands after it, else the last number. Alternatives (``41 or 42``)
    are taken together, and what is denied (``not 42``) is not taken.

    Args:
        text: A text of any length; the time is linear in it.

    Returns:
        The answer and ``math`` or ``number``, or None.
    """
    found = mentions(text)
    if not found or is_part(text, found[-1]):
        return None
    first = last = found[-1]
    for earlier in reversed(found[:-1]):
        if not _ALTERNATIVE.fullmatch(text, earlier.end(), first.start()) or is_part(text, earlier):
            break
        first = earlier
    if _DENIAL.search(text[max(first.start() - 40, 0) : first.start()]):
        return None
    if first is not last:
        return text[first.start() : last.end()].strip(), last.lastgroup
    percent = _PERCENT.match(text, last.end())
    answer = bare_formula(last["math"]) + (percent[0] if percent else "") if last["math"] else last["number"].strip()
    return (answer, last.lastgroup) if answer else None
