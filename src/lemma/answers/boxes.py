r"""Where ``\boxed{…}`` begins and ends in a LaTeX text, and which boxes form one answer."""

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"(?P<box>\\\\?(?:boxed|fbox)(?![a-zA-Z]))"  # with the second backslash of a text that was escaped twice
    r"(?:\s*(?P<open>\{)"
    r"|\s*(?P<bare>-?(?:[0-9][0-9.,/]*|\\[a-zA-Z]+(?:\s?\{[^{}]*\}){1,2}|[a-zA-Z](?![a-zA-Z]))))?"
    r"|\\."
    r"|[{}]",
    re.DOTALL,
)
_NAME = r"(?P<name>[a-zA-Z](?:_(?:[a-zA-Z0-9]|\{[a-zA-Z0-9]{1,5}\}))?(?:\([a-zA-Z]\))?)\s*=\s*"
_BLANK = r"\s|\\[()\[\],;!: ]|\$|\\q?quad(?![a-zA-Z])|~"
_JOINER = re.compile(
    rf"(?P<blank>(?:{_BLANK}){{0,20}})"
    rf"(?P<word>(?:,|;|\\text\s*\{{\s*,?\s*(?:and|or|,)\s*\}}|\b(?:and|or)\b|\\(?:lor|land|vee)(?![a-zA-Z])|{_BLANK}){{0,20}})"
    rf"(?:{_NAME}(?:\\[(\[]|\$|\s){{0,3}})?"
)
_LABEL = re.compile(rf"(?<![a-zA-Z\\]){_NAME}$")


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
    boxes = _outermost(text)
    return _content(text, boxes[-1]) if boxes else None


def last_boxes(text: str) -> list[str]:
    r"""Return the contents of the last boxes that form one answer, each once, in order.

    ``\boxed{4}`` or ``\boxed{1}, \boxed{2} and \boxed{3}``: several boxes joined by nothing but commas, "and" or "or",
    or side by side on one line, are one answer, a list, of which the last box alone would be a guess. So are those
    with names between them (``x = \boxed{1}, y = \boxed{2}``); if the names differ, the contents bear them. Whatever
    else stands between two boxes, a new line alone included, leaves the word to the last.

    Args:
        text: A LaTeX text of any length; the time is linear in it.

    Returns:
        The contents, possibly empty strings; an empty list where the text has no balanced box.
    """
    boxes = _outermost(text)
    first = len(boxes) - 1
    while first > 0 and _joined(text, boxes[first - 1], boxes[first]):
        first -= 1
    boxes = boxes[max(first, 0) :]
    contents = [_content(text, box) for box in boxes]
    names = [_name(text, box) for box in boxes] if len(boxes) > 1 else []
    if len(set(names)) > 1 and all(names):
        contents = [f"{name} = {content}" for name, content in zip(names, contents, strict=True)]
    return list(dict.fromkeys(contents))


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


def _content(text: str, box: _Box) -> str:
    return strip_boxes(text[box.inner_start : box.inner_end]).strip()


def _joined(text: str, left: _Box, right: _Box) -> bool:
    """Return whether two boxes are parts of one list."""
    if right.start - left.end > 200 or not (joiner := _JOINER.fullmatch(text, left.end, right.start)):
        return False
    return bool(joiner["word"].strip("$ \t\n") or "\n" not in joiner["blank"])


def _name(text: str, box: _Box) -> str | None:
    r"""Return the ``x`` of ``x = \boxed{1}``."""
    label = _LABEL.search(re.sub(r"(?:\\[(\[]|\$|\s)+$", "", text[max(box.start - 30, 0) : box.start]))
    return label["name"] if label else None


def _outermost(text: str) -> list[_Box]:
    """Return the balanced boxes that are inside no other, in order."""
    boxes: list[_Box] = []
    for box in reversed(_boxes(text)):
        if not boxes or box.end <= boxes[-1].start:
            boxes.append(box)
    return boxes[::-1]


def _boxes(text: str) -> list[_Box]:
    """Return every balanced box in the order of their ends, found in one pass with a stack of open braces."""
    starts = [start for marker in ("\\boxed", "\\fbox") if (start := text.find(marker)) >= 0]
    if not starts:
        return []
    start = len(text[: min(starts)].rstrip("\\"))  # no brace before it is of any box
    boxes: list[_Box] = []
    open_braces: list[tuple[int, int] | None] = []  # (start, inner start) of a box, None for any other brace
    for token in _TOKEN.finditer(text, start):
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
