"""Decides the counterfactual variants of a problem: where its answer must stay, where it must change in a known way.

| kind | what changes | the answer |
|---|---|---|
| ``numbers`` | numbers of the problem | changes to what the worked solution's steps give for them (`dataflow.trace`) |
| ``renamed`` | people and things | stays |
| ``reordered`` | two independent facts exchange places | stays |

Of the embedded arithmetic corpus, a ``numbers`` variant is another problem of the same template and split, so that no
variant of a training problem is a test problem; its names change with it.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lemma.answers import Grader
from lemma.corpora import arithmetic
from lemma.rewards.coherence.dataflow import trace
from lemma.rewards.coherence.numbers import change_numbers
from lemma.rewards.coherence.wording import rename, reorder
from lemma.types import InputError, Problem, Verdict

_ATTEMPTS = 8  # at a text that is new


@dataclass(frozen=True, slots=True)
class Variant:
    """A problem made from another one.

    Attributes:
        problem: The variant; its solution is None, its answer is ``expected``.
        kind: One of ``KINDS``.
        expected: The answer; None where that of the problem is not known and stays.
        changed: What is different, for reports.
    """

    problem: Problem
    kind: str
    expected: str | None
    changed: str

    @property
    def stays(self) -> bool:
        """Return whether the answer must be that of the problem."""
        return self.kind != "numbers"


def make_variants(problem: Problem, num_variants: int, *, seed: int = 0, kinds: Sequence[str] = ()) -> list[Variant]:
    """Return variants of a problem, no two alike, the kinds in turn; fewer where there are no more.

    They follow from problem, seed and kinds alone: a shorter list is the beginning of a longer one.

    Args:
        problem: The problem; a numeric variant needs a worked solution and an answer.
        num_variants: At least 0.
        seed: Decides which.
        kinds: Distinct members of ``KINDS``, in the order of turns; all by default.

    Raises:
        InputError: If a kind is unknown or comes twice, or ``num_variants`` is negative.
    """
    kinds = tuple(kinds) or KINDS
    if num_variants < 0:
        raise InputError(f"num_variants: expected at least 0, but got {num_variants}.")
    if not set(kinds) <= set(KINDS) or len(set(kinds)) < len(kinds):
        raise InputError(f"kinds: expected distinct ones of {', '.join(KINDS)}, but got {list(kinds)}.")
    draws = {kind: random.Random(f"{seed}/{problem.source}/{problem.id}/{kind}") for kind in kinds}
    makers = {kind: _MAKERS[kind](problem) for kind in kinds}
    variants: list[Variant] = []
    while makers and len(variants) < num_variants:
        for kind in list(makers):
            found = _new(makers[kind], draws[kind], {problem.problem, *(each.problem.problem for each in variants)})
            if found is None:
                del makers[kind]
                continue
            text, expected, changed = found
            name = f"{problem.id}~{kind}{sum(each.kind == kind for each in variants)}"
            changed_problem = replace(problem, id=name, problem=text, solution=None, answer=expected)
            variants.append(Variant(changed_problem, kind, expected, changed))
    return variants[:num_variants]


def variant_verdicts(
    own: str | None, variants: Sequence[Variant], answers: Sequence[str | None], grader: Grader
) -> list[Verdict]:
    """Return whether a trajectory's arm answers each variant as it must.

    Where the answer must stay, it must be the trajectory's own, right or wrong: this is coherence, not correctness.
    Where it must change, it must be the expected one.

    Args:
        own: The trajectory's answer to the problem; without one, nothing can stay.
        variants: V variants of the problem.
        answers: The answers that the same arm gives to them; None where there is none.
        grader: Says which answers are equal.

    Returns:
        V verdicts, for ``s_cf``.

    Raises:
        ValueError: If the lengths differ.
    """
    wanted = [own if variant.stays else variant.expected for variant in variants]
    pairs = [
        (gold or "0", None if gold is None else answer)  # what is not there equals nothing
        for gold, answer in zip(wanted, answers, strict=True)
    ]
    return grader.grade(pairs)


_Found = tuple[str, str | None, str]
"""The text of a variant, its answer, and what changed."""
_Maker = Callable[[random.Random], _Found | None]


def _new(make: _Maker, draw: random.Random, known: set[str]) -> _Found | None:
    """Return what a maker makes first that is not known; None if it makes nothing new."""
    for _ in range(_ATTEMPTS):
        found = make(draw)
        if found is None:
            return None
        if found[0] not in known:
            return found
    return None


def _numbers(problem: Problem) -> _Maker:
    if problem.source == arithmetic.SOURCE and (skeleton := _skeleton(problem)):
        return lambda draw: _procedural(problem, skeleton, draw)
    flow = trace(problem)
    return lambda draw: change_numbers(problem, flow, draw) if flow else None


def _skeleton(problem: Problem) -> arithmetic.Skeleton | None:
    """Return what a problem of the arithmetic corpus was written from, None if its id does not say so."""
    split, _, rest = problem.id.partition("/")
    if split not in arithmetic.SPLITS or not re.fullmatch(r"[0-9]/[0-9]{1,9}", rest):
        return None
    level, rank = map(int, rest.split("/"))
    known = arithmetic.skeletons(split, level) if level in arithmetic.LEVELS else ()
    skeleton = known[rank] if rank < len(known) else None
    return skeleton if skeleton and arithmetic.write(problem.id, skeleton).problem == problem.problem else None


def _procedural(problem: Problem, skeleton: arithmetic.Skeleton, draw: random.Random) -> _Found | None:
    known = arithmetic.skeletons(problem.id.partition("/")[0], skeleton.level)
    for _ in range(_ATTEMPTS * len(arithmetic.TEMPLATES[skeleton.level])):
        other = draw.choice(known)
        written = arithmetic.write(problem.id, other)
        if other.template == skeleton.template and written.answer != problem.answer:
            old, new = (", ".join(map(str, each.operands)) for each in (skeleton, other))
            return written.problem, written.answer, f"{old} -> {new}"
    return None


def _renamed(problem: Problem) -> _Maker:
    def make(draw: random.Random) -> _Found | None:
        found = rename(problem.problem, draw)
        if found is None or any(re.search(rf"\b{old}", problem.answer or "", re.IGNORECASE) for old in found[1]):
            return None
        return found[0], problem.answer, ", ".join(f"{old} -> {new}" for old, new in found[1].items())

    return make


def _reordered(problem: Problem) -> _Maker:
    def make(draw: random.Random) -> _Found | None:
        found = reorder(problem.problem, draw)
        return found and (found[0], problem.answer, found[1])

    return make


_MAKERS: dict[str, Callable[[Problem], _Maker]] = {
    "numbers": _numbers,
    "renamed": _renamed,
    "reordered": _reordered,
}
KINDS = tuple(_MAKERS)
"""The kinds of variants."""
