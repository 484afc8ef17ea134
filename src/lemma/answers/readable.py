"""Whether a gold answer is an answer: whether some reading can be made of it, with which a prediction is compared."""

import re
from collections.abc import Iterator

from lemma.answers import words
from lemma.answers.equivalence import unreadable
from lemma.answers.expressions import parse
from lemma.answers.normalize import normalize
from lemma.answers.numbers import as_rational
from lemma.answers.structure import Answer, read
from lemma.answers.units import split_unit
from lemma.types import Verdict

_PLAIN_TEXT = re.compile(r"[\w .,:'-]*\w[\w .,:'-]*")  # "room 4B": compared as it is


def readable(gold: str) -> bool | None:
    """Return whether a gold answer can be read, None where that takes Math-Verify's parser. Takes microseconds.

    Args:
        gold: A gold answer of a corpus.
    """
    if unreadable(gold) is not None:
        return False
    form = normalize(gold).removeprefix(r"\approx").strip()
    if words.choice(form) or words.moment(form) or words.phrase(form, marked=True) or _PLAIN_TEXT.fullmatch(form):
        return True
    return True if all(_is_read(leaf.text) for leaf in _leaves(read(form))) else None


def symbolically_readable(gold: str) -> bool:
    """Return whether Math-Verify's parser reads a gold answer that `readable` left undecided.

    It has no time limit: call it in a process that can be killed.

    Args:
        gold: A gold answer of a corpus.
    """
    from lemma.answers.symbolic import math_verify_verdict

    form = normalize(gold)
    return math_verify_verdict(form, form) != Verdict.UNPARSEABLE


def _leaves(answer: Answer) -> Iterator[Answer]:
    if not answer.items:
        yield answer
    for item in answer.items:
        yield from _leaves(item)


def _is_read(text: str) -> bool:
    value, _ = split_unit(text)
    return as_rational(value) is not None or parse(value) is not None or words.phrase(text, marked=True) is not None
