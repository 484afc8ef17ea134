"""An event loop in a thread of its own: made when first used, gone after ``close``, made anew in a forked process."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any


class LoopThread:
    """Runs coroutines beside the caller's thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._process = 0

    @property
    def running(self) -> bool:
        """Return whether the thread runs in this process; a fork takes no threads along."""
        return self._thread is not None and self._process == os.getpid()

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future:
        """Start a coroutine in the loop, and the loop before it where there is none; return its future."""
        if not self.running:
            self._begin()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Cancel what still runs and end the thread; once more has no effect."""
        if self.running:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._loop = self._stop = self._thread = None

    def _begin(self) -> None:
        started = threading.Event()

        async def stay() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            started.set()
            await self._stop.wait()

        self._process = os.getpid()
        self._thread = threading.Thread(target=asyncio.run, args=(stay(),), name="served", daemon=True)
        self._thread.start()
        started.wait()
