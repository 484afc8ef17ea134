"""Decides which equations a text states, and which of them are true.

1. A line is cut at its equals signs. What stands directly before one is its left side, as far back as it is an
   expression (prose may stand before it); what stands directly behind it is its right side, as far as it is one.
2. A chain ``a + b = c = d`` is thus the equations ``a + b = c`` and ``c = d``; in ``x = a + b = c``, the first has a
   variable and only the second counts.
3. An equation counts if both sides have a value and one of them is a calculation: ``Day 1 = 5`` states nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from lemma.rewards.coherence.exact import UnreadableError, Value
from lemma.rewards.coherence.expressions import MAX_TOKENS, MAX_UNIT, SPELLED, is_times, read_expression, singular
from lemma.rewards.coherence.tokens import Token, equation_lines, split_annotations, tokens

_OPERANDS = ("number", "close", "percent")
_WORDS_OF_A_LETTER = frozenset("aAI")


@dataclass(frozen=True, slots=True)
class Equation:
    """An equation between two numbers.

    Attributes:
        form: The same for the same equation written otherwise: sides, sums and products in another order.
        left: Value of the left side.
        right: Value of the right side.
        holds: Whether it is true, see ``holds``; None where that cannot be said.
    """

    form: str
    left: Fraction
    right: Fraction
    holds: bool | None


@dataclass(frozen=True, slots=True)
class Path:
    """What a text calculates.

    Attributes:
        equations: Those that count, in order; those of calculator annotations that the text does not state come last.
        results: Value of the right side of each equals sign that has one, variables or not on the left.
    """

    equations: tuple[Equation, ...]
    results: tuple[Fraction, ...]

    @property
    def items(self) -> Counter[str]:
        """Return the multiset of results and equations."""
        return Counter([*map(str, self.results), *(equation.form for equation in self.equations)])


class Statement(NamedTuple):
    """What stands around an equals sign.

    Attributes:
        left: Value of the left side, None where it has none.
        tokens: The left side, if it has a value.
        right: Value of the right side.
        words: Those that follow it.
    """

    left: Value | None
    tokens: Sequence[Token]
    right: Value
    words: Sequence[str]


def statements(lines: Iterable[Sequence[Token]]) -> Iterator[Statement]:
    """Yield what stands around each equals sign that has a value on its right."""
    for line in lines:
        for before, after in pairwise(_parts(line)):
            head = _head(after)
            if head is not None:
                yield Statement(*_tail(before), *head)


def read_path(text: str) -> Path:
    """Return what a text calculates, in time linear in its length (its first ``MAX_TEXT`` characters)."""
    prose, annotations = split_annotations(text)
    equations, results = _read(equation_lines(prose))
    more, more_results = _read(tokens(annotation) for annotation in annotations)
    # an annotation mostly repeats what is written beside it
    unstated = Counter(each.form for each in more) - Counter(each.form for each in equations)
    others = Counter(more_results) - Counter(results)
    return Path((*equations, *_chosen(more, unstated)), (*results, *others.elements()))


def holds(left: Value, right: Value, words: Sequence[str] = ()) -> bool | None:
    r"""Return whether two sides are equal.

    .. math:: l = r \quad\text{or}\quad |l - r| \le \tfrac12 10^{-d}

    where one side is a literal with d > 0 decimals: a result rounded to them is true. A percentage may also be meant as
    a number of per cent (``100 - 73 = 27%``). Sides that differ are None, not false, where units may account for it
    (``1 hour + 30 minutes = 90 minutes``): where the left has one, unless the right names it too, and there is one only
    or nothing is added.

    Args:
        left: The left side.
        right: The right side.
        words: The words that follow it.
    """
    decimals = max(side.decimals if side.is_literal else 0 for side in (left, right))
    difference = abs(left.number - right.number)
    if not difference or (decimals and difference <= Fraction(1, 2 * 10**decimals)):
        return True
    if left.is_percentage != right.is_percentage and _per_cent(left) == _per_cent(right):
        return True
    named = right.units | {singular(word) for word in words}
    if not left.units:
        return None if len(right.units) > 1 else False
    units = left.units | right.units
    return False if named & left.units and (len(units) == 1 or not (left.has_sum or right.has_sum)) else None


def _per_cent(side: Value) -> Fraction:
    return side.number * 100 if side.is_percentage else side.number


def _read(lines: Iterable[Sequence[Token]]) -> tuple[list[Equation], list[Fraction]]:
    equations, results = [], []
    for statement in statements(lines):
        left, right = statement.left, statement.right
        results.append(right.number)
        if left is not None and not (left.is_literal and right.is_literal):
            form = "=".join(sorted((left.form, right.form)))
            equations.append(Equation(form, left.number, right.number, holds(left, right, statement.words)))
    return equations, results


def _parts(line: Sequence[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in line:
        if token.kind == "equals":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _head(part: Sequence[Token]) -> tuple[Value, list[str]] | None:
    """Return the value at the beginning of a part and the words that follow it, None where there is no value."""
    try:
        value, length = read_expression(part)
    except UnreadableError:
        return None
    following = part[length : length + MAX_UNIT]
    words = next((i for i, token in enumerate(following) if token.kind != "word"), len(following))
    return value, [token.text for token in following[:words]]


def _tail(part: Sequence[Token]) -> tuple[Value | None, Sequence[Token]]:
    """Return the value at the end of a part, None where there is none or more may belong to it, and its tokens."""
    start = _tail_start(part)
    if start is None or len(part) - start > MAX_TOKENS:
        return None, ()
    try:
        value, length = read_expression(part[start:])
    except UnreadableError:
        return None, ()
    is_label = value.is_literal and start > 0 and part[start - 1].kind == "word"  # ``Day 1``
    return (None, ()) if start + length < len(part) or is_label else (value, part[start:])


def _tail_start(part: Sequence[Token]) -> int | None:
    """Return where the expression begins that ends a part, None where a name is in it."""
    place, depth = len(part), 0
    while place:
        token = part[place - 1]
        if token.kind == "end":
            return place
        if token.kind == "other" or len(part) - place > MAX_TOKENS:
            return None
        if token.kind == "open" and not depth:
            return place
        depth += {"close": 1, "open": -1}.get(token.kind, 0)
        if token.kind != "word" or is_times(part, place - 1):
            place -= 1
            continue
        first = _run_start(part, place)
        if place < len(part) and part[place].kind not in ("operator", "close") and not is_times(part, place):
            return place if _is_prose(part, first, place) else None
        before = part[first - 1] if first else None
        if before is None or (before.kind not in _OPERANDS and before.text != "/"):
            return None
        place = first
    return 0


def _run_start(part: Sequence[Token], end: int) -> int:
    """Return where the words begin that end before a place."""
    while end and part[end - 1].kind == "word" and not is_times(part, end - 1):
        end -= 1
    return end


def _is_prose(part: Sequence[Token], first: int, end: int) -> bool:
    """Return whether the words before an expression have no part in it, unlike ``f(2)``, ``x 2``, ``half of 8``."""
    last = part[end - 1].text
    if part[end].glued or (len(last) == 1 and last not in _WORDS_OF_A_LETTER) or last.lower() in SPELLED:
        return False
    if last.lower() == "and" and end - first == 1 and first and part[first - 1].kind in _OPERANDS:
        is_fraction = part[end].kind == "frac" or (end + 1 < len(part) and part[end + 1].text == "/")
        return not is_fraction  # ``1 and 1/4``
    if last.lower() != "of":
        return True
    return end - first > 1 and part[end - 2].text.lower() not in SPELLED


def _chosen(equations: Sequence[Equation], wanted: Counter[str]) -> list[Equation]:
    chosen = []
    for equation in equations:
        if wanted[equation.form] > 0:
            wanted[equation.form] -= 1
            chosen.append(equation)
    return chosen
