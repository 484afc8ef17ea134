"""Decides how long servers that do not answer are waited for; says once that one is away, and once that it is back."""

from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_info

from lemma.generation.served.errors import OutageError

FIRST_PATIENCE = 20.0
"""Seconds to wait at most before any server has answered: the URL is mostly mistyped then."""


class Presence:
    """Which servers are away, as far as the user was told.

    Args:
        patience: Seconds to wait for any server, once one has answered.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._any_answered = False
        self._away: set[str] = set()

    @property
    def patience(self) -> float:
        """Return the seconds to wait for any server."""
        return self._patience if self._any_answered else min(self._patience, FIRST_PATIENCE)

    def note(self, answers: Sequence[tuple[str, object]]) -> None:
        """Note what each server answered, by URL: an ``OutageError``, or anything else."""
        out = [(url, answer) for url, answer in answers if isinstance(answer, OutageError)]
        for url, answer in answers:
            if not isinstance(answer, OutageError):
                self.answered(url)
        for url, error in out:
            self.missed(url, error, others=len(out) < len(answers))

    def missed(self, url: str, error: Exception, *, others: bool) -> None:
        """Note that a server cannot be asked.

        Args:
            url: Of the server.
            error: Why.
            others: Whether there are servers that can.
        """
        status = getattr(error, "status", None)
        self._any_answered |= status != 0
        if url in self._away:
            return
        self._away.add(url)
        reason = "model.served.patience" if self._any_answered else "no server has answered yet"
        then = "the others are asked until it does" if others else f"waiting up to {self.patience:.0f} s ({reason})"
        rank_zero_info(f"{url} {'cannot serve' if status != 0 else 'does not answer'} ({error}); {then}")

    def answered(self, url: str) -> None:
        """Note that a server can be asked."""
        self._any_answered = True
        if url in self._away:
            self._away.discard(url)
            rank_zero_info(f"{url} is back")
