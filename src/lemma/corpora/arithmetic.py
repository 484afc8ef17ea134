"""Decides the embedded corpus: procedural arithmetic word problems with worked solutions, in seven levels.

How a problem comes about:

1. A *template* is a question with placeholders, a range for each operand, and the steps of its solution.
2. A *skeleton* is a template with operands. All that keep every result within 1..``LARGEST`` are enumerated.
3. A hash of the skeleton gives its split and its names, so a split shares no skeleton with another, renamed or not.
4. ``generate`` shuffles the skeletons of each asked level by seed and takes the levels in turn.
"""

import bisect
import functools
import hashlib
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lemma.types import InputError, Problem

SOURCE = "arithmetic"
SPLITS = ("pretrain", "train", "validation", "test")
LEVELS = (1, 2, 3, 4, 5, 6, 7)
LARGEST = 120
TakeStep = Callable[[int, str, int], tuple[str, int]]
"""From (left, operator, right) of a step to the operator and the result that are written."""
_SPLIT_ENDS = (60, 85, 90, 100)  # of a hash modulo 100: 60 % pretrain, 25 % train, 5 % validation, 10 % test


@dataclass(frozen=True)
class Template:
    """A family of problems.

    Attributes:
        question: The text; ``{a}``, ``{b}``, … are operands, ``{name}``, ``{other}``, ``{things}`` are drawn names.
        ranges: Values of each operand, in the order a, b, c, d.
        steps: ``words: left operator right`` each; the results are called x, y, z in turn.
    """

    question: str
    ranges: tuple[range, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A problem without its names.

    Attributes:
        level: 1 to 7.
        template: Index within the level's templates.
        operands: Values of a, b, c, d, as many as the template has.
    """

    level: int
    template: int
    operands: tuple[int, ...]


def generate(split: str, *, num_problems: int, seed: int = 0, levels: Sequence[int] = LEVELS) -> list[Problem]:
    """Return problems with solutions and integer answers, the levels in equal shares and in turn.

    The order follows from split, seed and levels alone: a shorter list is the beginning of a longer one. An id names
    the same problem under every seed.

    Args:
        split: One of ``SPLITS``. No skeleton is in two splits.
        num_problems: Number of problems, at least 1.
        seed: Decides which problems come first.
        levels: Distinct members of ``LEVELS``.

    Raises:
        InputError: If the split or a level is unknown, or a level has fewer problems than its share.
    """
    _check_request(split, num_problems, levels)
    streams = []
    for place, level in enumerate(levels):
        share = len(range(place, num_problems, len(levels)))
        known = skeletons(split, level)
        if share > len(known):
            raise InputError(
                f"{SOURCE}: expected at most {len(known)} problems of level {level} in split {split!r}, but "
                f"`num_problems` {num_problems} over {len(levels)} levels asks for {share}."
            )
        ranks = list(range(len(known)))
        random.Random(f"{split}/{level}/{seed}").shuffle(ranks)
        streams.append([(f"{split}/{level}/{rank:06d}", known[rank]) for rank in ranks[:share]])
    return [write(*streams[i % len(levels)][i // len(levels)]) for i in range(num_problems)]


def calculate(left: int, operator: str, right: int) -> int:
    """Return the result of one step; the operator is one of ``+ - * /``, and division rounds down."""
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    return left * right if operator == "*" else left // right


def take_step(left: int, operator: str, right: int) -> tuple[str, int]:
    """Return what is written of a step: its operator and its result."""
    return operator, calculate(left, operator, right)


def write(problem_id: str, skeleton: Skeleton, take_step: TakeStep = take_step) -> Problem:
    """Return a skeleton as a problem with names, one solution line a step, and the last result as the answer.

    Args:
        problem_id: The ``Problem.id``.
        skeleton: One of ``skeletons``.
        take_step: Another one writes other solutions, such as wrong ones, whose later steps go on from its results.
    """
    template = TEMPLATES[skeleton.level][skeleton.template]
    names = _draw_names(_digest(skeleton))
    equations = _work(template.steps, skeleton.operands, take_step)
    operands = dict(zip("abcd", skeleton.operands, strict=False))
    lines = [
        f"{step.partition(':')[0].format(**names)}: {left} {operator} {right} = {result}"
        for step, (left, operator, right, result) in zip(template.steps, equations, strict=True)
    ]
    return Problem(
        id=problem_id,
        source=SOURCE,
        problem=template.question.format(**names, **operands),
        solution="\n".join(lines),
        answer=str(equations[-1][3]),
        level=skeleton.level,
        subject=SUBJECTS[skeleton.level],
    )


def skeletons(split: str, level: int) -> tuple[Skeleton, ...]:
    """Return every skeleton of a level that belongs to the split, in a fixed order."""
    return _by_split(level)[split]


@functools.cache
def _by_split(level: int) -> dict[str, tuple[Skeleton, ...]]:
    found: dict[str, list[Skeleton]] = {split: [] for split in SPLITS}
    for index, template in enumerate(TEMPLATES[level]):
        for operands in itertools.product(*template.ranges):
            if _is_sound(_work(template.steps, operands, take_step)):
                skeleton = Skeleton(level, index, operands)
                found[SPLITS[bisect.bisect_right(_SPLIT_ENDS, _digest(skeleton) % 100)]].append(skeleton)
    return {split: tuple(members) for split, members in found.items()}


def _is_sound(equations: list[tuple[int, str, int, int]]) -> bool:
    """Return whether every result is within 1..``LARGEST`` and every division comes out even."""
    return all(
        1 <= result <= LARGEST and (operator != "/" or left == right * result)
        for left, operator, right, result in equations
    )


def _work(steps: tuple[str, ...], operands: tuple[int, ...], take_step: TakeStep) -> list[tuple[int, str, int, int]]:
    """Return (left, operator, right, result) of each step."""
    values = dict(zip("abcd", operands, strict=False))
    equations = []
    for (left, operator, right), letter in zip(_operations(steps), "xyz", strict=False):
        written, values[letter] = take_step(values[left], operator, values[right])
        equations.append((values[left], written, values[right], values[letter]))
    return equations


@functools.cache
def _operations(steps: tuple[str, ...]) -> list[list[str]]:
    """Return left, operator and right of each step."""
    return [step.partition(": ")[2].split() for step in steps]


def _digest(skeleton: Skeleton) -> int:
    """Return a 64-bit hash: the split comes from its value modulo 100, the names from the quotient."""
    text = f"{skeleton.level}/{skeleton.template}/{skeleton.operands}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _draw_names(digest: int) -> dict[str, str]:
    rest, first = divmod(digest // 100, len(_NAMES))
    rest, distance = divmod(rest, len(_NAMES) - 1)
    return {
        "name": _NAMES[first],
        "other": _NAMES[(first + 1 + distance) % len(_NAMES)],
        "things": _THINGS[rest % len(_THINGS)],
    }


def _check_request(split: str, num_problems: int, levels: Sequence[int]) -> None:
    if split not in SPLITS:
        raise InputError(f"{SOURCE}: expected `split` to be one of {', '.join(SPLITS)}, but got {split!r}.")
    if num_problems < 1:
        raise InputError(f"{SOURCE}: expected `num_problems` to be at least 1, but got {num_problems}.")
    if not levels or len(set(levels)) != len(levels) or not set(levels) <= set(LEVELS):
        raise InputError(f"{SOURCE}: expected `levels` to be distinct members of {LEVELS}, but got {list(levels)}.")


_NAMES = (
    "Ada", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Hugo", "Iris", "Jonas", "Kim", "Lena", "Mia", "Noah",
    "Olga", "Paul", "Rosa", "Sam", "Tina", "Vera",
)  # fmt: skip
_THINGS = (
    "apples", "beads", "books", "buttons", "cards", "coins", "cookies", "eggs", "marbles", "nuts", "pears", "pencils",
    "plums", "shells", "stamps", "stickers",
)  # fmt: skip
_FAMILIES = ("addition", "subtraction", "add and subtract", "multiplication", "division", "two products", "mixed")
SUBJECTS = dict(zip(LEVELS, _FAMILIES, strict=True))
"""Level → operation family of its problems."""

_SUMMANDS = (range(3, 70), range(2, 50))
_PARTS = (range(12, 100), range(3, 60))
_CHAIN = (range(12, 44), range(5, 20), range(3, 16))
_PRODUCT_AND_REST = (range(2, 11), range(2, 11), range(2, 55))
_SHARE_AND_REST = (range(6, 73), range(2, 10), range(2, 28))
_TWO_PRODUCTS = (range(2, 10), range(2, 10), range(2, 10), range(2, 10))
_PRODUCT_SHARED = (range(2, 11), range(2, 11), range(2, 30), range(2, 7))
_GROUPS = (range(2, 12), range(2, 12), range(2, 6), range(2, 20))

TEMPLATES: dict[int, tuple[Template, ...]] = {
    1: (
        Template("{name} has {a} {things} and buys {b} more. How many {things} does {name} have now?",
                 _SUMMANDS, ("Now: a + b",)),
        Template("{name} has {a} {things}. {other} has {b} {things}. How many {things} do they have together?",
                 _SUMMANDS, ("Together: a + b",)),
        Template("There are {a} {things} in one box and {b} in another box. How many {things} are there in all?",
                 _SUMMANDS, ("In all: a + b",)),
        Template("{name} read {a} pages on Monday and {b} pages on Tuesday. How many pages did {name} read?",
                 _SUMMANDS, ("Pages: a + b",)),
        Template("A toy costs {a} dollars and a game costs {b} dollars. How much do they cost together?",
                 _SUMMANDS, ("Cost: a + b",)),
        Template("{name} found {a} {things}. {other} found {b} more than {name}. How many {things} did {other} find?",
                 _SUMMANDS, ("{other} found: a + b",)),
    ),
    2: (
        Template("{name} has {a} {things} and gives {b} to {other}. How many {things} are left?",
                 _PARTS, ("Left: a - b",)),
        Template("{name} has {a} {things}. {other} has {b} {things}. How many more {things} does {name} have?",
                 _PARTS, ("More: a - b",)),
        Template("There were {a} {things} in a box. {name} took {b} of them. How many {things} are in the box now?",
                 _PARTS, ("In the box: a - b",)),
        Template("A book has {a} pages. {name} has read {b} pages. How many pages are left to read?",
                 _PARTS, ("Pages left: a - b",)),
        Template("{name} had {a} dollars and spent {b} dollars. How much money is left?",
                 _PARTS, ("Money left: a - b",)),
    ),
    3: (
        Template("{name} had {a} {things}, found {b} more and lost {c}. How many {things} does {name} have now?",
                 _CHAIN, ("Found: a + b", "Now: x - c")),
        Template("{name} had {a} {things}, gave {b} to {other} and bought {c}. How many {things} does {name} have now?",
                 _CHAIN, ("Left: a - b", "Now: x + c")),
        Template("A bus has {a} people. At a stop {b} get on and {c} get off. How many people are on the bus?",
                 _CHAIN, ("On: a + b", "Off: x - c")),
        Template("{name} picked {a} {things}, {other} picked {b} and a friend picked {c}. How many {things} in all?",
                 _CHAIN, ("Two: a + b", "In all: x + c")),
        Template("{name} has {a} dollars. A book costs {b} and a pen costs {c}. How much is left after buying both?",
                 _CHAIN, ("Cost: b + c", "Left: a - x")),
    ),
    4: (
        Template("{name} has {a} boxes with {b} {things} each, and {c} more {things}. How many {things} in all?",
                 _PRODUCT_AND_REST, ("In boxes: a * b", "In all: x + c")),
        Template("{name} buys {a} bags of {b} {things} and gives {c} away. How many are left?",
                 _PRODUCT_AND_REST, ("Bought: a * b", "Left: x - c")),
        Template("A ticket costs {a} dollars. {name} buys {b} and a drink for {c}. How much is it in all?",
                 _PRODUCT_AND_REST, ("Tickets: a * b", "In all: x + c")),
        Template("There are {a} rows of {b} seats, and {c} people are seated. How many seats are free?",
                 _PRODUCT_AND_REST, ("Seats: a * b", "Free: x - c")),
        Template("{name} has {c} {things}. {other} brings {a} packs of {b}. How many {things} do they have now?",
                 _PRODUCT_AND_REST, ("Packs: a * b", "Now: c + x")),
    ),
    5: (
        Template("{name} shares {a} {things} equally among {b} bags and puts {c} more in each. How many are in a bag?",
                 _SHARE_AND_REST, ("Each: a / b", "In a bag: x + c")),
        Template("{b} friends share {a} {things} equally. {name}, one of them, had {c}. How many does {name} have now?",
                 _SHARE_AND_REST, ("Each: a / b", "Now: c + x")),
        Template("{b} books cost {a} dollars. A lamp costs {c} dollars. How much do a lamp and one book cost?",
                 _SHARE_AND_REST, ("One book: a / b", "Both: c + x")),
        Template("{name} puts {a} {things} in {b} equal rows and takes {c} from one row. How many stay in that row?",
                 _SHARE_AND_REST, ("A row: a / b", "Left: x - c")),
        Template("{name} earns {a} dollars in {b} days. {other} earns {c} dollars a day more. How much a day is that?",
                 _SHARE_AND_REST, ("A day: a / b", "{other}: x + c")),
    ),
    6: (
        Template("{name} buys {a} pens for {b} dollars each and {c} books for {d} dollars each. How much is it in all?",
                 _TWO_PRODUCTS, ("Pens: a * b", "Books: c * d", "In all: x + y")),
        Template("{name} has {a} bags of {b} {things}. {other} has {c} bags of {d}. How many {things} do they have?",
                 _TWO_PRODUCTS, ("{name}: a * b", "{other}: c * d", "Both: x + y")),
        Template("{name} packs {a} boxes of {b} {things} and sells {c} packs of {d}. How many {things} are left?",
                 _TWO_PRODUCTS, ("Packed: a * b", "Sold: c * d", "Left: x - y")),
        Template("A hall has {a} rows of {b} seats, and {c} groups of {d} people come. How many seats stay free?",
                 _TWO_PRODUCTS, ("Seats: a * b", "People: c * d", "Free: x - y")),
    ),
    7: (
        Template("{name} buys {a} boxes of {b} {things}, keeps {c} and shares the rest by {d}. How many is it each?",
                 _PRODUCT_SHARED, ("Bought: a * b", "Rest: x - c", "Each: y / d")),
        Template("{a} tickets cost {b} dollars each and a tour costs {c}. {d} friends share. How much is it each?",
                 _PRODUCT_SHARED, ("Tickets: a * b", "Cost: x + c", "Each: y / d")),
        Template("{name} makes {a} {things} a day and {other} {b}. They work {c} days and sell {d}. How many are left?",
                 _GROUPS, ("A day: a + b", "Made: x * c", "Left: y - d")),
        Template("A pen costs {a} and a book {b}. {name} buys {c} of each and a bag for {d}. How much is it in all?",
                 _GROUPS, ("A pair: a + b", "Pairs: x * c", "In all: y + d")),
    ),
}  # fmt: skip
"""Level → its templates. A template's place here is part of its skeletons: append, never insert."""
