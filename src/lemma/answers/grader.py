"""Verdicts for many predictions, by processes that are killed at a deadline.

1. A pair that `exact_verdict` decides never leaves the calling process.
2. The rest goes to worker processes, one pair at a time, equal pairs once.
3. A worker that is not done at the deadline, or that dies, is replaced, and its pair's verdict is TIMEOUT.

A worker is a fresh interpreter that imports this package only. `multiprocessing` would import the caller's main module
into each worker (torch and all, or an unguarded script a second time) and refuse to work in daemonic processes.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import wait

from lemma.answers.equivalence import exact_verdict
from lemma.answers.extract import extract_answer
from lemma.types import InputError, Verdict

GRADER_VERSION = "1"  # to be raised with every change that can change a verdict; stands in result files

_START_TIMEOUT = 120.0  # seconds for a worker's imports, on a machine under load
_MAX_MEMO = 100_000  # pairs

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Graded:
    """A graded completion.

    Attributes:
        verdict: The verdict.
        prediction: The extracted answer, or None where there is none.
        strategy: The strategy that found it (`lemma.answers.extract`), or None.
    """

    verdict: Verdict
    prediction: str | None
    strategy: str | None


class Grader:
    """Grades predictions against golds; usable from any thread, one call at a time.

    A pair's verdict does not depend on what else is graded with it. Workers start with the first pair that needs one
    and stay until `close`, the end of a ``with`` block, or the end of the interpreter.

    Args:
        num_workers: Worker processes, at least 1.
        timeout: Time limit of one pair in a warm worker, in seconds.

    Attributes:
        num_timeouts: Pairs whose worker was killed at the deadline, so far.
        num_crashes: Pairs whose worker died, so far (out of memory, say); they too get ``Verdict.TIMEOUT``.

    Raises:
        ValueError: If ``num_workers < 1`` or ``timeout <= 0``.
    """

    def __init__(self, num_workers: int = 1, timeout: float = 3.0) -> None:
        if num_workers < 1:
            raise ValueError(f"Expected `num_workers` to be at least 1, but got {num_workers}.")
        if timeout <= 0:
            raise ValueError(f"Expected `timeout` to be positive, but got {timeout}.")
        self.num_workers = num_workers
        self.timeout = timeout
        self.num_timeouts = 0
        self.num_crashes = 0
        self._memo: dict[Pair, Verdict] = {}
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _stop_all, self._workers)

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
        verdicts: list[Verdict | None] = []
        for index, (gold, prediction) in enumerate(pairs):
            if not gold.strip():
                raise InputError(f"Expected a gold answer, but that of pair {index} is empty.")
            verdicts.append(Verdict.UNPARSEABLE if prediction is None else exact_verdict(gold, prediction))
        undecided = {pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict is None}
        if not undecided:
            return verdicts
        with self._lock:
            known = self._symbolic_verdicts(undecided)
        return [known[pair] if verdict is None else verdict for pair, verdict in zip(pairs, verdicts, strict=True)]

    def grade_texts(self, golds: Sequence[str], texts: Sequence[str]) -> list[Graded]:
        """Extract the answer of each text and grade it.

        Args:
            golds: The right answers.
            texts: As many completions.

        Raises:
            ValueError: If the two lengths differ.
            InputError: If a gold is empty.
        """
        if len(golds) != len(texts):
            raise ValueError(f"Expected as many `golds` as `texts`, but got {len(golds)} and {len(texts)}.")
        found = [extract_answer(text) for text in texts]
        verdicts = self.grade([(gold, e.answer if e else None) for gold, e in zip(golds, found, strict=True)])
        return [
            Graded(verdict, e.answer if e else None, e.strategy if e else None)
            for verdict, e in zip(verdicts, found, strict=True)
        ]

    def close(self) -> None:
        """Kill the workers; a later `grade` starts new ones. Safe to call twice and at interpreter exit."""
        _stop_all(self._workers)

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type["Grader"], tuple[int, float]]:
        """Copy and pickle as a new grader with the same settings: processes and locks cannot travel."""
        return Grader, (self.num_workers, self.timeout)

    def _symbolic_verdicts(self, pairs: set[Pair]) -> dict[Pair, Verdict]:
        """Return the verdict of each pair, from the memo or a worker."""
        known = {pair: self._memo[pair] for pair in pairs if pair in self._memo}
        try:
            fresh = self._run(sorted(pairs - known.keys()))
        except BaseException:  # KeyboardInterrupt too: a busy worker's late verdict must not meet the next pair
            self.close()
            raise
        if len(self._memo) + len(fresh) > _MAX_MEMO:
            self._memo.clear()
        # A timeout may be the machine's fault, so it is not remembered.
        self._memo.update((pair, verdict) for pair, verdict in fresh.items() if verdict != Verdict.TIMEOUT)
        return known | fresh

    def _run(self, pairs: list[Pair]) -> dict[Pair, Verdict]:
        """Send the pairs to the workers and collect the verdicts."""
        queue, verdicts = deque(pairs), {}
        self._workers[:] = [worker for worker in self._workers if worker.belongs_here()]
        while len(verdicts) < len(pairs):
            num_busy = sum(worker.pair is not None for worker in self._workers)
            while len(self._workers) < min(self.num_workers, num_busy + len(queue)):
                self._workers.append(_Worker(self.timeout))
            for worker in self._workers:
                if worker.ready and worker.pair is None and queue:
                    worker.send(queue.popleft())
            waiting = [worker for worker in self._workers if not worker.ready or worker.pair is not None]
            time_left = min(worker.deadline for worker in waiting) - time.monotonic()
            readable = wait([worker.connection for worker in waiting], max(time_left, 0.0))
            for worker in waiting:
                pair = worker.pair
                if worker.connection in readable:
                    verdict = worker.receive()
                elif time.monotonic() >= worker.deadline:
                    verdict = worker.give_up("timeout")
                else:
                    continue
                if pair is not None:
                    verdicts[pair] = verdict or Verdict.TIMEOUT
            self._bury()
        return verdicts

    def _bury(self) -> None:
        """Count the dead workers and drop them from the list."""
        for worker in [worker for worker in self._workers if worker.cause_of_death]:
            self.num_timeouts += worker.cause_of_death == "timeout"
            self.num_crashes += worker.cause_of_death == "crash"
            self._workers.remove(worker)


class _Worker:
    """The parent's handle on one worker process.

    Attributes:
        connection: The parent's end of the pipe.
        ready: Whether the imports are done.
        pair: The pair at work, or None.
        deadline: Monotonic time at which the process is killed, in seconds; for the imports, then for the pair.
        cause_of_death: ``timeout``, ``crash`` or, while it lives, None.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.ready = False
        self.pair: Pair | None = None
        self.cause_of_death: str | None = None
        self.connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lemma.answers.worker", str(theirs.fileno()), str(timeout)],
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,  # out of reach of the terminal's Ctrl-C
            )
        self._parent = os.getpid()
        self.deadline = time.monotonic() + _START_TIMEOUT

    def belongs_here(self) -> bool:
        """Return whether this very process started the worker; after a fork another one has."""
        return self._parent == os.getpid()

    def send(self, pair: Pair) -> None:
        """Give the worker a pair; the deadline counts from now."""
        self.pair = pair
        self.deadline = time.monotonic() + self.timeout
        with contextlib.suppress(OSError):  # it died while idle; `receive` will see that
            self.connection.send(pair)

    def receive(self) -> Verdict | None:
        """Return the verdict that has arrived; None if it was the ready signal or the worker has died."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            return self.give_up("crash")
        if not self.ready:
            self.ready = True
            return None
        self.pair = None
        return message

    def give_up(self, cause: str) -> None:
        """Kill the worker.

        Raises:
            RuntimeError: If it was still starting: that is no fault of a pair.
        """
        self.stop()
        self.cause_of_death = cause
        if not self.ready:
            raise RuntimeError(
                f"A grading worker did not start ({cause} after at most {_START_TIMEOUT:.0f} s). To see why, run "
                f"`{sys.executable} -c 'import lemma.answers.worker, math_verify'`."
            )

    def stop(self) -> None:
        """Kill the process and wait for its end."""
        self.connection.close()
        if self.belongs_here():
            self._process.kill()
            self._process.wait()


def _stop_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().stop()
