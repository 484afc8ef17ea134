"""Verdicts for many predictions: what is right, which answers are the same, which golds cannot be read.

1. A pair that `exact_verdict` decides never leaves the calling process.
2. The rest goes to worker processes, which are killed at a deadline (`lemma.answers.pool`).
3. Either way the verdict is remembered, so that equal pairs are graded once.
"""

import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from lemma.answers.conventions import DEFAULT, Conventions
from lemma.answers.equivalence import exact_verdict
from lemma.answers.extract import extract_answer
from lemma.answers.pool import Pair, Pool
from lemma.answers.readable import readable
from lemma.types import InputError, Verdict

GRADER_VERSION = "3"  # to be raised with every change that can change a verdict; stands in result files

_MAX_MEMO = 50_000  # pairs


@dataclass(frozen=True, slots=True)
class Graded:
    """A graded completion.

    Attributes:
        verdict: The verdict on what strict extraction finds; UNPARSEABLE if it finds nothing.
        flexible_verdict: The verdict on what any extraction finds.
        prediction: The extracted answer, or None where there is none.
        strategy: The strategy that found it (`lemma.answers.extract`), or None.
    """

    verdict: Verdict
    flexible_verdict: Verdict
    prediction: str | None
    strategy: str | None


class Grader:
    """Grades predictions against golds; usable from any thread, from asyncio, and after a fork.

    A pair's verdict does not depend on what else is graded with it. Workers start with the first pair that needs one
    and stay until `close`, the end of a ``with`` block, or the end of the interpreter. In a forked process (a
    DataLoader's, say) the copy starts workers of its own.

    Args:
        num_workers: Worker processes, at least 1.
        timeout: Time limit of one pair in a warm worker, in seconds of CPU time: a busy machine changes no verdict.
        conventions: How strictly to compare.

    Raises:
        ValueError: If ``num_workers < 1`` or ``timeout <= 0``.
    """

    def __init__(self, num_workers: int = 1, timeout: float = 3.0, conventions: Conventions = DEFAULT) -> None:
        if num_workers < 1:
            raise ValueError(f"Expected `num_workers` to be at least 1, but got {num_workers}.")
        if timeout <= 0:
            raise ValueError(f"Expected `timeout` to be positive, but got {timeout}.")
        self.num_workers = num_workers
        self.timeout = timeout
        self.conventions = conventions
        self._memo: dict[Pair, Verdict] = {}
        self._lock = threading.RLock()
        self._pool = Pool(num_workers, timeout, conventions)
        self._finalizer = weakref.finalize(self, self._pool.close)
        _GRADERS.add(self)

    @property
    def num_timeouts(self) -> int:
        """How many comparisons ran out of time so far."""
        return self._pool.num_timeouts

    @property
    def num_crashes(self) -> int:
        """How many comparisons failed or ended their worker otherwise so far (out of memory, say)."""
        return self._pool.num_crashes

    def grade(self, pairs: Sequence[tuple[str, str | None]]) -> list[Verdict]:
        """Return the verdict of each (gold, prediction).

        Args:
            pairs: Golds and extracted predictions; None (no answer found) is UNPARSEABLE.

        Returns:
            One verdict a pair, in order.

        Raises:
            InputError: If a gold is empty.
            RuntimeError: If a worker does not start.
        """
        verdicts = [self._quick_verdict(index, gold, prediction) for index, (gold, prediction) in enumerate(pairs)]
        undecided = {pair: None for pair, verdict in zip(pairs, verdicts, strict=True) if verdict is None}
        if not undecided:
            return verdicts
        with self._lock:
            known = {pair: self._memo[pair] for pair in undecided if pair in self._memo}  # by another thread meanwhile
            known |= self._pool.run([pair for pair in undecided if pair not in known])
            self._remember(known)
        return [known[pair] if verdict is None else verdict for pair, verdict in zip(pairs, verdicts, strict=True)]

    def grade_texts(self, golds: Sequence[str], texts: Sequence[str]) -> list[Graded]:
        """Extract the answer of each text and grade it.

        Args:
            golds: The right answers.
            texts: As many completions.

        Raises:
            ValueError: If the two lengths differ.
            InputError: If a gold is empty.
            RuntimeError: If a worker does not start.
        """
        if len(golds) != len(texts):
            raise ValueError(f"Expected as many `golds` as `texts`, but got {len(golds)} and {len(texts)}.")
        found = [extract_answer(text) for text in texts]
        verdicts = self.grade([(gold, e.answer if e else None) for gold, e in zip(golds, found, strict=True)])
        return [
            Graded(verdict if e.strict else Verdict.UNPARSEABLE, verdict, e.answer, e.strategy)
            if e
            else Graded(Verdict.UNPARSEABLE, Verdict.UNPARSEABLE, None, None)
            for verdict, e in zip(verdicts, found, strict=True)
        ]

    def group(self, predictions: Sequence[str | None], gold: str | None = None) -> list[int]:
        """Return the class of equal answers that each prediction is in, for majority votes.

        A prediction is in the first class whose first member it equals.

        Args:
            predictions: Extracted answers; None is no answer.
            gold: The right answer; what is equal to it is one class, whatever its members are to one another.

        Returns:
            The classes, numbered by first appearance; -1 for None and for what can be no answer (empty, or too long).

        Raises:
            InputError: If the gold is empty.
            RuntimeError: If a worker does not start.
        """
        distinct = [each for each in dict.fromkeys(predictions) if each is not None and self._is_answer(each)]
        right: set[str] = set()
        if gold is not None:
            verdicts = self.grade([(gold, each) for each in distinct])
            right = {each for each, verdict in zip(distinct, verdicts, strict=True) if verdict is Verdict.CORRECT}
        classes: dict[str | None, int] = {None: -1}
        firsts: list[str | None] = []  # of each class the first member; None for the gold's
        for each in distinct:
            if each in right:
                first = None
            else:
                others = [first for first in firsts if first is not None]
                verdicts = self.grade([(other, each) for other in others])
                first = others[verdicts.index(Verdict.CORRECT)] if Verdict.CORRECT in verdicts else each
            if first not in firsts:
                firsts.append(first)
            classes[each] = firsts.index(first)
        return [classes.get(prediction, -1) for prediction in predictions]

    def unreadable(self, golds: Sequence[str]) -> list[int]:
        """Return the indices of golds that no reading can be made of: no prediction could be compared with them.

        Raises:
            RuntimeError: If a worker does not start.
        """
        read = {gold: readable(gold) for gold in dict.fromkeys(golds)}
        with self._lock:
            verdicts = self._pool.run([(gold, None) for gold, is_read in read.items() if is_read is None])
        return [i for i, gold in enumerate(golds) if not (read[gold] or verdicts.get((gold, None)) is Verdict.CORRECT)]

    async def agrade(self, pairs: Sequence[tuple[str, str | None]]) -> list[Verdict]:
        """Return what `grade` does, the event loop running on meanwhile."""
        return await _in_thread(self.grade, pairs)

    async def agrade_texts(self, golds: Sequence[str], texts: Sequence[str]) -> list[Graded]:
        """Return what `grade_texts` does, the event loop running on meanwhile."""
        return await _in_thread(self.grade_texts, golds, texts)

    async def agroup(self, predictions: Sequence[str | None], gold: str | None = None) -> list[int]:
        """Return what `group` does, the event loop running on meanwhile."""
        return await _in_thread(self.group, predictions, gold)

    def close(self) -> None:
        """Kill the workers when they are idle; a later `grade` starts new ones. Safe to call twice."""
        with self._lock:
            self._pool.close()

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type["Grader"], tuple[int, float, Conventions]]:
        """Copy and pickle as a new grader with the same settings: processes and locks cannot travel."""
        return Grader, (self.num_workers, self.timeout, self.conventions)

    def _quick_verdict(self, index: int, gold: str, prediction: str | None) -> Verdict | None:
        """Return the verdict that is remembered or decided exactly, None where it takes a worker."""
        if prediction is None:
            verdict = Verdict.UNPARSEABLE
        else:
            verdict = self._memo.get((gold, prediction))
            if verdict is not None:
                return verdict
            verdict = exact_verdict(gold, prediction, self.conventions)
            if verdict is not None:
                self._remember({(gold, prediction): verdict})
        if not gold.strip():
            raise InputError(f"Expected a gold answer, but that of pair {index} is empty.")
        return verdict

    def _remember(self, verdicts: dict[Pair, Verdict]) -> None:
        if len(self._memo) + len(verdicts) > _MAX_MEMO:
            self._memo.clear()
        self._memo.update(verdicts)

    def _is_answer(self, prediction: str) -> bool:
        return exact_verdict(prediction, prediction, self.conventions) is not Verdict.UNPARSEABLE

    def _forget_workers(self) -> None:
        """Let go, in a forked process, of what belongs to the one that it was forked from."""
        self._lock = threading.RLock()  # it may have been held at the moment of the fork
        self._pool.close()


async def _in_thread(function, *arguments):
    import asyncio  # slow to import

    return await asyncio.to_thread(function, *arguments)


def _after_fork() -> None:
    for grader in list(_GRADERS):
        grader._forget_workers()


_GRADERS: weakref.WeakSet[Grader] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
