"""A server's life: started in a process group of its own, waited for until it is healthy, ended with all it started."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from lemma.files import keep_previous
from lemma.types import InputError

GRACE = 20.0  # seconds between SIGTERM and SIGKILL
_LEASH = Path(__file__).with_name("leash.py")
_EVERY = 10.0  # seconds between two lines while it starts
_TAIL = 20  # lines of the log that a dead server's error shows


def free_port(host: str, port: int) -> int:
    """Return a port that nothing listens at: the one given, or any for 0.

    Args:
        host: Address to listen at.
        port: 0 to 65535.

    Raises:
        InputError: If the address does not exist here, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return probe.getsockname()[1]
    except OSError as error:
        raise InputError(f"--host, --port: cannot listen at {host}:{port}: {error}.") from error


class Server:
    """A server, and what it started.

    Args:
        command: What is run.
        environment: All of its variables.
        log: File for what it prints; one that is there is moved aside.
    """

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        keep_previous(log)
        leashed = [sys.executable, "-I", str(_LEASH), str(os.getpid()), *command]
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                leashed, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )

    def wait_until_healthy(self, url: str, *, timeout: float) -> float:
        """Wait until the server says that it is well, with a line now and then; return the seconds that it took.

        Args:
            url: Of the server, without a path.
            timeout: Seconds.

        Raises:
            InputError: If it dies, or is not up in time; shows the end of its log.
        """
        started, shown = time.monotonic(), _EVERY
        while not _is_healthy(url):
            seconds = time.monotonic() - started
            self._check_alive()
            if seconds > timeout:
                raise InputError(f"--start_timeout: not up after {timeout:.0f} s. {self._end_of_log()}")
            if seconds >= shown:
                print(f"  {seconds:4.0f} s", flush=True)
                shown += _EVERY
            time.sleep(0.25)
        return time.monotonic() - started

    def wait(self) -> None:
        """Wait until the server ends.

        Raises:
            InputError: When it does, by itself; shows the end of its log.
        """
        self._process.wait()
        self._check_alive()

    def stop(self) -> None:
        """End the whole group: SIGTERM, then SIGKILL for what is left."""
        try:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
        finally:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # nothing of the group is left
            os.killpg(self._process.pid, number)

    def _check_alive(self) -> None:
        if (status := self._process.poll()) is not None:
            raise InputError(f"the server ended with status {status}. {self._end_of_log()}")

    def _end_of_log(self) -> str:
        lines = self.log.read_text("utf-8", errors="replace").splitlines()[-_TAIL:]
        return "\n".join([f"The end of {self.log}:", *lines])


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP leave this block as Ctrl-C does, through its ``finally`` clauses."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/health", timeout=5) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False
