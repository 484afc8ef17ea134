r"""Which completions are written in the answer format that the prompt asks for.

The formats are those of `lemma.prompts.formats`: ``tags`` and ``boxed``.
"""

import re
from collections.abc import Callable, Sequence

from lemma.answers import last_boxed
from lemma.rewards.options import expect, is_number

_TAG = re.compile(r"<(?:\s*/)?\s*(?:reasoning|answer)\b[^<>]*>", re.IGNORECASE)
_ORDER = ["<reasoning>", "</reasoning>", "<answer>", "</answer>"]
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
_BRACE = re.compile(r"\\boxed\s*\{")
_ENVIRONMENT_END = re.compile(r"\\end\s*\{[a-zA-Z*]+\}")


def has_tags(text: str) -> bool:
    """Return whether a text is ``<reasoning>…</reasoning><answer>…</answer>`` and nothing else.

    White space may stand around and between the two, and neither may hold nothing but white space. Each tag stands
    once, spelled exactly so: a second one anywhere (nested, duplicated, in capitals, with attributes) is a fault, as a
    grader could read it. The time is linear in the text's length.
    """
    tags = list(_TAG.finditer(text))
    if [tag[0] for tag in tags] != _ORDER:
        return False
    ends = [0, *(tag.end() for tag in tags)]
    starts = [*(tag.start() for tag in tags), len(text)]
    blank = [not text[end:start].strip() for end, start in zip(ends, starts, strict=True)]
    return blank == [True, False, True, False, True]


def ends_in_box(text: str) -> bool:
    r"""Return whether a text has one box, balanced and not empty, ``\boxed{…}``, at its end.

    After the line on which the box closes no letter and no digit may follow, but the end of a formula
    (``\]``, ``\end{align}``). The time is linear in the text's length.
    """
    markers = list(_BOX.finditer(text))
    content = last_boxed(text) if len(markers) == 1 else None
    brace = _BRACE.match(text, markers[0].start()) if content else None
    if not brace:
        return False
    closed = text.index(content, brace.end()) + len(content)
    _, _, after = text[closed:].lstrip().partition("\n")
    return not any(map(str.isalnum, _ENVIRONMENT_END.sub("", after)))


STYLES: dict[str, Callable[[str], bool]] = {"tags": has_tags, "boxed": ends_in_box}
"""Style → whether a completion is written in it."""


def answer_format(
    completions: Sequence[str],
    *,
    style: str = "tags",
    reward: float = 1.0,
    penalty: float = -1.0,
    **columns: object,
) -> list[float | None]:
    r"""Return ``reward`` for each completion that is written in the format, ``penalty`` for each other.

    The format reward of arXiv:2501.12948, section 2.2.2, which has one level; here a fault costs as much as it earns.

    Args:
        completions: N texts.
        style: ``tags`` (exactly ``<reasoning>…</reasoning><answer>…</answer>``, see ``has_tags``) or ``boxed`` (one
            ``\boxed{…}`` at the end, see ``ends_in_box``).
        reward: For the format.
        penalty: For any other.
        columns: Not used.

    Returns:
        N values, 1 or -1 by default.

    Raises:
        InputError: If the style is unknown or a level is no number.
    """
    expect(style in STYLES, "style", f"one of {', '.join(STYLES)}", style)
    for key, value in (("reward", reward), ("penalty", penalty)):
        expect(is_number(value), key, "a number", value)
    return [float(reward if STYLES[style](completion) else penalty) for completion in completions]
