"""What the tests' server answers: a brain is called with (model, prompt_ids, body), and returns (ids, logps).

It may return an awaitable of them instead.
"""

import asyncio
import collections
import hashlib
import random
from collections.abc import Callable
from typing import Any

Brain = Callable[[str, list[int], dict[str, Any]], Any]


def steady_brain(model: str, prompt_ids: list[int], body: dict[str, Any]) -> tuple[list[int], list[float]]:
    """Return a completion of up to a dozen tokens that prompt and seed decide, ended by the first stop token."""
    name = f"{prompt_ids}/{body.get('seed')}/{body.get('temperature') == 0}"
    draw = random.Random(hashlib.sha256(name.encode()).digest())
    limit = body.get("max_tokens") or body["max_completion_tokens"]
    stops = body.get("stop_token_ids") or [2]
    ids = [draw.randrange(20, 300) for _ in range(draw.randrange(1, 12))] + stops[:1]
    ids = ids[:limit]
    return ids, [-3 * draw.random() for _ in ids]


async def slow_brain(model: str, prompt_ids: list[int], body: dict[str, Any]) -> tuple[list[int], list[float]]:
    """Return what the steady brain says, after a tenth of a second."""
    await asyncio.sleep(0.1)
    return steady_brain(model, prompt_ids, body)


class PolicyBrain:
    """Answers by the local engine with the tiny policy, and with adapters by their folders.

    Completions that are asked for together are drawn together, in a thread of the brain's own.

    Args:
        base: Name or folder of the base model.
    """

    def __init__(self, base: str = "tiny") -> None:
        self.adapters: dict[str, str] = {}  # path by name, the server's own; set by ``serve_policy``
        self._base = base
        self._policies: dict[str | None, Any] = {}
        self._waiting: dict[Any, list[tuple[list[int], int | None, asyncio.Future]]] = collections.defaultdict(list)
        self._lock = asyncio.Lock()

    async def __call__(self, model: str, prompt_ids: list[int], body: dict[str, Any]) -> tuple[list[int], list[float]]:
        """Return what the policy of that name draws."""
        greedy = body.get("temperature") == 0
        kind = (
            self.adapters.get(model),
            1.0 if greedy else body.get("temperature", 1.0),
            1.0 if greedy else body.get("top_p", 1.0),
            body.get("max_tokens") or body["max_completion_tokens"],
            tuple(body.get("stop_token_ids") or [2]),
        )
        mine = asyncio.get_running_loop().create_future()
        self._waiting[kind].append((prompt_ids, None if greedy else body.get("seed", 0), mine))
        await asyncio.sleep(0.005)  # for others to come
        await asyncio.shield(self._draw_waiting(kind))  # others wait for it too
        return await mine

    async def _draw_waiting(self, kind: Any) -> None:
        async with self._lock:
            rows = self._waiting.pop(kind, [])
            samples = await asyncio.to_thread(self._draw, kind, rows) if rows else []
            for (*_, waiting), sample in zip(rows, samples, strict=True):
                if not waiting.done():
                    waiting.set_result((sample.ids, sample.logps))

    def _draw(self, kind: Any, rows: list[Any]) -> list[Any]:
        from lemma.generation import sample_groups

        path, temperature, top_p, max_new_tokens, stop_ids = kind
        groups = sample_groups(
            self._policy(path).model,
            [prompt for prompt, *_ in rows],
            [[seed] for _, seed, _ in rows],
            stop_ids=list(stop_ids),
            pad_id=0,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
        )
        return [sample for [sample] in groups]

    async def score(self, model: str, ids: list[int]) -> list[float]:
        """Return the log-probability of each token but the first under the policy of that name."""
        async with self._lock:
            return await asyncio.to_thread(self._score, self.adapters.get(model), ids)

    def _score(self, path: str | None, ids: list[int]) -> list[float]:
        import torch

        with torch.no_grad():
            logps = self._policy(path).model.eval()(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        return logps.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()

    def _policy(self, adapter: str | None) -> Any:
        from lemma.policy import Policy, PolicyArgs

        if adapter not in self._policies:
            method = "full" if adapter is None else "lora"
            self._policies[adapter] = Policy(PolicyArgs(self._base, method=method, adapter=adapter))
        return self._policies[adapter]
