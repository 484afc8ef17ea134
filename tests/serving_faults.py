"""What goes wrong at the tests' server: by number or by chance, and how an answer is spoiled.

A fault is one of ``FAULTS``, a function that changes an answer (a dict) or returns another in its place, or
(HTTP status, body) or (HTTP status, body, headers) to answer instead.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from aiohttp import web

FAULTS = ("hang", "429", "500", "cut", "malformed", "shape", "fewer", "wrong-model", "stale", "die")
Answer = dict[str, Any]
Fault = str | Callable[[Answer], Any] | tuple
Faults = Callable[[int], Fault | None]


def schedule(faults: dict[int, Fault]) -> Faults:
    """Return faults by the number of the completion that is asked for, from 0; probes do not count."""
    return faults.get


def randomly(chances: dict[Fault, float], *, seed: int) -> Faults:
    """Return faults that come with their probabilities, the same for the same seed and number."""

    def choose(number: int) -> Fault | None:
        draw = random.Random(f"{seed}/{number}").random()
        for fault, chance in chances.items():
            if (draw := draw - chance) < 0:
                return fault
        return None

    return choose


async def spoil(
    request: web.Request, fault: Fault | None, answer: Answer, die: Callable[[], None]
) -> web.StreamResponse:
    """Return the answer as a fault makes it.

    Args:
        request: What is answered.
        fault: What goes wrong; None is nothing, and a stale answer is made by who asks the brain.
        answer: The right one.
        die: Ends the server.
    """
    if callable(fault):
        changed = fault(answer)
        if isinstance(changed, bytes | str):
            raw = changed if isinstance(changed, bytes) else changed.encode()
            return web.Response(body=raw, content_type="application/json")
        return web.json_response(answer if changed is None else changed)
    if isinstance(fault, tuple):
        status, body, *headers = fault
        return web.json_response(body, status=status, headers=headers[0] if headers else None)
    if fault == "hang":
        await asyncio.sleep(3600)
    if fault == "429":
        return error(429, "Too many requests", {"Retry-After": "0.02"})
    if fault == "500":
        return error(500, "Internal server error")
    if fault == "die":
        die()
        return cut(request)
    if fault == "cut":
        response = web.StreamResponse(headers={"Content-Length": "10000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        request.transport.close()
        return response
    if fault == "malformed":
        return web.Response(text='{"choices": [{"text": ')
    if fault == "shape":
        return web.json_response({"result": "ok"})
    if fault == "wrong-model":
        answer["model"] = "another"
    if fault == "fewer":
        answer["choices"][0]["token_ids"].pop()
    return web.json_response(answer)


def cut(request: web.Request) -> web.Response:
    """Break off a connection."""
    request.transport.abort()
    return web.Response()


def error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """Return an error as OpenAI's API and vLLM write it."""
    return web.json_response({"error": {"message": message, "code": status}}, status=status, headers=headers)
