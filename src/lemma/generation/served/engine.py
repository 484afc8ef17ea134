"""The engine that draws from servers: the caller's side of the client, which runs in a thread of its own."""

import asyncio
import queue
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, Protocol

from lemma.encoding import ChatEncoder
from lemma.generation.draw import Drawing, Sample
from lemma.generation.engine import Request
from lemma.generation.served.args import ServedArgs
from lemma.generation.served.backoff import Backoff
from lemma.generation.served.errors import NonsenseError, OutageError, RefusalError, ServerError, SignalledError
from lemma.generation.served.loop import LoopThread
from lemma.generation.served.presence import Presence
from lemma.generation.served.wanted import Wanted
from lemma.policy import Policy

if TYPE_CHECKING:
    from lemma.generation.served.client import Client
    from lemma.generation.served.dialect import Dialect
    from lemma.generation.served.server import Server
    from lemma.generation.served.transport import Transport


_TICK = 0.25  # seconds between two looks at whether a signal came


class Weights(Protocol):
    """What the servers draw from."""

    def refresh(self, engine: "ServedEngine", policy: Policy) -> None:
        """Bring the policy as it is now to the servers; a collective call."""

    def rest(self, engine: "ServedEngine") -> None:
        """Let the servers rest until the next refresh; a collective call."""

    def name(self) -> str | None:
        """Return the model to ask for; None is the servers' base model."""

    async def restore(self, transport: "Transport") -> None:
        """Give that model to a server that has lost it; called in the engine's loop."""

    def close(self, engine: "ServedEngine") -> None:
        """Leave the servers as they were found."""


class BaseModel:
    """The servers' base model, whatever the policy."""

    def refresh(self, engine: "ServedEngine", policy: Policy) -> None:
        """Leave the servers as they are."""

    def rest(self, engine: "ServedEngine") -> None:
        """Leave the servers as they are."""

    def name(self) -> None:
        """Return None."""

    async def restore(self, transport: "Transport") -> None:
        """Do nothing, for nobody can."""

    def close(self, engine: "ServedEngine") -> None:
        """Do nothing."""


