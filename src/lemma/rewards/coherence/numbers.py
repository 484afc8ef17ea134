"""Decides which other numbers a word problem gets, so that its worked solution still solves it, and what follows.

The steps of the solution are executed again (`dataflow`). Whole results stay whole, positive ones positive, a
percentage stays below 100, and the numbers of the problem keep their order.
"""

import math
import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from lemma.rewards.coherence.dataflow import Dataflow, Mention, decimal
from lemma.types import Problem

_ATTEMPTS = 200
_MAX_DECIMALS = 2
_SMALLEST = 2  # of a whole number: one apple, two apples


def change_numbers(problem: Problem, flow: Dataflow, draw: random.Random) -> tuple[str, str, str] | None:
    """Return the problem's text with other numbers, the answer that follows, and what changed; None if none was found.

    Args:
        problem: The problem.
        flow: Of ``trace``.
        draw: Decides which numbers; as many as possible change, fewer the longer none fit.
    """
    changeable = flow.changeable
    old = [mention.value for mention in flow.mentions]
    for attempt in range(_ATTEMPTS):
        size = max(1, len(changeable) - attempt * len(changeable) // _ATTEMPTS)
        chosen = draw.sample(changeable, size)
        new = [_drawn(flow.mentions[i], draw) if i in chosen else value for i, value in enumerate(old)]
        if new == old or not _same_order(old, new):
            continue
        results = flow.execute(new)
        if results is None or results[-1] == flow.results[-1]:
            continue
        if all(_same_kind(before, after) for before, after in zip(flow.results, results, strict=True)):
            changes = [
                f"{m.text} -> {_written(m, value)}"
                for m, value in zip(flow.mentions, new, strict=True)
                if m.value != value
            ]
            return _with_numbers(problem.problem, flow.mentions, new), decimal(results[-1]), ", ".join(changes)
    return None


def _drawn(mention: Mention, draw: random.Random) -> Fraction:
    """Return another value between half and twice the old one, as round as it; a percentage stays below 100."""
    unit = Fraction(1, 10 ** len(mention.text.partition(".")[2]))
    for factor in (5, 2, 5, 2, 5, 2):  # 5, 10, 50, 100, …
        if mention.value % (unit * factor) == 0 and mention.value >= 2 * unit * factor:
            unit *= factor
    low = max(math.ceil(mention.value / 2 / unit), math.ceil(_SMALLEST / unit) if unit >= 1 else 1)
    high = math.floor(2 * mention.value / unit)
    if mention.is_percentage and mention.value < 100:
        high = min(high, math.ceil(100 / unit) - 1)
    return unit * draw.randint(low, max(low, high))


def _same_order(old: Sequence[Fraction], new: Sequence[Fraction]) -> bool:
    ranked = sorted(zip(old, new, strict=True))
    return all((a < b) == (x < y) and (a == b) == (x == y) for (a, x), (b, y) in pairwise(ranked))


def _same_kind(before: Fraction, after: Fraction) -> bool:
    """Return whether a result may take the place of another: sign, wholeness, places after the point."""
    if (before > 0, before < 0) != (after > 0, after < 0):
        return False
    if before.denominator == 1:
        return after.denominator == 1
    places = max(_MAX_DECIMALS, len((decimal(before) or "").partition(".")[2]))
    return (after * 10**places).denominator == 1


def _written(mention: Mention, value: Fraction) -> str:
    places = len(mention.text.partition(".")[2])
    text = decimal(value)
    whole, _, digits = text.partition(".")
    whole = f"{int(whole):,}" if "," in mention.text else whole
    return f"{whole}.{digits.ljust(places, '0')}" if places else whole


def _with_numbers(text: str, mentions: Sequence[Mention], values: Sequence[Fraction]) -> str:
    pieces, end = [], 0
    for mention, value in zip(mentions, values, strict=True):
        pieces += [text[end : mention.start], mention.text if value == mention.value else _written(mention, value)]
        end = mention.start + len(mention.text)
    return "".join(pieces) + text[end:]
