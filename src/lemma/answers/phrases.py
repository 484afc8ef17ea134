r"""Which words of a text announce its answer.

1. An announcement is "the (final) answer is", "Answer:", "42 is the answer" and their like, with a value or a few words
   (`lemma.answers.sentences`).
2. A conclusion is the last sentence of the text with a number or a formula in it, where "therefore", "thus", "hence" or
   "so" opens it and it leaves no choice among its values.
3. The last of them counts. "The answer is not 42" announces nothing, and takes an earlier 42 back.
"""

import re
from typing import NamedTuple

from lemma.answers.sentences import MAX_LENGTH, announced_value, concluded_value, plain, sentence_at

_MAX_MARKERS = 50  # from the end of the text; bounds the time

_SUBJECT = (
    r"(?:(?:final|correct|right|exact|numerical|overall|desired|required)\s+)?answers?(?:\s+(?:choice|option))?|ans"
    r"|final\s+(?:result|value|solution)|(?:correct|right|best)\s+(?:option|choice)"
)
_ADVERBS = (
    r"(?:\s*,?\s*\b(?:therefore|thus|hence|then|simply|just|indeed|clearly|exactly|approximately|about|roughly|probably|"
    r"still|again|also|equal\s+to|given\s+by)\b,?){0,3}"
)
_NOT = r"(?:\s+(?:(?:definitely|clearly|certainly|simply)\s+)?(?:not|never|neither|no\s+longer)\b|n['’]t\b)"  # noqa: RUF001
_MARKER = re.compile(
    rf"(?<![\w\\])(?P<subject>{_SUBJECT})(?![\w'’-])[*_]{{0,3}}"  # noqa: RUF001
    r"(?:\s*\([^()\n]{1,40}\)|\s+(?:to|of|for|in)\s[^.:;=!?\n$\\]{1,80}?)?"
    rf"(?:\s*(?P<colon>[:：])|{_ADVERBS}\s*="  # noqa: RUF001
    rf"|{_ADVERBS}\s+(?:(?:can|could|would|should|must|will|does|did)(?P<cannot>{_NOT}|not)\s+(?:be|equal)"
    rf"|(?:is|are|was|were|equals?|becomes|(?:must|should|would|will|has\s+to)\s+be|comes\s+out\s+(?:to(?:\s+be)?|as)"
    rf"|turns\s+out\s+to\s+be)(?P<not>{_NOT})?\b{_ADVERBS}:?)"
    r"|(?P<heading>[ \t]*\n)|[ \t]*(?=\$|\\[\[(]))"
    rf"|\b(?:is|are)(?P<not_it>{_NOT})?\s+(?P<it>(?:the|our|my)\s+(?:(?:final|correct|right)\s+)?answers?)\b"
    r"|^[ \t]*\**(?P<letter>A):(?=[^\n]+\s*\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_HYPOTHESIS = re.compile(
    r"\b(?:if|whether|suppose|supposing|assum(?:e|es|ing)|unless|until|doubt|thought|believed|"
    r"not\s+(?:sure|think|true|that)|n['’]t\s+(?:sure|think|believe|know|mean))\b[^.!?\n]*$",  # noqa: RUF001
    re.IGNORECASE,
)
_LINE_START = re.compile(r"(?:^|\n)[#>*_ \t-]*(?:[0-9]{1,2}[.)]\s*)?(?:(?:the|my|our)\s+)?[*_]*$", re.IGNORECASE)
_OPENING = re.compile(r"[\s*_:：>]*")  # noqa: RUF001
_INSTEAD = re.compile(
    r"(?:[^.!?\n]|\.(?=[0-9])){1,60}?\b(?:but|rather)\b(?!\s+not\b)", re.IGNORECASE
)  # "not 41 but 42"
_METHOD = re.compile(
    r"(?:obtained|found|calculated|computed|determined|derived|given|to|by|in|as|between)\b", re.IGNORECASE
)
_CONCLUSION = re.compile(
    r"\b(?:therefore|thus|hence|consequently|accordingly|in\s+conclusion)\b|∴|\\therefore(?![a-zA-Z])"
    r"|(?:^|[,;]\s*(?:and\s+)?|(?-i:\b(?=S)))so\b(?!\s+(?:that|many|much|far|long)\b)",
    re.IGNORECASE,
)
# One of these stands wherever the pattern matches; looking for them first takes a hundredth of the time.
_MARKER_HINTS = ("ans", "final", "option", "choice")
_CONCLUSION_HINTS = ("so", "therefore", "thus", "hence", "consequently", "accordingly", "conclusion", "∴")
_CALCULATION = re.compile(r"<<[^<>\n]{0,200}>>")  # GSM8K's: "48/2 = <<48/2=24>>24"
_BLANKS = re.compile(r"[^\S\n]{2,}")
_EMPTY_LINES = re.compile(r"\n(?:[^\S\n]?\n)+")
_BOUNDARY = re.compile(r"[a-z][.!?]\s|\n")
_VALUE = re.compile(r"[0-9$]|\\[\[(]")


