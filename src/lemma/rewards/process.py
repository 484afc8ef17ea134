"""Where users' reward functions run: a process that ends at a deadline and at a bound of its memory."""

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from lemma.answers.pool import DEADLINE_SIGNAL, READY, Child
from lemma.rewards.values import Failed, Value

WORKER_MODULE = "lemma.rewards.worker"

_START_TIMEOUT = 120.0  # seconds for an interpreter, and for each import of a user's module, on a machine under load
_PATIENCE = 4  # wall time limit of a call, in CPU time limits: for what sleeps or waits, or a machine that stands still


class RewardProcess:
    """Calls reward functions by their import paths, in another process; usable from any thread and after a fork.

    The process starts with the first call and stays until `close`, the end of a ``with`` block or of the interpreter;
    one that a call has ended is replaced by the next call. What a function prints goes to standard error.

    Args:
        timeout: Time limit of a call that has none of its own, in seconds of CPU time; in wall time it is four times as
            long.
        max_memory: Bytes that the process may reserve beyond what it holds when the function has been imported.

    Raises:
        ValueError: If a limit is not positive.
    """

    def __init__(self, timeout: float = 5.0, max_memory: int = 4 * 2**30) -> None:
        if timeout <= 0:
            raise ValueError(f"Expected `timeout` to be positive, but got {timeout}.")
        if max_memory <= 0:
            raise ValueError(f"Expected `max_memory` to be positive, but got {max_memory}.")
        self.timeout = timeout
        self.max_memory = max_memory
        self._children: list[Child] = []  # at most one; a list, so that the finalizer can hold it
        self._imported: set[str] = set()
        self._lock = threading.RLock()
        self._finalizer = weakref.finalize(self, _stop, self._children)
        _PROCESSES.add(self)

    def call(
        self, path: str, completions: Sequence[str], keywords: Mapping[str, Any], timeout: float | None = None
    ) -> list[Value] | Failed:
        """Return what a function says of completions, one value each, or why it says nothing.

        Args:
            path: The function's import path.
            completions: N texts.
            keywords: The columns and the options.
            timeout: The call's own time limit.

        Raises:
            RuntimeError: If the process does not start, or the function cannot be imported there.
        """
        with self._lock:
            try:
                child = self._child()
                self._import(child, path)
                return self._call(child, path, list(completions), dict(keywords), timeout or self.timeout)
            except BaseException:  # KeyboardInterrupt too: a late answer must not meet the next call
                self.close()
                raise

    def close(self) -> None:
        """Kill the process when it is idle; a later `call` starts a new one. Safe to call twice."""
        with self._lock:
            _stop(self._children)
            self._imported.clear()

    def __enter__(self) -> "RewardProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type["RewardProcess"], tuple[float, int]]:
        """Copy and pickle as a new one with the same limits: processes and locks cannot travel."""
        return RewardProcess, (self.timeout, self.max_memory)

    def _child(self) -> Child:
        """Return the running process; one that died while idle, or that another process started, is replaced."""
        if self._children and not self._children[0].is_running():
            self.close()
        if not self._children:
            child = Child(WORKER_MODULE, output=2)
            self._children.append(child)
            answer = self._ask(child, self.max_memory, _START_TIMEOUT)
            if answer != READY:
                raise RuntimeError(f"A process for rewards did not start: {answer.message}.")
        return self._children[0]

    def _import(self, child: Child, path: str) -> None:
        if path in self._imported:
            return
        answer = self._ask(child, (path, None, None, None), _START_TIMEOUT)
        if answer != READY:
            raise RuntimeError(f"rewards.{path}: it could not be imported in a process of its own: {answer.message}.")
        self._imported.add(path)

    def _call(
        self, child: Child, path: str, completions: list[str], keywords: dict[str, Any], timeout: float
    ) -> list[Value] | Failed:
        answer = self._ask(child, (path, completions, keywords, timeout), _PATIENCE * timeout)
        if isinstance(answer, Failed) and answer.kind in ("timed_out", "died"):
            self.close()
        return answer

    def _ask(self, child: Child, message: Any, patience: float) -> Any:
        """Return what the process answers, or how it ended, by itself or at the end of the patience (seconds)."""
        start = time.monotonic()
        with contextlib.suppress(OSError):  # it died while idle, which shows below
            child.connection.send(message)
        try:
            if child.connection.poll(patience):
                return child.connection.recv()
        except (EOFError, OSError):
            code = child.stop()
            if code == -DEADLINE_SIGNAL:
                return Failed("timed_out", f"it used up {patience / _PATIENCE:g} s of CPU time, its timeout")
            return Failed("died", f"its process ended with code {code} after {time.monotonic() - start:.1f} s")
        return Failed("timed_out", f"it had no answer after {patience:g} s, {_PATIENCE} times its timeout")

    def _forget(self) -> None:
        """Let go, in a forked process, of what belongs to the one that it was forked from."""
        self._lock = threading.RLock()  # it may have been held at the moment of the fork
        self.close()


def _stop(children: list[Child]) -> None:
    while children:
        children.pop().stop()


def _after_fork() -> None:
    for process in list(_PROCESSES):
        process._forget()


_PROCESSES: weakref.WeakSet[RewardProcess] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
