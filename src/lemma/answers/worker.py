"""What a grading process does: verdicts on the pairs that it is sent, one after the other, until its pipe closes.

Started by `lemma.answers.pool` as ``python -m lemma.answers.worker FD``.

The time limit of a pair is CPU time, which the kernel enforces by ending the process (``ITIMER_PROF``), inside of C
code too and whether or not the parent still lives. So a verdict does not depend on what else the machine does.
"""

import gc
import resource
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from lemma.answers.conventions import Conventions
from lemma.answers.equivalence import symbolic_verdict
from lemma.answers.pool import DEADLINE_SIGNAL, FAILED, READY, RETIRED
from lemma.answers.readable import symbolically_readable
from lemma.types import Verdict

_MAX_MEMORY = 2 * 2**30  # bytes of address space: a tower of powers must not take the machine down
_RETIREMENT = 512 * 2**20  # bytes of resident memory; SymPy's caches do not shrink
_WARM_UP = [  # one of each kind: what SymPy imports and builds on first use would be on a pair's time
    (r"\int x dx", r"\int \frac{2x}{2} dx"),
    (r"\theta \begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}\theta&2\theta\\3\theta&4\theta\end{pmatrix}"),
    ("x^2+y^2=1", "x^2-y^2=1"),
    ("1", "-[0,1)"),
    (r"\lim_{x\to 0}\frac{\sin x}{x}", "1"),
    (r"\gcd(2y,x)", "1"),
    ("42", "not a number"),
]


def serve(connection: Connection) -> None:
    """Answer each pair of each message until the other end closes.

    The first message is (seconds of CPU time a pair may take, `Conventions`), the others are lists of (gold,
    prediction). `READY` is sent when the imports are done; then a `Verdict` for each pair in turn, or `FAILED` where
    an exception came instead, and `RETIRED` before the process ends itself because it has grown.

    Args:
        connection: The worker's end of the pipe.
    """
    timeout, conventions = connection.recv()
    for gold, prediction in _WARM_UP:
        symbolic_verdict(gold, prediction, conventions)
    _restrict()
    gc.freeze()  # what is loaded now stays; no collection need look at it again
    connection.send(READY)
    while True:
        try:
            pairs = connection.recv()
        except EOFError:
            return
        for gold, prediction in pairs:
            connection.send(_verdict(gold, prediction, conventions, timeout))
            if _memory() > _RETIREMENT:
                connection.send(RETIRED)
                return


def _verdict(gold: str, prediction: str | None, conventions: Conventions, timeout: float) -> Verdict | str:
    """Return the verdict, from the same state of SymPy's random generator for each pair."""
    from sympy.core import random

    random.seed(0)
    signal.setitimer(signal.ITIMER_PROF, timeout)
    try:
        if prediction is None:
            return Verdict.CORRECT if symbolically_readable(gold) else Verdict.UNPARSEABLE
        return symbolic_verdict(gold, prediction, conventions)
    except Exception:  # whatever it is, the parent counts it and the next pair is to have its verdict
        return FAILED
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _restrict() -> None:
    """Bound the memory; no file may be written, and a crash leaves none."""
    for limit, value in (
        (resource.RLIMIT_AS, _MAX_MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))


def _memory() -> int:
    """Return the resident memory of this process in bytes, 0 where the system does not tell.

    Linux does. ``ru_maxrss`` would not do: a new process begins with that of the one that started it.
    """
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def listen() -> Connection:
    """Return the end of the pipe that the parent gave as the argument; signals are set as the parent expects."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    signal.signal(DEADLINE_SIGNAL, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [DEADLINE_SIGNAL])
    return Connection(int(sys.argv[1]))


def main() -> None:
    """Serve on the file descriptor given as the argument."""
    serve(listen())


if __name__ == "__main__":
    main()
