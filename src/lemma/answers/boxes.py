r"""Where ``\boxed{…}`` begins and ends in a LaTeX text."""

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"(?P<box>\\(?:boxed|fbox)(?![a-zA-Z]))(?:\s*(?P<open>\{)|\s*(?P<bare>-?[0-9][0-9.,/]*|[a-zA-Z](?![a-zA-Z])))?"
    r"|\\."
    r"|[{}]",
    re.DOTALL,
)

_SEPARATOR = re.compile(
    r"(?:[\s$,;]|\\[()\[\],; ]|\\q?quad(?![a-zA-Z])|\\text\s*\{\s*(?:and|or|,)\s*\}|\b(?:and|or)\b){0,20}"
)


class _Box(NamedTuple):
    """Character offsets of a box: of the whole, and of what is inside."""

    start: int
    inner_start: int
    inner_end: int
    end: int


def last_boxed(text: str) -> str | None:
    r"""Return what the last balanced ``\boxed{}`` or ``\fbox{}`` holds.

    Braces nest and ``\{`` is no brace; ``\boxed 5`` without braces counts. Of boxes inside one another the outermost is
    taken, with the inner markers removed. A box that never closes is none.

    Args:
        text: A LaTeX text of any length; the time is linear in it.

    Returns:
        The content, stripped of outer blanks and possibly empty, or None where the text has no balanced box.
    """
    boxes = last_boxes(text)
    return boxes[-1] if boxes else None


def last_boxes(text: str) -> list[str]:
    r"""Return the contents of the last boxes that stand side by side, each once, in order.

    ``\boxed{4}`` or ``\boxed{1}, \boxed{2} and \boxed{3}``: several boxes with nothing but separators between them are
    one answer, a list, of which the last box alone would be a guess.

    Args:
        text: A LaTeX text of any length; the time is linear in it.

    Returns:
        The contents, possibly empty strings; an empty list where the text has no balanced box.
    """
    contents: list[str] = []
    following: _Box | None = None
    for box in reversed(_boxes(text)):
        if following is not None and box.end > following.start:
            continue  # inside the box that follows
        if following is not None and not _SEPARATOR.fullmatch(text, box.end, following.start):
            break
        contents.append(strip_boxes(text[box.inner_start : box.inner_end]).strip())
        following = box
    return list(dict.fromkeys(reversed(contents)))


def strip_boxes(text: str) -> str:
    r"""Return ``text`` with each ``\boxed{X}`` replaced by ``X``.

    Args:
        text: A LaTeX text of any length; the time is linear in it.
    """
    cuts = sorted(cut for box in _boxes(text) for cut in ((box.start, box.inner_start), (box.inner_end, box.end)))
    pieces, position = [], 0
    for start, end in cuts:
        pieces.append(text[position:start])
        position = end
    return "".join(pieces) + text[position:]


def _boxes(text: str) -> list[_Box]:
    """Return every balanced box in the order of their ends, found in one pass with a stack of open braces."""
    if "\\boxed" not in text and "\\fbox" not in text:
        return []
    boxes: list[_Box] = []
    open_braces: list[tuple[int, int] | None] = []  # (start, inner start) of a box, None for any other brace
    for token in _TOKEN.finditer(text):
        if token["open"]:
            open_braces.append((token.start(), token.end()))
        elif token["bare"]:
            inner_end = token.start("bare") + len(token["bare"].rstrip(".,"))
            boxes.append(_Box(token.start(), token.start("bare"), inner_end, inner_end))
        elif token[0] == "{":
            open_braces.append(None)
        elif token[0] == "}" and open_braces:
            opened = open_braces.pop()
            if opened is not None:
                boxes.append(_Box(*opened, token.start(), token.end()))
    return boxes
