"""Which server takes the next request: a healthy one with the fewest in flight; an ill one is checked until back."""

import asyncio
import time
from dataclasses import dataclass

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lemma.generation.engine import Request
from lemma.generation.served.backoff import Backoff
from lemma.generation.served.errors import NonsenseError, OutageError, RefusalError
from lemma.generation.served.presence import Presence
from lemma.generation.served.server import Server
from lemma.generation.served.wanted import Wanted

UNHEALTHY_AFTER = 3
"""Failures in a row after which a server gets no more requests until it passes a check."""
LONGEST_PAUSE = 60.0
"""Seconds that a server may ask to be left alone."""


@dataclass(eq=False)
class Member:
    """A server, and how it does."""

    server: Server
    ready: bool = False
    """Whether it passed its last check and has not failed too often since."""
    in_flight: int = 0
    failures: int = 0
    """In a row."""
    not_before: float = 0.0
    """Time of ``time.monotonic`` until which it asked to be left alone."""
    refused: bool = False
    """Whether it can never serve this draw."""
    said: str = "not asked yet"
    """Its last failure."""
    announced: list[str] | None = None
    """Adaptations that were said."""


class Pool:
    """Lends servers to requests, for one draw after the other.

    Args:
        servers: All of them.
        max_in_flight: Requests under way at each.
        presence: Which servers are away, and how long to wait for any to be healthy.
        backoff: Between checks of one that is not.
    """

    def __init__(self, servers: list[Server], max_in_flight: int, presence: Presence, backoff: Backoff) -> None:
        self.members = [Member(server) for server in servers]
        self._max_in_flight = max_in_flight
        self._presence = presence
        self._backoff = backoff
        self._changed = asyncio.Event()
        self._checks: dict[Member, asyncio.Task] = {}
        self._wanted: tuple[Wanted, Request] | None = None
        self._last_ready = 0.0

    def open(self, wanted: Wanted, request: Request) -> None:
        """Begin a draw: check every server that is not known to be healthy, by a request like this."""
        self._wanted = wanted, request
        self._last_ready = time.monotonic()
        for member in self.members:
            member.refused = False
            if not member.ready:
                self._watch(member)

    def stop(self) -> None:
        """End a draw: check no more."""
        for task in self._checks.values():
            task.cancel()
        self._checks.clear()

    async def lease(self, avoid: Member | None, until: float | None) -> Member:
        """Return a server with room for a request, which ``give_back`` ends.

        Args:
            avoid: Taken only if no other has room.
            until: Time of ``time.monotonic`` at which the completion's deadline is over; None if it was not yet tried.

        Raises:
            OutageError: None was healthy for ``patience``, or the time is over.
            RefusalError: None ever will be.
        """
        while True:
            free = [member for member in self.members if self._has_room(member)]
            if free:
                taken = min(free, key=lambda member: (member is avoid, member.in_flight))
                taken.in_flight += 1
                return taken
            for check in self._checks.values():
                if check.done():
                    check.result()  # raises what it did not expect
            if all(member.refused for member in self.members):
                raise RefusalError(0, "no server can serve this run")
            await self._wait(until)

    def give_back(self, member: Member) -> None:
        """End a lease."""
        member.in_flight -= 1
        self._wake()

    def succeeded(self, member: Member) -> None:
        """Note an answer."""
        member.failures = 0

    def failed(self, member: Member, error: OutageError | NonsenseError) -> None:
        """Note a failure; a server that asks for a pause gets it, and is not taken for ill."""
        member.said = str(error)
        if isinstance(error, OutageError) and error.pause is not None:
            seconds = min(error.pause, LONGEST_PAUSE)
            member.not_before = max(member.not_before, time.monotonic() + seconds)
            asyncio.get_running_loop().call_later(seconds, self._wake)
            return
        member.failures += 1
        if member.ready and member.failures >= UNHEALTHY_AFTER:
            self._leave_out(member, error)

    def refused(self, member: Member, error: RefusalError, *, lost: bool) -> None:
        """Note a refusal; a server that lost the model, or forgot the key, is checked for whether that stays so."""
        member.said = str(error)
        if lost and member.ready:
            self._leave_out(member, error)

    def _leave_out(self, member: Member, error: Exception) -> None:
        member.ready = False
        self._miss(member, error)
        self._last_ready = time.monotonic()
        self._watch(member)

    def _has_room(self, member: Member) -> bool:
        return member.ready and member.in_flight < self._max_in_flight and time.monotonic() >= member.not_before

    async def _wait(self, until: float | None) -> None:
        """Wait until something changes, or there is no use in waiting."""
        if any(member.ready for member in self.members):
            self._last_ready = time.monotonic()
        last = self._last_ready + self._presence.patience
        left = (last if until is None else min(last, until)) - time.monotonic()
        if left <= 0:
            raise OutageError("no server is healthy" if until is None or last < until else "the deadline is over")
        try:
            async with asyncio.timeout(left):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _watch(self, member: Member) -> None:
        if member not in self._checks or self._checks[member].done():
            self._checks[member] = asyncio.create_task(self._check(member))
            self._checks[member].add_done_callback(lambda _: self._wake())

    async def _check(self, member: Member) -> None:
        """Check a server until it is ready or refuses."""
        failures = 0
        while not (member.ready or member.refused):
            try:
                await member.server.prepare(*self._wanted)
                member.ready, member.failures = True, 0
                self._presence.answered(member.server.url)
                self._announce(member)
            except RefusalError as error:
                member.said, member.refused = str(error), True
            except (OutageError, NonsenseError) as error:
                member.said = str(error)
                failures += 1
                self._miss(member, error)
                await asyncio.sleep(self._backoff.seconds(failures))

    def _miss(self, member: Member, error: Exception) -> None:
        self._presence.missed(member.server.url, error, others=any(each.ready for each in self.members))

    def _announce(self, member: Member) -> None:
        """Say once how a server's answers are adapted."""
        said = member.server.dialect.adaptations
        if said and said != member.announced:
            rank_zero_warn(f"Server {member.server.url}: {'; '.join(said)}.")
        elif not said and member.announced is None:
            rank_zero_info(f"Server {member.server.url}: tokens in, tokens and log-probabilities out.")
        member.announced = said
