"""Decides how the answer of a word problem follows from its numbers, and which of them can be changed.

1. The *steps* are the solution's calculator annotations (``<<48/2=24>>``), or else the equations that it states.
2. Each operand is traced: to a number in the problem, to what a word there stands for (``half``, ``dozen``, ``%``), or
   to the result of an earlier step. One that has no source, or a result and another one, leaves the problem without
   variant; so does a step that is not exact, a result that no later step needs, and a last result other than the gold
   answer.
3. A number may change if it stands once in the problem, means nothing else there, and an operand is traced to it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lemma.answers import as_rational, normalize
from lemma.rewards.coherence.equations import statements
from lemma.rewards.coherence.exact import MAX_DIGITS, UnreadableError
from lemma.rewards.coherence.expressions import read_expression
from lemma.rewards.coherence.tokens import Token, equation_lines, split_annotations, tokens
from lemma.types import Problem

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+")
_PINNED_BEFORE = re.compile(r"(?:[\w./:^_\\-]|(?<![\w])an? ?\$?)$", re.IGNORECASE)
_PINNED_AFTER = re.compile(r"[\w/:^]|[-.,]\d| ?(?:[ap]\.?m\b|o'clock)", re.IGNORECASE)
_YEARS = range(1900, 2101)
_STANDS_FOR: dict[str, tuple[int | Fraction, ...]] = {
    **{word: (value,) for value, word in enumerate((
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
    ))},
    "half": (1, 2, Fraction(1, 2)), "halves": (1, 2, Fraction(1, 2)), "twice": (2,), "double": (2,), "doubled": (2,),
    "doubles": (2,), "third": (1, 3), "thirds": (3,), "triple": (3,), "thrice": (3,), "quarter": (1, 4, Fraction(1, 4)),
    "quarters": (4, Fraction(1, 4)), "fourth": (1, 4), "fourths": (4,), "fifth": (1, 5), "dozen": (12,),
    "dozens": (12,), "week": (7,), "weeks": (7,), "hour": (60,), "hours": (60,), "minutes": (60,),
    "year": (12, 52, 365), "years": (12, 52), "day": (24,), "days": (24, 7), "couple": (2,), "pair": (2,),
    "pairs": (2,), "percent": (100,),
    "month": (4, 12, 30), "months": (12, 30),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mention:
    """A number in the text of a problem.

    Attributes:
        start: Where it begins.
        text: As written.
        value: Its value; of ``20%`` 20.
        is_percentage: Whether a percent sign or the word follows.
        is_pinned: Whether it must stay: 0 and 1, an ordinal, a fraction, a time, a year, a number after "a".
    """

    start: int
    text: str
    value: Fraction
    is_percentage: bool
    is_pinned: bool

    @property
    def meanings(self) -> dict[Fraction, Fraction]:
        """Return its values as an operand, each with what one of it is there: 20 % is 20 or 0.2."""
        return {self.value / scale: Fraction(scale) for scale in ((1, 100) if self.is_percentage else (1,))}


@dataclass(frozen=True, slots=True)
class Dataflow:
    """How an answer follows from the numbers of a problem.

    Attributes:
        mentions: All numbers of the problem.
        steps: The left side of each step.
        sources: For each step, place of an operand → (mention, what its value is divided by).
        earlier: For each step, place of an operand → the earlier step whose result it is.
        results: Of each step.
    """

    mentions: tuple[Mention, ...]
    steps: tuple[Sequence[Token], ...]
    sources: tuple[Mapping[int, tuple[int, Fraction]], ...]
    earlier: tuple[Mapping[int, int], ...]
    results: tuple[Fraction, ...]

    @property
    def changeable(self) -> list[int]:
        """Return the mentions that steps depend on, in order."""
        return sorted({mention for sources in self.sources for mention, _ in sources.values()})

    def execute(self, values: Sequence[Fraction]) -> list[Fraction] | None:
        """Return the results of the steps for other values of the mentions; None where one is no finite decimal."""
        results: list[Fraction] = []
        for step, sources, earlier in zip(self.steps, self.sources, self.earlier, strict=True):
            operands = {place: values[mention] / scale for place, (mention, scale) in sources.items()}
            operands |= {place: results[number] for place, number in earlier.items()}
            written = {place: decimal(value) for place, value in operands.items()}
            if None in written.values():
                return None
            replaced = [
                token._replace(text=written[place]) if place in written else token for place, token in enumerate(step)
            ]
            try:
                results.append(read_expression(replaced)[0].number)
            except UnreadableError:
                return None
        return results


def trace(problem: Problem) -> Dataflow | None:
    """Return how the answer of a problem follows from its numbers, None where that cannot be told for sure.

    Args:
        problem: With a worked solution and an answer, or there is none.
    """
    gold = as_rational(normalize(problem.answer or ""))
    steps = _steps(problem.solution or "")
    if gold is None or not steps or steps[-1][1] != gold:
        return None
    mentions = find_mentions(problem.problem)
    constants = _constants(problem.problem, mentions)
    free = {
        value: (i, scale)
        for i, mention in enumerate(mentions)
        for value, scale in mention.meanings.items()
        if not mention.is_pinned and value not in constants
    }
    results = [result for _, result in steps]
    sources, earlier = [], []
    for number, (step, _) in enumerate(steps):
        traced = _trace_step(step, free, constants, results[:number])
        if traced is None:
            return None
        sources.append(traced[0])
        earlier.append(traced[1])
    needed = {number for numbers in earlier for number in numbers.values()}
    if needed != set(range(len(steps) - 1)) or not any(sources):
        return None
    return Dataflow(tuple(mentions), tuple(step for step, _ in steps), tuple(sources), tuple(earlier), tuple(results))


def find_mentions(text: str) -> list[Mention]:
    """Return the numbers of a text in order, without those of too many digits."""
    found = []
    for match in _NUMBER.finditer(text):
        if len(match[0]) > MAX_DIGITS:
            continue
        before, after = text[max(0, match.start() - 4) : match.start()], text[match.end() : match.end() + 8]
        value = Fraction(match[0].replace(",", ""))
        is_percentage = re.match(r" ?(?:%|percent)", after) is not None
        is_year = value in _YEARS and "," not in match[0] and not before.endswith("$")
        pinned = is_year or value in (0, 1) or _PINNED_BEFORE.search(before) or _PINNED_AFTER.match(after)
        found.append(Mention(match.start(), match[0], value, is_percentage, bool(pinned)))
    return found


def decimal(number: Fraction) -> str | None:
    """Return a number as a finite decimal without superfluous zeros, None where it has none of up to twelve places."""
    scaled = number * 10**12
    if scaled.denominator != 1:
        return None
    whole, places = divmod(abs(scaled.numerator), 10**12)
    digits = f"{places:012d}".rstrip("0")
    return f"{'-' if number < 0 else ''}{whole}{'.' if digits else ''}{digits}"


def _steps(solution: str) -> list[tuple[Sequence[Token], Fraction]]:
    """Return (left side, result) of each step; none where one is not exact, or its result is a calculation."""
    prose, annotations = split_annotations(solution)
    lines = [tokens(each) for each in annotations] or equation_lines(prose)
    steps = []
    for statement in statements(lines):
        if statement.left is not None and not statement.left.is_literal:
            if not statement.right.is_literal or statement.left.number != statement.right.number:
                return []
            steps.append((statement.tokens, statement.right.number))
    complete = not annotations or len(steps) == len(annotations)
    return steps if complete else []


def _constants(text: str, mentions: Sequence[Mention]) -> set[Fraction]:
    """Return the values that stay: of words, of pinned numbers, and of numbers that stand twice."""
    values = [value for mention in mentions for value in mention.meanings]
    constants = {value for value in values if values.count(value) > 1}
    constants |= {value for mention in mentions if mention.is_pinned for value in mention.meanings}
    words = re.findall(r"[a-z]+", text.lower())
    constants |= {Fraction(value) for word in words for value in _STANDS_FOR.get(word, ())}
    return constants | ({Fraction(100)} if "%" in text else set())


def _trace_step(
    step: Sequence[Token],
    free: Mapping[Fraction, tuple[int, Fraction]],
    constants: set[Fraction],
    results: Sequence[Fraction],
) -> tuple[dict[int, tuple[int, Fraction]], dict[int, int]] | None:
    """Return the mentions and the earlier steps that the operands of a step come from, None where one is not sure."""
    sources: dict[int, tuple[int, Fraction]] = {}
    earlier: dict[int, int] = {}
    for place, token in enumerate(step):
        if token.kind != "number":
            continue
        value = Fraction(token.text)
        is_stated = value in free or value in constants
        if is_stated + results.count(value) != 1:
            return None
        if value in free:
            sources[place] = free[value]
        elif value not in constants:
            earlier[place] = results.index(value)
    return sources, earlier
