r"""Where the answer is in a text.

The strategies, from the most to the least trusted; the first that finds its marker decides:

1. ``boxed``: the last balanced ``\boxed{}``, or the last list of them (``\boxed{1}, \boxed{2}``); not one that stands
   before the last ``<answer>…</answer>``, where it belongs to the reasoning.
2. ``answer_tag``: the last ``<answer>…</answer>``.
3. ``hashes``: the rest of the line after the last ``####`` that is no heading.
4. ``phrase``: what the words of the text announce (`lemma.answers.phrases`): "the answer is 42", "Therefore, … = 42."
5. ``math``: the last formula, if it holds the last number or stands after it; or the whole text, if an expression.
6. ``number``: the last number, currency amount or percentage.

The last two are guesses, for flexible mode only. A marker with nothing in it is no answer, and the less trusted
strategies are then not asked; nor is taken by any of them what the text says is not the answer. After a number in a tag
or behind ``####``, a mere noun is dropped (``18 eggs``).
"""

import re
from dataclasses import dataclass

from lemma.answers.boxes import last_boxes
from lemma.answers.mentions import last_mention
from lemma.answers.phrases import announced_answer
from lemma.answers.sentences import announced_value, plain, without_noun

FLEXIBLE_STRATEGIES = frozenset({"math", "number"})
"""The strategies that guess: nothing in the text says that what they take is its answer."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """An answer found in a text.

    Attributes:
        answer: The answer as written, without its marker.
        strategy: ``boxed``, ``answer_tag``, ``hashes``, ``phrase``, ``math`` or ``number``.
    """

    answer: str
    strategy: str

    @property
    def strict(self) -> bool:
        """Whether the text itself says that this is its answer; False for the guesses of flexible mode."""
        return self.strategy not in FLEXIBLE_STRATEGIES


_END_OF_TURN = re.compile(
    r"<\|(?:im_end|im_start\|>user|endoftext|end_of_text|eot_id|end)\|?>?|<end_of_turn>|</s>\s*\Z"
)
_THINK_END = re.compile(r".*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_THINK_START = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_TAG = re.compile(r"<(?P<close>/)?answer(?(close)\s?|(?:\s[^<>]{0,200})?)>", re.IGNORECASE)
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_PROSE = re.compile(
    r"(?<![a-zA-Z\\])(?!(?:sqrt|sin|cos|tan|log|ln|exp|pi)(?![a-zA-Z]))[a-zA-Z]{2,}|(?!π)[^\W\d_a-zA-Z]|\$|\\[\[(]|\n"
)
_MAX_EXPRESSION = 200  # characters
_MAX_HASHES = 50  # from the end of the text; bounds the time


def extract_answer(text: str) -> Extraction | None:
    """Return the final answer of a text, or None where it has none.

    If the text holds ``</think>`` only what follows the last one counts, and nothing counts from a ``<think>`` on that
    never closes, nor from a token on that ends the turn. The time is linear in the length of the text.

    Args:
        text: A completion or a worked solution.

    Returns:
        The answer and the strategy that found it.
    """
    text = _spoken(text)
    if (marked := _marked(text)) is not None:
        return Extraction(*marked) if marked[0] else None
    announced = announced_answer(text)
    if announced.answer is not None:
        return Extraction(announced.answer, "phrase") if announced.answer else None
    guess = _whole_expression(text) or last_mention(text)
    return Extraction(*guess) if guess and guess[0] not in announced.denied else None


def _marked(text: str) -> tuple[str, str] | None:
    """Return what stands in the most trusted marker, possibly nothing, and its strategy."""
    content, rest = _last_tag(text)
    for part in (rest, content or ""):
        if (boxed := _boxed(part)) is not None:
            return boxed, "boxed"
    if content is not None:
        return _stated(content), "answer_tag"
    hashes = _after_hashes(text)
    return None if hashes is None else (hashes, "hashes")


def _whole_expression(text: str) -> tuple[str, str] | None:
    """Return a text that is nothing but an expression (``-1 + sqrt(3)``), unless it is a number."""
    text = text.strip()
    if len(text) > _MAX_EXPRESSION or _PROSE.search(text) or not re.search("[0-9]", text):
        return None
    return None if last_mention(text) == (text, "number") else (text, "math")


def _spoken(text: str) -> str:
    """Return what the text says to its reader: after the reasoning, before the end of the turn."""
    text = _END_OF_TURN.split(text, maxsplit=1)[0]
    end = _THINK_END.match(text)
    return _THINK_START.split(text[end.end() :] if end else text, maxsplit=1)[0]


def _boxed(text: str) -> str | None:
    boxes = last_boxes(text)
    return ", ".join(filter(None, boxes)) if boxes else None


def _last_tag(text: str) -> tuple[str | None, str]:
    """Return what the last complete tag holds, and what follows it; (None, the text) where there is none.

    One that never closes (the length limit cut it) is none.
    """
    opening, last = None, (None, text)
    for tag in _TAG.finditer(text):
        if not tag["close"]:
            opening = tag
        elif opening is not None:
            opening, last = None, (text[opening.end() : tag.start()], text[tag.end() :])
    return last


def _after_hashes(text: str) -> str | None:
    """Return the rest of the line after the last ``####`` that is no heading: a value, or the last line."""
    for line in reversed(list(_HASHES.finditer(text))[-_MAX_HASHES:]):
        content = line[1].strip(" \t\r#")
        if not text[line.end() :].strip() or not content:
            return _stated(content)
        value = announced_value(content)
        if value is not None and value[1] and re.search("[0-9$]|^.$", value[0]):
            return value[0]
    return None


def _stated(content: str) -> str:
    """Return the answer of a marked text that may be a sentence ("The answer is 42", "18 eggs")."""
    content = plain(content)
    if hashes := _HASHES.search(content):
        content = plain(hashes[1])
    announced = announced_answer(content).answer
    if announced:
        return announced
    return without_noun(content)
