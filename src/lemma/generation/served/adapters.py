"""Decides how servers get the policy's adapter: each version under a name of its own, and proved to be there.

1. The first rank saves the adapter where the servers can read it, whole or not at all, and lets each load it.
2. The version before is unloaded, and its folder removed.
3. The servers score a few fixed completions under the new name, and so does the trainer. They must agree, and where the
   policy has moved since the version before, the servers must be nearer to what it is now.
4. A server that was restarted has lost its adapters: it is given this one again when it is checked (``restore``).
5. With ``sleep``, servers are woken before, and put to sleep when every rank has drawn.

A new name for each version leaves no prefix cache behind that belongs to another one. Names begin with letters that are
random for each process, so that two runs may share a server.
"""

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lemma.encoding import ChatEncoder, Example
from lemma.generation.served.args import ServedArgs
from lemma.generation.served.backoff import Backoff
from lemma.generation.served.engine import ServedEngine
from lemma.generation.served.errors import NonsenseError, OutageError, RefusalError, ServerError
from lemma.generation.served.probes import draw_probes, mean_difference, question, read_scores
from lemma.generation.served.transport import UNAUTHORISED, Transport
from lemma.policy import Policy

_FAILURES = (OutageError, RefusalError, NonsenseError)


@dataclass(frozen=True)
class Ranks:
    """What the trainer's ranks do together; all but the first attribute are collective calls.

    Attributes:
        is_first: Whether this rank speaks to the servers for all.
        agreed: Returns what the work of every rank gives, or raises a ``ServerError`` on all.
        whole_weights: Returns what is to be saved of a sharded policy, and None of another.
        logps: Returns the policy's log-probabilities of each example's completion tokens.
    """

    is_first: bool
    agreed: Callable[[Callable[[], Any]], list[Any]]
    whole_weights: Callable[[Policy], dict[str, Tensor] | None]
    logps: Callable[[Policy, list[Example]], list[list[float]]]


