r"""Where the answer is in a text.

The strategies, from the most to the least trusted; the first that finds its marker decides:

1. ``boxed``: the last balanced ``\boxed{}``, or the last list of them (``\boxed{1}, \boxed{2}``).
2. ``answer_tag``: the last ``<answer>…</answer>``.
3. ``hashes``: the rest of the line after the last ``####``.
4. ``math``: a ``$…$``, ``\(…\)`` or ``\[…\]`` that holds the last number of the text or stands after it.
5. ``number``: the last number.

A marker with nothing in it is no answer, and the less trusted strategies are then not asked.
"""

import re
from dataclasses import dataclass

from lemma.answers.boxes import last_boxes


@dataclass(frozen=True, slots=True)
class Extraction:
    """An answer found in a text.

    Attributes:
        answer: The answer as written, without its marker.
        strategy: ``boxed``, ``answer_tag``, ``hashes``, ``math`` or ``number``.
    """

    answer: str
    strategy: str


_MATH = re.compile(
    r"\$\$([^$]+)\$\$"
    r"|\\\[((?:[^\\]|\\(?![\[\]]))+)\\\]"
    r"|\\\(((?:[^\\]|\\(?![()]))+)\\\)"
    r"|(?<![\\$])\$(?=[^\s$])((?:[^$\n\\]|\\[^\n])+)(?<!\s)\$(?![\d$])"  # pandoc's rule keeps "$5 and $6" out
    r"|(?<![\\$])\$(\s*\\[a-zA-Z][^$\n]*)\$"  # but blanks may stand before a command
)
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])(?:\.[0-9]++)?|[0-9]++(?:\.[0-9]++)?|\.[0-9]++)"
_NUMBER = re.compile(
    r"(?<![\w^{\\./])(?<!sqrt\()(?<![0-9]:)(?:(?<![)\]}])-)?\$?"
    rf"(?:\\[dt]?frac\{{-?[0-9]++\}}\{{-?[0-9]++\}}|{_DIGITS}(?:/{_DIGITS})?(?![\^}}]|:[0-9]))(?:\s?\\?%)?"
)


def extract_answer(text: str) -> Extraction | None:
    """Return the final answer of a text, or None where it has none.

    If the text holds ``</think>`` only what follows the last one counts, and nothing counts from a ``<think>`` on that
    never closes. The time is linear in the length of the text.

    Args:
        text: A completion or a worked solution.

    Returns:
        The answer and the strategy that found it.
    """
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    for strategy, find in (("boxed", _boxed), ("answer_tag", _last_tagged), ("hashes", _after_hashes)):
        answer = find(text)
        if answer is not None:
            return Extraction(answer, strategy) if answer else None
    return _last_math_or_number(text)


def _boxed(text: str) -> str | None:
    boxes = last_boxes(text)
    return ", ".join(filter(None, boxes)) if boxes else None


def _last_tagged(text: str) -> str | None:
    before, opening, after = text.rpartition("<answer>")
    answer, closing, _ = after.partition("</answer>")
    if closing:
        return answer.strip()
    # The last tag never closes (the length limit cut it): an earlier complete one still counts.
    return _last_tagged_closed(before) if opening else None


def _last_tagged_closed(text: str) -> str | None:
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return text[start + len("<answer>") : end].strip() if start >= 0 else None


def _after_hashes(text: str) -> str | None:
    _, marker, after = text.rpartition("####")
    return after.lstrip(" \t").split("\n", 1)[0].strip() if marker else None


def _last_math_or_number(text: str) -> Extraction | None:
    number = math = None
    for number in _NUMBER.finditer(text):  # noqa: B007 (the last match is wanted)
        pass
    for math in _MATH.finditer(text):  # noqa: B007
        pass
    if math is not None and (number is None or math.end() > number.start()):
        last, answer, strategy = math, next(group for group in math.groups() if group is not None), "math"
    elif number is not None:
        last, answer, strategy = number, number[0], "number"
    else:
        return None
    # A digit further on belongs to something that is no plain number (2^10, x_3, 12:30): better none than a part of it.
    if re.search("[0-9]", text[last.end() :]) or not answer.strip():
        return None
    return Extraction(answer.strip(), strategy)
