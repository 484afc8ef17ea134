"""What can go wrong with a server: what is tried again, what is tried again a few times, and what is not."""

from lemma.types import InputError

MESSAGE_LENGTH = 300
"""Characters of a server's own words in a message of ours."""


class ServerError(InputError):
    """Servers gave up on a completion, or cannot serve the run; names them, what was asked and what they said."""


class SignalledError(ServerError):
    """A signal ended a wait for servers.

    Args:
        signum: Of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"Signal {signum} ended the wait for servers.")
        self.signum = signum


class OutageError(Exception):
    """A try that failed for the server's reasons: another server, or the same one later, may answer.

    Args:
        reason: What happened.
        pause: Seconds that the server asks to be left alone, or None.
        status: Of HTTP; 0 where no answer came.
    """

    def __init__(self, reason: str, pause: float | None = None, status: int = 0) -> None:
        super().__init__(reason)
        self.pause = pause
        self.status = status


class NonsenseError(Exception):
    """An answer that came in time and is not what was asked for; tried again, but not for long."""


class RefusalError(Exception):
    """An answer that says that the request is wrong, and would be wrong again.

    Args:
        status: Of HTTP; 0 where no answer came.
        reason: The server's words.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def bounded(text: object) -> str:
    """Return a server's words on one line, printable, of bounded length and without a full stop."""
    words = " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 4 * MESSAGE_LENGTH]).split()).rstrip(
        "."
    )
    return words if len(words) <= MESSAGE_LENGTH else words[: MESSAGE_LENGTH - 1] + "…"
