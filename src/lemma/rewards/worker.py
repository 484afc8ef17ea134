"""What a process for rewards does: it calls users' functions, one call after the other, until its pipe closes.

Started by `lemma.rewards.process` as ``python -m lemma.rewards.worker FD``.

The kernel ends the process when a call has used up its CPU time (``ITIMER_PROF``), inside of C code too; wall time is
the parent's to watch. If the parent dies, a call that waits for something is ended by a thread that watches for that.
"""

import os
import random
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lemma.answers.pool import READY
from lemma.answers.worker import listen
from lemma.rewards.registry import describe, reward_function
from lemma.rewards.values import Failed, Value, values_of


def serve(connection: Connection) -> None:
    """Answer each message until the other end closes.

    The first is the number of bytes a call may reserve, answered by `READY`. The others are (import path, completions,
    keywords, seconds of CPU time it may take), answered by the values or a `Failed`; without completions the function
    is only imported, answered by `READY` or a `Failed`.

    Args:
        connection: The worker's end of the pipe.
    """
    max_memory = connection.recv()
    connection.send(READY)
    while True:
        try:
            path, completions, keywords, timeout = connection.recv()
        except EOFError:
            return
        if completions is None:
            connection.send(_imported(path))
            _restrict(max_memory)
        else:
            connection.send(_called(path, completions, keywords, timeout))


def _imported(path: str) -> str | Failed:
    try:
        reward_function(path)
    except Exception as error:
        return Failed("raised", describe(error))
    return READY


def _called(path: str, completions: list[str], keywords: Mapping[str, Any], timeout: float) -> list[Value] | Failed:
    random.seed(0)  # the same for each call, whatever was called before
    signal.setitimer(signal.ITIMER_PROF, timeout)
    try:
        return values_of(reward_function(path)(completions=completions, **keywords), len(completions))
    except (Exception, SystemExit) as error:
        return Failed("raised", describe(error) + _place(error, path))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _place(error: BaseException, path: str) -> str:
    """Return the last line of the user's module that an error came through, and its file; of any if not of that."""
    _, *lines = ((frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__))
    own = sys.modules[path.rpartition(".")[0]].__file__
    last = ([each for each in lines if each[0] == own] or lines)[-1:]
    return "".join(f" ({file}:{line})" for file, line in last)


def _restrict(max_memory: int) -> None:
    """Bound the address space to what it is now and ``max_memory`` bytes; a crash leaves no file."""
    for limit, value in ((resource.RLIMIT_AS, _address_space() + max_memory), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _address_space() -> int:
    """Return the size of this process's address space in bytes, 0 where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[0]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Serve on the file descriptor given as the argument."""
    threading.Thread(target=_end_with_parent, args=[os.getppid()], daemon=True).start()
    serve(listen())


if __name__ == "__main__":
    main()