class ServedEngine:
    """Draws completions from OpenAI-compatible servers; see ``lemma.generation.Engine``.

    Nothing is asked before ``connect`` or the first ``draw``. Whatever waits for servers is ended by ``interrupt``.

    Args:
        args: Servers and limits.
        encoder: Whose prompts are drawn from; its tokenizer serves servers that take or give text.
        weights: What the servers draw from; None is their base model.
        backoff: Between tries.

    Attributes:
        presence: Which servers are away.
    """

    def __init__(
        self,
        args: ServedArgs,
        encoder: ChatEncoder,
        *,
        weights: Weights | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.args = args
        self.presence = Presence(min(args.patience, args.deadline))
        self._encoder = encoder
        self._weights = weights or BaseModel()
        self._backoff = backoff or Backoff()
        self._thread = LoopThread()
        self._client: Client | None = None
        self._vocab_size = 2**31
        self._signum: int | None = 0  # None once it is too late for a signal

    def refresh(self, policy: Policy) -> None:
        """Bring the policy as it is now to the servers, where the weights do that, and expect tokens of it only."""
        self._vocab_size = policy.causal_lm.config.get_text_config().vocab_size
        self._weights.refresh(self, policy)

    def rest(self) -> None:
        """Let the servers rest until the next refresh, where the weights do that; a collective call."""
        self._weights.rest(self)

    def connect(self) -> list[str]:
        """Find that at least one server answers and has the base model, and return the names that it goes by.

        Servers that are out of reach are waited for.

        Raises:
            ServerError: None does.
        """

        async def connect() -> list[str]:
            await self._here().connect()
            return sorted({server.base for server in self._here().servers if server.base is not None})

        return self._result(connect())

    def draw(self, requests: Sequence[Request], drawing: Drawing) -> Iterator[tuple[int, Sample]]:
        """Yield (number of the request, its completion) as they are finished; see ``Engine``.

        What is under way is cancelled when the iterator is closed.

        Raises:
            ServerError: A completion was given up; every one that is finished is yielded first.
            SignalledError: See ``interrupt``.
        """
        if not requests:
            return
        finished: queue.SimpleQueue = queue.SimpleQueue()

        async def run() -> None:
            end: Exception | None = ServerError("The engine was closed while it drew completions.")
            try:
                wanted = Wanted(self._weights.name(), drawing, self._vocab_size, self._weights.restore)
                await self._here().draw(requests, wanted, finished.put)
                end = None
            except Exception as error:
                end = error
            finally:
                finished.put(end)

        async def start() -> asyncio.Task:
            return asyncio.create_task(run())

        async def stop() -> None:
            task.cancel()
            await asyncio.wait([task])

        task = self._thread.submit(start()).result()
        try:
            while isinstance(found := self._next(finished), tuple):
                yield found
            if found is not None:
                raise found
        finally:
            if self._thread.running and not task.done():
                self._thread.submit(stop()).result()

    @property
    def dialects(self) -> dict[str, "Dialect | None"]:
        """Return how each server is spoken to, by URL; None where that is not known yet."""
        return {server.url: server.dialect for server in self._client.servers} if self._client else {}

    def post(self, path: str, payload: dict[str, Any], *, seconds: float = 60.0) -> list[tuple[str, str | Exception]]:
        """Send one message to every server, as for loading an adapter.

        Args:
            path: Below the base URL.
            payload: Sent as JSON.
            seconds: For each server's answer.

        Returns:
            For each server its URL and its answer, or the ``OutageError``, ``RefusalError`` or ``NonsenseError``.
        """

        async def send_all() -> list[tuple[str, str | Exception]]:
            servers = self._here().servers
            answers = await asyncio.gather(*(_try(server, path, payload, seconds) for server in servers))
            return [(server.url, answer) for server, answer in zip(servers, answers, strict=True)]

        return self._result(send_all())

    def pause(self, seconds: float) -> None:
        """Wait before the next try."""
        self._result(asyncio.sleep(seconds))

    def interrupt(self, signum: int) -> None:
        """Let what waits for servers, or is the next to do so, raise ``SignalledError``, once; for signal handlers."""
        if self._signum is not None:
            self._signum = signum

    def close(self) -> None:
        """Close all connections and end the thread; another draw would begin them anew."""
        self._signum = None
        if self._thread.running and self._client is not None:
            self._weights.close(self)
            self._result(self._client.close())
        self._client = None
        self._thread.close()
        self._signum = 0

    def _result(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what some work in the loop gives, unless a signal comes before."""
        future = self._thread.submit(work)
        try:
            while not wait([future], timeout=_TICK).done:
                self._heed_signal()
        finally:
            future.cancel()  # where it is not done
        return future.result()

    def _next(self, finished: queue.SimpleQueue) -> Any:
        """Return the next item, unless a signal comes before."""
        while True:
            self._heed_signal()
            try:
                return finished.get(timeout=_TICK)
            except queue.Empty:
                pass

    def _heed_signal(self) -> None:
        if self._signum:
            signum, self._signum = self._signum, None
            raise SignalledError(signum)

    def _here(self) -> "Client":
        """Return the client of the running loop: its connections belong to that, and not to a forked process."""
        from lemma.generation.served.client import Client  # an HTTP client, which the help does not need

        if self._client is None or self._client.loop is not asyncio.get_running_loop():
            self._client = Client(self.args, self._encoder.tokenizer, self._backoff, self.presence)
        return self._client


async def _try(server: "Server", path: str, payload: dict[str, Any], seconds: float) -> str | Exception:
    try:
        return await server.transport.send(path, payload, seconds=seconds)
    except (OutageError, RefusalError, NonsenseError) as error:
        return error
