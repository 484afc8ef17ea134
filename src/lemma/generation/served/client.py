"""Many completions at once: what is tried again, for how long, and what is said when it is over."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence

import aiohttp
from transformers import PreTrainedTokenizerBase

from lemma.generation.draw import Sample
from lemma.generation.engine import Request
from lemma.generation.served.args import ServedArgs
from lemma.generation.served.backoff import Backoff
from lemma.generation.served.errors import NonsenseError, OutageError, RefusalError, ServerError
from lemma.generation.served.pool import Member, Pool
from lemma.generation.served.presence import Presence
from lemma.generation.served.server import Server
from lemma.generation.served.transport import UNAUTHORISED, Transport, new_session
from lemma.generation.served.wanted import Wanted

NONSENSE_TRIES = 5
"""Answers that are not what was asked for, after which a completion is given up."""
_LOST = (404, *UNAUTHORISED)  # what a server that was restarted says of an adapter, or of a key
_ADVICE = (
    "Check that the servers run, that model.served.urls, model and api_key_env fit them, and that "
    "request_timeout and deadline suit the longest completion; what was finished is kept."
)


class Client:
    """Draws completions from servers; lives in one event loop.

    Args:
        args: Servers and limits.
        tokenizer: For servers that take or give text.
        backoff: Between tries.
        presence: Which servers are away.
    """

    def __init__(
        self, args: ServedArgs, tokenizer: PreTrainedTokenizerBase, backoff: Backoff, presence: Presence
    ) -> None:
        self._draws: set[asyncio.Task] = set()
        self.loop = asyncio.get_running_loop()
        key = os.environ.get(args.api_key_env) or None
        self._args = args
        self._backoff = backoff
        self._presence = presence
        self._session: aiohttp.ClientSession = new_session(key)
        urls = [url.rstrip("/") for url in args.urls]
        transports = [Transport(self._session, url, key, args.api_key_env) for url in urls]
        self.servers = [Server(way, args, tokenizer, url) for way, url in zip(transports, urls, strict=True)]
        self._pool = Pool(self.servers, args.max_in_flight, presence, backoff)

    async def close(self) -> None:
        """Cancel what is under way and close all connections."""
        for draw in self._draws:
            draw.cancel()
        await asyncio.gather(*self._draws, return_exceptions=True)
        await self._session.close()

    async def connect(self) -> None:
        """Find that at least one server answers and has the base model; those out of reach are waited for.

        Raises:
            ServerError: None does.
        """
        begin, failures = time.monotonic(), 0
        while None not in (tries := await self._check_models()):
            failures += 1
            pause = self._backoff.seconds(failures)
            is_over = time.monotonic() + pause > begin + self._presence.patience
            if is_over or not any(isinstance(error, OutageError) for error in tries):
                lines = "".join(f"\n  {server.url}: {said}" for server, said in zip(self.servers, tries, strict=True))
                raise ServerError(f"No server is ready.{lines}\n{_ADVICE}")
            await asyncio.sleep(pause)

    async def _check_models(self) -> list[Exception | None]:
        """Return what keeps each server from drawing of the base model; None is nothing."""
        tries = await asyncio.gather(*(server.check_model(None) for server in self.servers), return_exceptions=True)
        for error in tries:
            if error is not None and not isinstance(error, OutageError | NonsenseError | RefusalError):
                raise error
        self._presence.note([(server.url, said) for server, said in zip(self.servers, tries, strict=True)])
        return tries

    async def draw(
        self,
        requests: Sequence[Request],
        wanted: Wanted,
        put: Callable[[tuple[int, Sample]], None],
    ) -> None:
        """Give each completion to ``put`` as it is finished.

        Once one is given up no other is begun, but those under way are finished.

        Args:
            requests: At least one.
            wanted: How all are drawn.
            put: Takes (number of the request, completion).

        Raises:
            ServerError: One was given up.
        """
        jobs, given_up, done = iter(enumerate(requests)), [], 0

        async def work() -> None:
            nonlocal done
            for number, request in jobs:
                if given_up:
                    return
                try:
                    sample = await self._complete(request, wanted)
                except (OutageError, NonsenseError, RefusalError) as error:
                    given_up.append(error)
                    return
                done += 1
                put((number, sample))

        self._draws.add(asyncio.current_task())
        self._pool.open(wanted, requests[0])
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(requests), len(self.servers) * self._args.max_in_flight)):
                    group.create_task(work())
        finally:
            self._pool.stop()
            self._draws.discard(asyncio.current_task())
        if given_up:
            raise self._error(given_up[0], done, len(requests))

    async def _complete(self, request: Request, wanted: Wanted) -> Sample:
        """Return one completion, after as many tries as its deadline allows."""
        member: Member | None = None
        until: float | None = None
        failures = nonsense = 0
        while True:
            member = await self._pool.lease(member, until)
            until = until or time.monotonic() + self._args.deadline
            try:
                left = max(until - time.monotonic(), 0.001)
                sample = await member.server.complete(request, wanted, min(left, self._args.request_timeout))
                self._pool.succeeded(member)
                return sample
            except RefusalError as error:
                self._pool.refused(member, error, lost=error.status in _LOST)
                if error.status not in _LOST:
                    raise
            except (OutageError, NonsenseError) as error:
                self._pool.failed(member, error)
                nonsense += isinstance(error, NonsenseError)
                if nonsense >= NONSENSE_TRIES or time.monotonic() >= until:
                    raise
            finally:
                self._pool.give_back(member)
            failures += 1
            await asyncio.sleep(min(self._backoff.seconds(failures), max(until - time.monotonic(), 0.0)))

    def _error(self, reason: Exception, done: int, total: int) -> ServerError:
        lines = "".join(f"\n  {each.server.url}: {each.said}" for each in self._pool.members)
        return ServerError(
            f"Served completions: {done} of {total} are finished, and one was given up: {reason}. "
            f"The servers' last failures:{lines}\n{_ADVICE}"
        )