class AdapterWeights:
    """The adapter of a policy, on every server; a ``Weights`` of ``ServedEngine``.

    Args:
        args: Servers and tolerance.
        folder: Where versions are saved; the servers must see it under the same path.
        encoder: Renders the probes.
        ranks: The trainer's.
        backoff: Between tries.

    Attributes:
        difference: Mean absolute difference of the servers' and the trainer's log-probabilities at the last refresh, in
            nats a token, of the server where it is largest; None before the first.
    """

    def __init__(
        self, args: ServedArgs, folder: Path, encoder: ChatEncoder, ranks: Ranks, backoff: Backoff | None = None
    ) -> None:
        self.difference: float | None = None
        self._args = args
        self._folder = folder
        self._encoder = encoder
        self._ranks = ranks
        self._backoff = backoff or Backoff()
        self._run: str | None = None
        self._version = 0
        self._probes: list[Example] | None = None
        self._before: list[list[float]] | None = None

    def name(self) -> str | None:
        """Return the name of the version that is drawn from."""
        return f"lemma-{self._run}-v{self._version:06d}" if self._version else None

    def refresh(self, engine: ServedEngine, policy: Policy) -> None:
        """Let every server draw from the policy as it is now; a collective call.

        Raises:
            ServerError: On every rank, if no server takes the adapter, or one does not compute what the policy does.
        """
        ranks, old = self._ranks, self.name()
        if self._run is None:
            self._run = ranks.agreed(lambda: secrets.token_hex(4))[0]
        weights = ranks.whole_weights(policy)
        self._version += 1
        ranks.agreed(lambda: self._push(engine, policy, weights, old) if ranks.is_first else None)
        if self._probes is None:
            self._probes = ranks.agreed(lambda: draw_probes(engine, self._encoder) if ranks.is_first else None)[0]
        now = ranks.logps(policy, self._probes)
        self.difference = ranks.agreed(lambda: self._prove(engine, now) if ranks.is_first else None)[0]
        self._before = now

    def rest(self, engine: ServedEngine) -> None:
        """Put the servers to sleep, where the user wants that; a collective call.

        Raises:
            ServerError: On every rank, if one does not go.
        """
        if self._args.sleep:
            self._ranks.agreed(lambda: _switch(engine, "/sleep?level=1") if self._ranks.is_first else None)

    async def restore(self, transport: Transport) -> None:
        """Give a server the version that it has lost; raises as ``Transport.send`` does."""
        await transport.send("load_lora_adapter", self._loading(), seconds=60.0)

    def close(self, engine: ServedEngine) -> None:
        """Take the last version from the servers, and remove its folder."""
        if self._ranks.is_first and self._version:
            self._drop(engine, self.name(), seconds=5.0)

    def _loading(self) -> dict[str, str]:
        return {"lora_name": self.name(), "lora_path": str(self._folder / self.name())}

    def _push(self, engine: ServedEngine, policy: Policy, weights: dict[str, Tensor] | None, old: str | None) -> None:
        """Save this version, let the servers load it, and forget the old one."""
        if old is None:
            engine.connect()
        self._save(policy, weights)
        if self._args.sleep:
            _switch(engine, "/wake_up")
        begin, failures = time.monotonic(), 0
        while True:
            answers = engine.post("load_lora_adapter", self._loading())
            engine.presence.note(answers)
            refused = [(url, said) for url, said in answers if _is_refusal(said)]
            if refused:
                raise ServerError(self._refusal(*refused[0], policy))
            out = [(url, said) for url, said in answers if isinstance(said, Exception) and not _is_there(said)]
            if len(out) < len(answers):
                break
            failures += 1
            pause = self._backoff.seconds(failures)
            if time.monotonic() + pause > begin + engine.presence.patience:
                said = "".join(f"\n  {url}: {error}" for url, error in out)
                raise ServerError(f"No server took the policy's adapter within model.served.patience.{said}")
            engine.pause(pause)
        if old is not None:
            self._drop(engine, old, seconds=60.0)

    def _save(self, policy: Policy, weights: dict[str, Tensor] | None) -> None:
        folder = self._folder / self.name()
        partial = folder.with_name(f"{folder.name}.partial")
        try:
            policy.save(partial, weights)
            for path in partial.iterdir():  # safetensors writes files that only their owner can read
                path.chmod(0o644)
            partial.rename(folder)
        except OSError as error:
            raise ServerError(f"model.served.adapter_folder: {folder} could not be written ({error}).") from error

    def _drop(self, engine: ServedEngine, name: str, *, seconds: float) -> None:
        """Unload a version; a server that does not answer, or was restarted, has nothing to unload."""
        engine.post("unload_lora_adapter", {"lora_name": name}, seconds=seconds)
        shutil.rmtree(self._folder / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()  # where it was the last

    def _refusal(self, url: str, error: Exception, policy: Policy) -> str:
        refusal = f"Server {url} does not take the policy's adapter: {error}."
        if isinstance(error, RefusalError) and error.status in UNAUTHORISED:
            return refusal
        rank = policy.model.peft_config["default"].r
        return (
            f"{refusal} It must see {self._folder} "
            f"(model.served.adapter_folder); vLLM needs --enable-lora --max-lora-rank {rank} or more, and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment."
        )

    def _prove(self, engine: ServedEngine, now: list[list[float]]) -> float:
        """Return the difference of the server that is furthest off.

        Raises:
            ServerError: If it is more than the tolerance, or a server has the version before.
        """
        found = self._scores(engine)
        if not found:
            raise ServerError("No server that has the policy's adapter scores completions with it; see the log above.")
        for url, scores in found.items():
            self._check_version(url, scores, now)
        return max(mean_difference(scores, now) for scores in found.values())

    def _check_version(self, url: str, scores: list[list[float]], now: list[list[float]]) -> None:
        difference = mean_difference(scores, now)
        if self._before is not None:
            earlier, moved = mean_difference(scores, self._before), mean_difference(now, self._before)
            # one that has the new version cannot look so: it is within its own noise of it
            if moved > 2 * self.difference and earlier < difference:
                raise ServerError(
                    f"Server {url} draws from an adapter of before: its log-probabilities under {self.name()} are "
                    f"{difference:.3g} nats a token off the policy's as it is, and {earlier:.3g} off those of the "
                    "version before. Does it keep a cache of adapters, or another run's under the same name?"
                )
        if not difference <= self._args.probe_tolerance:
            raise ServerError(
                f"Server {url} does not compute what the policy does: its log-probabilities of {len(now)} probes are "
                f"{difference:.3g} nats a token off the trainer's, more than model.served.probe_tolerance = "
                f"{self._args.probe_tolerance}. Has it the same base as model.policy.base, in the same precision?"
            )

    def _scores(self, engine: ServedEngine) -> dict[str, list[list[float]]]:
        """Return each server's log-probabilities of the probes, by URL; without servers that are out of reach."""
        found: dict[str, list[list[float]]] = {}
        out: set[str] = set()
        for example in self._probes:
            for url, answer in engine.post("completions", question(example, self.name())):
                if url in out:
                    continue
                if isinstance(answer, OutageError | RefusalError):
                    out.add(url)
                    rank_zero_warn(f"Server {url} does not score the policy's probes: {answer}.")
                else:
                    found.setdefault(url, []).append(read_scores(url, answer, example))
        return {url: scores for url, scores in found.items() if url not in out}


def _switch(engine: ServedEngine, path: str) -> None:
    """Put servers to sleep, or wake them; one that is out of reach is neither, and comes back awake.

    Raises:
        ServerError: If one refuses.
    """
    for url, answer in engine.post(path, {}):
        if isinstance(answer, RefusalError | NonsenseError):
            raise ServerError(
                f"Server {url} does not know {path}: {answer}. model.served.sleep needs vLLM with --enable-sleep-mode "
                "and VLLM_SERVER_DEV_MODE=1; tools/serve_rollouts.py --sleep true sets both."
            )


def _is_refusal(answer: str | Exception) -> bool:
    """Return whether a server will never load the adapter; vLLM says so of a rank that is too large by a 500."""
    if isinstance(answer, OutageError):
        return answer.status == 500
    return isinstance(answer, RefusalError | NonsenseError) and not _is_there(answer)


def _is_there(answer: Exception) -> bool:
    """Return whether a server has the adapter from a try whose answer was lost."""
    return isinstance(answer, RefusalError) and "already" in str(answer)