class Announced(NamedTuple):
    """What a text says about its answer.

    Attributes:
        answer: The answer as written; empty where the announcement is cut off or taken back; None where there is none.
        denied: What the text says is not the answer.
    """

    answer: str | None
    denied: frozenset[str]


def announced_answer(text: str) -> Announced:
    """Return the answer that the words of a text announce.

    Args:
        text: A text of any length; the time is linear in it.
    """
    text = _EMPTY_LINES.sub(
        "\n\n", _BLANKS.sub(" ", _CALCULATION.sub("", text))
    )  # long runs would make the patterns below slow
    position, answer, denied = _last_announcement(text)
    concluded = _conclusion(text, position)
    return Announced(concluded if concluded is not None and concluded not in denied else answer, frozenset(denied))


def _last_announcement(text: str) -> tuple[int, str | None, set[str]]:
    """Return where the last announcement is, what it announces, and what is denied after it."""
    denied: set[str] = set()
    void = -1
    lowered = text.lower()
    # Without any of these only an "A:" that opens the last line can be a marker.
    start = 0 if any(hint in lowered for hint in _MARKER_HINTS) else text.rfind("\n", 0, len(text.rstrip())) + 1
    for marker in reversed(list(_MARKER.finditer(text, start))[-_MAX_MARKERS:]):
        before = text[max(marker.start() - 200, 0) : marker.start()]
        if _HYPOTHESIS.search(before):
            continue
        if marker["it"]:
            value, negated = _subject_value(before), bool(marker["not_it"])
        else:
            start, negated = marker.end(), bool(marker["not"] or marker["cannot"])
            if negated and (correction := _INSTEAD.match(text, start)):
                start, negated = correction.end(), False
            if not text[start:].strip(" \t\n*_:"):
                void = max(void, start)
                continue
            value = _complement(text, marker, before, start)
        if negated and value:
            denied.add(value)
        elif value:
            return (marker.end(), "" if value in denied else value, denied)
    return (void, "", denied) if void >= 0 else (-1, None, denied)


def _complement(text: str, marker: re.Match[str], before: str, start: int) -> str | None:
    """Return the answer that stands after a marker, or None if what stands there is none."""
    if (marker["heading"] or not marker[0].strip(" \t\n")) and not _LINE_START.search(before):
        return None
    start = _OPENING.match(text, start).end()
    sentence, end, mark = sentence_at(text, start)
    if "?" in mark:
        return None
    by_verb = not (marker["colon"] or marker["heading"] or marker["letter"])
    is_last = not _VALUE.search(text, end)
    if (value := announced_value(sentence)) is not None:
        answer, alone = value
        # After "Answer:" the working may begin: what is not the whole sentence must be the last.
        return answer if by_verb or alone or is_last else None
    return concluded_value(sentence) if is_last and not marker["letter"] and not _METHOD.match(sentence) else None


def _subject_value(before: str) -> str | None:
    """Return the 42 of "So 42 is the answer"."""
    clause = re.split(r"[.!?]\s|\n|\b(?:so|thus|therefore|hence|then|and|that),?\s", before, flags=re.IGNORECASE)[-1]
    value = announced_value(clause) if _VALUE.search(clause) else None
    return value[0] if value and value[1] else None


def _conclusion(text: str, after: int) -> str | None:
    """Return what the last sentence with a value in it concludes, if it stands after that position."""
    start = max(len(text) - MAX_LENGTH, 0)
    if start and (boundary := _BOUNDARY.search(text, start)):
        start = boundary.end()
    lowered = text[start:].lower()
    if not any(hint in lowered for hint in _CONCLUSION_HINTS):
        return None
    if "$" not in lowered and "\\" not in lowered:
        start = _last_line_of_digits(text, start)
    last = None
    while start < len(text):
        sentence, end, mark = sentence_at(text, start)
        if _VALUE.search(sentence):
            last = (start, sentence, mark)
        start = max(end, start + 1)
    if last is None or last[0] < after or "?" in last[2]:
        return None
    offset = len(last[1]) - len(last[1].lstrip(" \t\n*_#>"))
    sentence = last[1][offset:]
    starts = [match.end() for match in _CONCLUSION.finditer(sentence)]
    for begin in reversed(starts):
        if _VALUE.search(sentence, begin):
            return concluded_value(plain(sentence[begin:]))
    return None


def _last_line_of_digits(text: str, start: int) -> int:
    """Return where the last line with a digit begins, or an earlier one whose sentence may run on into it.

    Only of a text without formulas: a sentence ends with its line there, but for a colon or a comma.
    """
    end = len(text)
    while end > start and not text[end - 1].isdecimal():
        end -= 1
    while (newline := text.rfind("\n", start, end)) >= 0:
        if not text[start:newline].rstrip().endswith((":", ",")):
            return newline + 1
        end = newline
    return start
