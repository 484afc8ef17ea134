"""What a grading process does: symbolic verdicts, one pair after the other, until its pipe closes.

Started by `lemma.answers.grader` as ``python -m lemma.answers.worker FD TIMEOUT``.
"""

import faulthandler
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection

from lemma.answers.equivalence import symbolic_verdict

READY = "ready"
_MAX_MEMORY = 4 * 2**30  # bytes of address space: a tower of powers must not take the machine down
_WARM_UP = [(r"\frac{\sqrt{3}}{2}", r"\sqrt{3}/2"), ("(x+1)^2", "x^2+2x+1"), (r"\{1,2\}", r"\{2,1\}")]


def serve(connection: Connection, timeout: float) -> None:
    """Answer each (gold, prediction) with a verdict until the other end closes.

    Args:
        connection: The worker's end of the pipe; ``READY`` is sent over it when the imports are done.
        timeout: Time limit of a pair in seconds. The parent enforces it; after twice as long the process ends itself,
            so that none is left over when the parent was killed.
    """
    for gold, prediction in _WARM_UP:
        symbolic_verdict(gold, prediction)
    connection.send(READY)
    with open(os.devnull, "w") as devnull:
        while True:
            try:
                gold, prediction = connection.recv()
            except EOFError:
                return
            faulthandler.dump_traceback_later(2 * timeout + 1, exit=True, file=devnull)
            connection.send(symbolic_verdict(gold, prediction))
            faulthandler.cancel_dump_traceback_later()


def main() -> None:
    """Serve on the file descriptor given as the first argument, with the timeout given as the second."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    serve(Connection(int(sys.argv[1])), float(sys.argv[2]))


if __name__ == "__main__":
    main()
