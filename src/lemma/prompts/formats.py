r"""Answer formats: how a worked solution and its answer are written as one completion, and turned into another format.

``boxed`` is MATH's own (``\boxed{42}``), ``gsm8k`` is GSM8K's own (``#### 42``), ``tags`` is
``<reasoning>…</reasoning><answer>…</answer>``, as reasoning models are often trained to write.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from lemma.answers import Extraction, extract_answer, strip_boxes
from lemma.types import InputError


def render_boxed(solution: str, answer: str) -> str:
    r"""Return the solution if a grader reads the answer from its box already, else append ``\boxed{answer}``."""
    if (extraction := extract_answer(solution)) and extraction == Extraction(answer, "boxed"):
        return solution
    return _join(strip_boxes(solution), _closing_line(answer))


def render_gsm8k(solution: str, answer: str) -> str:
    """Return the solution without boxes, then ``#### answer`` on a line of its own, to which line breaks give way."""
    return _join(strip_boxes(solution), f"#### {_LINE_BREAK.sub(' ', answer)}")


def render_tags(solution: str, answer: str) -> str:
    """Return the solution in ``<reasoning>`` tags and the answer in ``<answer>`` tags."""
    return f"<reasoning>\n{strip_boxes(solution)}\n</reasoning>\n<answer>\n{answer}\n</answer>"


def _closing_line(answer: str) -> str:
    return rf"The answer is \boxed{{{answer}}}."


def _join(solution: str, ending: str) -> str:
    return f"{solution}\n{ending}" if solution else ending


ANSWER_FORMATS: dict[str, Callable[[str, str], str]] = {
    "boxed": render_boxed,
    "gsm8k": render_gsm8k,
    "tags": render_tags,
}
"""Format name → function of (solution, answer) that renders a completion."""


def convert_format(text: str, source: str, target: str) -> str | None:
    r"""Return a finished completion in another answer format, so that tools that expect that one can score it.

    The answer is that of the source's own marker, whatever other markers the text has; of them only the words stay, as
    another tool might read them first. All else is kept, and what was written after the answer stands before it. A
    completion that was converted reads the same after a way there and back.

    Args:
        text: A completion without special tokens.
        source: The format that it is in: ``boxed``, ``gsm8k`` or ``tags``.
        target: The format to write; if it is ``source``, the text comes back as it is.

    Returns:
        The completion, or None where the text has no answer in the source format, or one that the target cannot hold
        (an unbalanced brace in a box).

    Raises:
        InputError: If a format is unknown.
    """
    for name, value in (("source", source), ("target", target)):
        if value not in ANSWER_FORMATS:
            raise InputError(f"Expected `{name}` to be one of {', '.join(ANSWER_FORMATS)}, but got {value!r}.")
    parts = _READERS[source](text)
    if parts is None or source == target:
        return None if parts is None else text
    answer = _LINE_BREAK.sub(" ", parts.answer) if target == "gsm8k" else parts.answer
    converted = ANSWER_FORMATS[target](parts.reasoning, answer)
    written = _READERS[target](converted)
    return converted if written is not None and written.answer == answer else None


class _Parts(NamedTuple):
    """A completion without its marker."""

    reasoning: str
    answer: str


_LINE_BREAK = re.compile(r"\s*\n\s*")
_HASHES = re.compile(r"\n?####(?P<answer>[^\n]*)")
_VALUE = re.compile(r"[-+$\\(.0-9]\S*")
_ANSWER_TAG = re.compile(r"</?answer>", re.IGNORECASE)
_TAGGED = re.compile(r"\n?<answer>(?P<answer>(?:(?!</?answer>).)*)</answer>", re.DOTALL | re.IGNORECASE)
_MARKS = re.compile(r"<reasoning>\n?|\n?</reasoning>|</?answer>|####[ \t]*(?=[-+$]*[0-9.,])", re.IGNORECASE)


def _read_boxed(text: str) -> _Parts | None:
    extraction = extract_answer(_ANSWER_TAG.sub("", text))  # in which a box could lose to what the tag holds
    if extraction is None or extraction.strategy != "boxed":
        return None
    ending = _closing_line(extraction.answer)
    if f"\n{text.rstrip()}".endswith(f"\n{ending}"):
        text = text.rstrip().removesuffix(ending).removesuffix("\n")
    return _Parts(_words(text), extraction.answer)


def _read_gsm8k(text: str) -> _Parts | None:
    for marker in reversed(list(_HASHES.finditer(text))):
        answer = strip_boxes(marker["answer"]).strip(" \t\r#")
        last = not text[marker.end() :].strip()
        if answer and (last or _VALUE.fullmatch(answer)):  # any other is a heading
            return _Parts(_around(text, marker), answer)
        if last:
            return None
    return None


def _read_tags(text: str) -> _Parts | None:
    markers = list(_TAGGED.finditer(text))
    answer = strip_boxes(markers[-1]["answer"]).strip() if markers else ""
    return _Parts(_around(text, markers[-1]), answer) if answer else None


def _around(text: str, marker: re.Match[str]) -> str:
    """Return the words before and after a marker."""
    before, after = _words(text[: marker.start()]), _words(text[marker.end() :]).strip()
    return _join(before, after) if after else before


def _words(text: str) -> str:
    """Return a text without the markers of any format, those included that come to light as others go."""
    while (words := _MARKS.sub("", strip_boxes(text))) != text:
        text = words
    return text


_READERS: dict[str, Callable[[str], _Parts | None]] = {
    "boxed": _read_boxed,
    "gsm8k": _read_gsm8k,
    "tags": _read_tags,
}
