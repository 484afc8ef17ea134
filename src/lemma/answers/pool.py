"""Which process grades which pair, and what happens when one does not come back.

A worker is a fresh interpreter that imports this package only. `multiprocessing` would import the caller's main module
into each worker (torch and all, or an unguarded script a second time) and refuse to work in daemonic processes.

A worker holds a few pairs at a time, so that it need not wait for the parent, and answers them in turn; when it ends,
the first unanswered pair is the one that it ended on, and the others go to another worker.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import wait

from lemma.answers.conventions import Conventions
from lemma.types import Verdict

Pair = tuple[str, str | None]  # gold and prediction; with None, is the gold an answer? (CORRECT or UNPARSEABLE)

WORKER_MODULE = "lemma.answers.worker"

# What a worker says besides verdicts:
READY = "ready"
RETIRED = "retired"
FAILED = "failed"

DEADLINE_SIGNAL = signal.SIGPROF  # by which the kernel ends a worker whose pair has used up its CPU time

_START_TIMEOUT = 120.0  # seconds for a worker's imports, on a machine under load
_END_TIMEOUT = 5.0  # seconds for the end of a process that has closed its pipe
_PATIENCE = 10  # wall time limit of a pair, in CPU time limits: only a machine that stands still comes to it
_MAX_HELD = 8  # pairs


class Pool:
    """Worker processes that are killed at a deadline and replaced. One `run` at a time.

    Args:
        num_workers: Processes at most; they start when there is something to do.
        timeout: Time limit of one pair in seconds of the worker's CPU time.
        conventions: How strictly to compare.

    Attributes:
        num_timeouts: Workers that ended at a pair's time limit, so far.
        num_crashes: Workers that died and comparisons that failed for any other reason (out of memory, say), so far.
    """

    def __init__(self, num_workers: int, timeout: float, conventions: Conventions) -> None:
        self._num_workers = num_workers
        self._timeout = timeout
        self._conventions = conventions
        self.num_timeouts = 0
        self.num_crashes = 0
        self.workers: list[Worker] = []

    def run(self, pairs: Iterable[Pair]) -> dict[Pair, Verdict]:
        """Return the verdict of each pair; TIMEOUT where none can be had in time or in memory.

        Using up the CPU time is final. Whatever else ends a worker may be the machine's fault, so that its pair is
        tried a second time.

        Raises:
            RuntimeError: If a worker does not start.
        """
        try:
            return self._run(deque(pairs))
        except BaseException:  # KeyboardInterrupt too: a busy worker's late verdict must not meet the next pair
            self.close()
            raise

    def close(self) -> None:
        """Kill the workers; a later `run` starts new ones. Safe to call twice and at interpreter exit."""
        while self.workers:
            self.workers.pop().stop()

    def _run(self, queue: deque[Pair]) -> dict[Pair, Verdict]:
        verdicts: dict[Pair, Verdict] = {}
        num_deaths: Counter[Pair] = Counter()
        num_pairs = len(queue)
        self._bury_idle()
        while len(verdicts) < num_pairs:
            self._hand_out(queue)
            for worker in self._wait():
                for pair, verdict in worker.receive():
                    self.num_crashes += verdict is None
                    verdicts[pair] = verdict or Verdict.TIMEOUT
                if worker.end is not None:
                    self._replace(worker, queue, num_deaths, verdicts)
        return verdicts

    def _replace(
        self, worker: "Worker", queue: deque[Pair], num_deaths: Counter[Pair], verdicts: dict[Pair, Verdict]
    ) -> None:
        """Count an ended worker and see to its pairs; `_hand_out` starts another one."""
        self.workers.remove(worker)
        self.num_timeouts += worker.end in ("cpu", "wall")
        self.num_crashes += worker.end == "crash"
        if worker.held and worker.end != "retired":
            culprit = worker.held[0]
            num_deaths[culprit] += 1
            if worker.end == "cpu" or num_deaths[culprit] > 1:
                verdicts[worker.held.popleft()] = Verdict.TIMEOUT
        queue.extendleft(reversed(worker.held))

    def _bury_idle(self) -> None:
        """Drop workers that another process started (after a fork) or that died with nothing to do."""
        for worker in [worker for worker in self.workers if not worker.is_running()]:
            worker.stop()
            self.workers.remove(worker)

    def _hand_out(self, queue: deque[Pair]) -> None:
        """Start workers where there is work for more, and give every worker its share."""
        num_idle = sum(not worker.held for worker in self.workers)
        for _ in range(min(self._num_workers - len(self.workers), len(queue) - num_idle)):
            self.workers.append(Worker(self._timeout, self._conventions))
        share = -(-len(queue) // max(len(self.workers), 1))
        for worker in self.workers:
            if queue and worker.ready and len(worker.held) <= _MAX_HELD // 2:
                size = min(_MAX_HELD - len(worker.held), max(share, 1), len(queue))
                worker.send([queue.popleft() for _ in range(size)])

    def _wait(self) -> Sequence["Worker"]:
        """Return the workers that have something to say, or whose time is up."""
        waiting = [worker for worker in self.workers if not worker.ready or worker.held]
        time_left = min(worker.deadline for worker in waiting) - time.monotonic()
        readable = wait([worker.connection for worker in waiting], max(time_left, 0.0))
        now = time.monotonic()
        return [worker for worker in waiting if worker.connection in readable or now >= worker.deadline]


class Child:
    """The parent's handle on a process that runs one module, with a pipe between them.

    The module's argument is the file descriptor of its end of the pipe.

    Args:
        module: What ``python -m`` runs.
        output: File descriptor for what it prints.

    Attributes:
        connection: The parent's end of the pipe.
    """

    def __init__(self, module: str, output: int = subprocess.DEVNULL) -> None:
        self.connection, theirs = Pipe()
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)  # with -P, in the same order there
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "0"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # out of reach of the terminal's Ctrl-C
            )
        self._parent = os.getpid()

    def is_running(self) -> bool:
        """Return whether the process lives and is this process's own; after a fork it is another one's."""
        return self._parent == os.getpid() and self._process.poll() is None

    def stop(self) -> int | None:
        """Kill the process and those that it started, if it is this one's own, and return the code that it ended with.

        Where it was ending by itself, the code is its own.
        """
        self.connection.close()
        if self._parent != os.getpid():
            return None
        if self._process.returncode is None:  # not waited for, so that the number is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()


class Worker(Child):
    """The parent's handle on one grading process.

    Attributes:
        connection: The parent's end of the pipe.
        ready: Whether the imports are done.
        held: The pairs that it has been given and has not answered, the one at work first.
        deadline: Monotonic time at which the process is killed, in seconds; for the imports, then for a pair.
        end: None while it lives, then why it ended: ``cpu`` (a pair used up its CPU time), ``wall`` (it was killed at
            ``deadline``), ``retired`` (it had grown) or ``crash``.
    """

    def __init__(self, timeout: float, conventions: Conventions) -> None:
        super().__init__(WORKER_MODULE)
        self._timeout = timeout
        self.ready = False
        self.held: deque[Pair] = deque()
        self.end: str | None = None
        self._retired = False
        self.deadline = time.monotonic() + _START_TIMEOUT
        self.connection.send((timeout, conventions))

    def send(self, pairs: list[Pair]) -> None:
        """Give the worker more pairs."""
        if not self.held:
            self._start_clock()
        self.held.extend(pairs)
        with contextlib.suppress(OSError):  # it died while idle; `receive` will see that
            self.connection.send(pairs)

    def receive(self) -> list[tuple[Pair, Verdict | None]]:
        """Return the verdicts that have arrived, None for a comparison that failed; see whether the worker ended.

        Raises:
            RuntimeError: If it ended while it was starting: that is no fault of a pair.
        """
        verdicts: list[tuple[Pair, Verdict | None]] = []
        try:
            while self.connection.poll():
                message = self.connection.recv()
                self._start_clock()
                if message == READY:
                    self.ready = True
                elif message == RETIRED:
                    self._retired = True
                else:
                    verdicts.append((self.held.popleft(), None if message == FAILED else message))
        except (EOFError, OSError):
            self._ended()
        else:
            if time.monotonic() >= self.deadline:
                self._ended()
        return verdicts

    def _start_clock(self) -> None:
        self.deadline = time.monotonic() + _PATIENCE * self._timeout

    def _ended(self) -> None:
        """Note why the process ended, or end it.

        Raises:
            RuntimeError: If it was still starting.
        """
        past_deadline = time.monotonic() >= self.deadline
        if not past_deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_TIMEOUT)  # it is ending by itself: its end of the pipe is closed
        self.stop()
        if not self.ready:
            raise RuntimeError(
                f"A grading worker did not start ({_START_TIMEOUT:.0f} s are allowed). To see why, run "
                f"`{sys.executable} -c 'import lemma.answers.worker, math_verify'`."
            )
        if self._retired:
            self.end = "retired"
        elif self._process.returncode == -DEADLINE_SIGNAL:
            self.end = "cpu"
        else:
            self.end = "wall" if past_deadline else "crash"
