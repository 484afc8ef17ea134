"""Decides which pairs the graded completions of one problem make, and which completions are the same.

1. Equal completions (``comparable_completion``) count once. One that is graded right and wrong is on neither side.
2. The right and the wrong ones are shuffled, each by a hash of the problem's id and the completion.
3. Pair k is of right one k mod r and wrong one (k + k // lcm(r, w)) mod w. So no pair comes twice before all r·w have
   come, no completion is used twice more than another of its side, and asking for fewer pairs keeps the first ones.
"""

import hashlib
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from lemma.types import Preference, Problem

RIGHT, WRONG = "right", "wrong"
UNFINISHED, EMPTY, BOTH_WAYS = "unfinished", "empty", "graded both right and wrong"
"""Why a completion is on neither side; the verdicts unparseable and timeout are others."""

PAIRED, ONLY_RIGHT, ONLY_WRONG, TOO_FEW = "paired", "only right", "only wrong", "too few"
_SAID = {
    ONLY_RIGHT: "{} only right ones",
    ONLY_WRONG: "{} only wrong ones",
    TOO_FEW: "{} too few that can be used",
}
_PLAIN, _KIND = "plain", "right_over_wrong"

Each = TypeVar("Each")


class Pairing(NamedTuple):
    """What one row gives.

    Attributes:
        preferences: Its pairs.
        outcome: Where completions are graded, ``paired``, or why there is no pair: ``only right``, ``only wrong``,
            ``too few`` (one side is empty, and some completions could not be used). None elsewhere.
        unused: Number of completions on neither side, by why.
    """

    preferences: list[Preference]
    outcome: str | None = None
    unused: Mapping[str, int] = {}


class Sides(NamedTuple):
    """The completions of a problem that can be paired.

    Attributes:
        right: The first of each of the equal right ones.
        wrong: The same of the wrong ones.
        unused: Number of completions on neither side, by why.
    """

    right: list[str]
    wrong: list[str]
    unused: Mapping[str, int]

    @property
    def outcome(self) -> str:
        """Return ``Pairing.outcome``."""
        if self.right and self.wrong:
            return PAIRED
        return TOO_FEW if self.unused or not (self.right or self.wrong) else ONLY_RIGHT if self.right else ONLY_WRONG


def comparable_completion(text: str) -> str:
    """Return what is left of a completion without case, runs of white space and compatibility forms (NFKC).

    Unlike that of a problem, its punctuation counts: ``1.5`` and ``15`` are two answers.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def make_pairs(problem: Problem, completions: Iterable[tuple[str, str]], most: int) -> Pairing:
    """Return pairs of a right and a wrong completion, with the ids ``<problem id>/<k>``.

    Args:
        problem: What was asked.
        completions: (text, ``RIGHT``, ``WRONG`` or why it is on neither side).
        most: Pairs, at least 1.
    """
    sides = sides_of(problem.id, completions)
    preferences = [
        Preference(
            id=f"{problem.id}/{k}",
            source=problem.source,
            messages=(("user", problem.problem),),
            chosen=chosen,
            rejected=rejected,
            form=_PLAIN,
            kind=_KIND,
            level=problem.level,
            subject=problem.subject,
        )
        for k, (chosen, rejected) in enumerate(crossed(sides.right, sides.wrong, most))
    ]
    return Pairing(preferences, sides.outcome, sides.unused)


def sides_of(problem_id: str, completions: Iterable[tuple[str, str]]) -> Sides:
    """Return the distinct completions of each side, shuffled by a hash of the problem's id and the completion.

    Args:
        problem_id: Which problem it is.
        completions: As for ``make_pairs``.
    """
    sides: dict[str, dict[str, list[str]]] = {RIGHT: {}, WRONG: {}}
    unused: Counter[str] = Counter()
    for text, grade in completions:
        grade = grade if text.strip() or grade not in sides else EMPTY
        if grade in sides:
            sides[grade].setdefault(comparable_completion(text), []).append(text)
        else:
            unused[grade] += 1
    for same in sides[RIGHT].keys() & sides[WRONG].keys():
        unused[BOTH_WAYS] += len(sides[RIGHT].pop(same)) + len(sides[WRONG].pop(same))
    return Sides(*(_shuffled(side, problem_id) for side in sides.values()), unused)


def crossed(right: Sequence[Each], wrong: Sequence[Each], most: int) -> list[tuple[Each, Each]]:
    """Return at most so many pairs of a right and a wrong one: pair k as the third rule above says."""
    if not right or not wrong:
        return []
    turn = math.lcm(len(right), len(wrong))
    return [
        (right[k % len(right)], wrong[(k + k // turn) % len(wrong)]) for k in range(min(most, len(right) * len(wrong)))
    ]


def pairing_report(source: str, outcomes: Mapping[str, int], unused: Mapping[str, int]) -> str:
    """Return a line on how many problems of a corpus give pairs, and why the others do not.

    Args:
        source: Label of the corpus.
        outcomes: Problems by ``Pairing.outcome``.
        unused: Completions as in ``Pairing.unused``.
    """
    total = sum(outcomes.values())
    report = f"{source}: {outcomes.get(PAIRED, 0):,} of {total:,} problems have both a right and a wrong completion"
    if others := [said.format(f"{outcomes[name]:,}") for name, said in _SAID.items() if outcomes.get(name)]:
        report += f"; {', '.join(others)}"
    if unused:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(unused.items()))
        report += f"; completions on neither side: {reasons}"
    return f"{report}."


def _shuffled(side: Mapping[str, list[str]], problem_id: str) -> list[str]:
    """Return the first of each of the equal completions, in an order that follows from the id and the texts alone."""

    def place(same: str) -> bytes:
        return hashlib.blake2b(f"{problem_id}\0{same}".encode(), digest_size=8).digest()

    return [side[same][0] for same in sorted(side, key=place)]
