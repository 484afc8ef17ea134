"""A small OpenAI-like server in a thread: what it answers is a brain's, and what goes wrong is told to it.

``with serve(brain, faults=…) as server`` runs it on a free port of 127.0.0.1. It has /v1/models, /v1/completions,
/v1/chat/completions, /v1/load_lora_adapter, /v1/unload_lora_adapter and /health, and records what it is asked.

Brains are in ``serving_brains``, faults in ``serving_faults``.
"""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from serving_brains import Brain, PolicyBrain, slow_brain, steady_brain
from serving_faults import Answer, Faults, cut, error, randomly, schedule, spoil

__all__ = ["Server", "randomly", "schedule", "serve", "serve_policy", "slow_brain", "steady_brain"]


@dataclass
class Server:
    """A running server, and what it was asked."""

    brain: Brain
    faults: Faults
    models: list[str]
    lacks: frozenset[str]
    hides: frozenset[str]
    key: str | None
    tokenizer: Any
    processed: bool
    url: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """(path, body) of every request that is no probe."""
    probes: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the probes, which the client tells by asking for ``probe_tokens`` tokens."""
    answered: list[tuple[dict[str, Any], list[int]]] = field(default_factory=list)
    """(body, ids) of completions that were sent whole."""
    headers: list[dict[str, str]] = field(default_factory=list)
    adapters: dict[str, str] = field(default_factory=dict)
    """Path of each adapter by name."""
    asleep: bool = False
    dead: bool = False
    in_flight: int = 0
    most_in_flight: int = 0
    health_checks: int = 0
    probe_tokens: int = 19

    def die(self) -> None:
        """Cut every connection from now on."""
        self.dead = True

    def revive(self) -> None:
        """Answer again."""
        self.dead = False

    def app(self) -> web.Application:
        """Return the routes."""
        app = web.Application(client_max_size=2**26, middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/v1/models", self._models),
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/load_lora_adapter", self._load),
                web.post("/v1/unload_lora_adapter", self._unload),
                web.post("/sleep", self._sleep),
                web.post("/wake_up", self._wake_up),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        if self.dead:
            return cut(request)
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return error(401, f"wrong key {request.headers.get('Authorization')}")
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await handler(request)
        finally:
            self.in_flight -= 1

    async def _health(self, _: web.Request) -> web.Response:
        self.health_checks += 1
        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        self.health_checks += 1
        if "models" in self.lacks:
            return error(404, "Not Found")
        rows = [{"id": name, "parent": None} for name in self.models]
        rows += [{"id": name, "parent": self.models[0]} for name in self.adapters]
        return web.json_response({"object": "list", "data": rows})

    async def _sleep(self, request: web.Request) -> web.Response:
        if "sleep" in self.lacks:
            return error(404, "Not Found")
        self.asleep = True
        return web.Response()

    async def _wake_up(self, request: web.Request) -> web.Response:
        if "sleep" in self.lacks:
            return error(404, "Not Found")
        self.asleep = False
        return web.Response()

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append((request.path, body))
        if body["lora_name"] in self.adapters and not body.get("load_inplace"):
            return error(400, f"The lora adapter '{body['lora_name']}' has already been loaded.")
        self.adapters[body["lora_name"]] = body["lora_path"]
        return web.Response(text=f"Success: LoRA adapter '{body['lora_name']}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append((request.path, body))
        if self.adapters.pop(body["lora_name"], None) is None:
            return error(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
        return web.Response(text=f"Success: LoRA adapter '{body['lora_name']}' removed successfully.")

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt = body["prompt"]
        kind = "text" if isinstance(prompt, str) else "tokens"
        if "completions" in self.lacks:
            return error(404, "Not Found")
        if refusal := self._refusal(body, {kind}):
            return refusal
        return await self._complete(request, body, self._encode(prompt) if kind == "text" else prompt)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if refusal := self._refusal(body, {"chat"}):
            return refusal
        return await self._complete(request, body, self._encode("\n".join(row["content"] for row in body["messages"])))

    def _refusal(self, body: dict[str, Any], used: set[str]) -> web.Response | None:
        """Return what says that a request has what this server lacks, or names no model of it."""
        if body["model"] not in (*self.models, *self.adapters):
            return error(404, f"The model `{body['model']}` does not exist.")
        if self.asleep:
            return error(400, "The server is asleep.")
        if not 0 <= (temperature := body.get("temperature", 1.0)) <= 2:  # vLLM's own bounds
            return error(400, f"temperature must be in [0, 2], but is {temperature}.")
        fields = {"seed": "seed", "logprobs": "logprobs", "temperature": "sampling", "max_tokens": "max_tokens"}
        used |= {feature for name, feature in fields.items() if name in body}
        used |= {"extras"} if {"top_k", "stop_token_ids", "return_token_ids"} & set(body) else set()
        lacking = sorted(used & self.lacks)
        return error(400, f"Unrecognized request argument: {', '.join(lacking)}") if lacking else None

    async def _complete(self, request: web.Request, body: dict[str, Any], ids: list[int]) -> web.StreamResponse:
        if body.get("echo"):
            logps = await self.brain.score(body["model"], ids)
            choice = {"index": 0, "text": "", "logprobs": {"token_logprobs": [None, *logps, -1.0]}}
            return web.json_response({"model": body["model"], "choices": [choice]})
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        if limit == self.probe_tokens:
            self.probes.append(body)
            return web.json_response(await self._answer(request.path, body, ids, body["model"]))
        number = len([path for path, _ in self.asked if path.endswith("completions")])
        self.asked.append((request.path, body))
        fault = self.faults(number)
        if fault == "stale" and len(self.adapters) > 1:
            names = list(self.adapters)
            answer = await self._answer(request.path, body, ids, names[max(names.index(body["model"]) - 1, 0)])
            answer["model"] = body["model"]
        else:
            answer = await self._answer(request.path, body, ids, body["model"])
        response = await spoil(request, fault, answer, self.die)
        if fault is None or fault == "stale":
            self.answered.append((body, answer["choices"][0].get("token_ids")))
        return response

    async def _answer(self, path: str, body: dict[str, Any], prompt_ids: list[int], model: str) -> Answer:
        found = self.brain(model, prompt_ids, body)
        ids, logps = await found if inspect.isawaitable(found) else found
        if self.processed and body.get("temperature"):
            logps = [each / body["temperature"] for each in logps]
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        stops = body.get("stop_token_ids") or [2]
        stopped = ids[-1] in stops
        choice: Answer = {"index": 0, "finish_reason": "stop" if stopped or len(ids) < limit else "length"}
        text = self._decode(ids[:-1] if stopped else ids)
        chat = path.endswith("chat/completions")
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if body.get("return_token_ids") and "ids" not in self.hides:
            choice |= {"token_ids": list(ids), "prompt_token_ids": prompt_ids}
        if body.get("logprobs") is not None and "logprobs" not in self.hides and not chat:
            named = body.get("return_tokens_as_token_ids") and "token-names" not in self.hides
            names = [f"token_id:{each}" if named else self._decode([each]) for each in ids]
            tops = [{name: logp} for name, logp in zip(names, logps, strict=True)]
            choice["logprobs"] = {"tokens": names, "token_logprobs": logps, "top_logprobs": tops}
        usage = {"prompt_tokens": len(prompt_ids) + 20 * ("dresses" in self.lacks), "completion_tokens": len(ids)}
        return {"model": model, "choices": [choice]} | ({} if "usage" in self.hides else {"usage": usage})

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"] if self.tokenizer else list(text.encode())

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids) if self.tokenizer else " ".join(map(str, ids))


@contextlib.contextmanager
def serve(
    brain: Brain = steady_brain,
    *,
    faults: Faults | None = None,
    models: list[str] | None = None,
    lacks: tuple[str, ...] = (),
    hides: tuple[str, ...] = (),
    key: str | None = None,
    tokenizer: Any = None,
    processed: bool = False,
) -> Iterator[Server]:
    """Run a server until the block ends.

    Args:
        brain: Draws completions.
        faults: Of each completion that is asked for, by number; None for none. Probes have none.
        models: Names of base models; ``["base"]`` if None.
        lacks: What it refuses: completions, tokens, text, chat, extras, logprobs, seed, sampling, max_tokens, models;
            with dresses it counts 20 prompt tokens more, as if it had put the prompt into a template.
        hides: What it leaves out of its answers: ids, token-names, logprobs, usage.
        key: What must be sent as a bearer token.
        tokenizer: For text; else text is its bytes, and ids are spelled in decimals.
        processed: Divide log-probabilities by the temperature.
    """
    server = Server(
        brain=brain,
        faults=faults or (lambda _: None),
        models=models or ["base"],
        lacks=frozenset(lacks),
        hides=frozenset(hides),
        key=key,
        tokenizer=tokenizer,
        processed=processed,
    )
    started = threading.Event()
    loop = asyncio.new_event_loop()

    async def start() -> None:
        runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    task = loop.create_task(start())
    thread = threading.Thread(target=run, name="serving", daemon=True)
    thread.start()
    try:
        assert started.wait(10)
        yield server
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)


@contextlib.contextmanager
def serve_policy(base: str = "tiny", **options: Any) -> Iterator[Server]:
    """Run a server that answers by the local engine with a base and the adapters that are loaded; see ``serve``."""
    brain = PolicyBrain(base)
    with serve(brain, **options) as server:
        brain.adapters = server.adapters
        yield server
