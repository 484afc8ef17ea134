"""What a server understands, found once by tiny requests: how it takes a prompt, and what it leaves out.

Tried in this order, the first that is not refused: prompts as token ids (vLLM, SGLang, llama.cpp), prompts as text,
messages. Within each, all of ``FEATURES`` together, or those that it takes one by one.

vLLM gives log-probabilities of the logits as they are (``--logprobs-mode raw_logprobs``, its default) or of what it
draws from, after temperature and top-p (``processed_logprobs``). A ``Sample`` has them at the temperature and before
top-p, so raw ones count at temperature 1 only, processed ones without top-p only, and others are left out.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from lemma.generation.draw import Drawing
from lemma.generation.engine import Request
from lemma.generation.served.answers import completion_ids, first_choice, highest_logp, token_logps, usage
from lemma.generation.served.errors import RefusalError
from lemma.generation.served.transport import UNAUTHORISED

FEATURES = ("extras", "logprobs", "seed", "sampling")
_NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}  # else a server's defaults, such as top-k 20
_TOKENS = {"return_token_ids": True, "return_tokens_as_token_ids": True, "add_special_tokens": False}
_SEEDS = 2**31 - 2  # llama.cpp takes 32 bits, others 31
_STOPS = 4  # stop strings that OpenAI's API takes
_HOT = 2.0  # the highest temperature that vLLM takes
_CERTAIN = 1e-5  # nats; a token of this log-probability tells nothing of temperatures
_ROUNDING = 0.03  # relative change of a log-probability between two equal requests, in bfloat16


@dataclass(frozen=True)
class Dialect:
    """How one server is spoken to."""

    prompt: str
    """tokens, text or chat."""
    length: str = "max_tokens"
    """What it calls the limit of tokens."""
    features: frozenset[str] = frozenset(FEATURES)
    """extras (parameters that are not OpenAI's), logprobs, seed, sampling (temperature and top-p): what it takes."""
    ids: bool = True
    """Whether its answers hold token ids."""
    logps: bool = True
    """Whether its answers hold log-probabilities."""
    processed: bool | None = None
    """Whether these are after temperature and top-p; None where that could not be told."""

    @property
    def path(self) -> str:
        """Return where completions are asked for, below the base URL."""
        return "chat/completions" if self.prompt == "chat" else "completions"

    def payload(
        self, request: Request, drawing: Drawing, model: str, tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, Any]:
        """Return what asks for a completion."""
        body: dict[str, Any] = {"model": model, self.length: drawing.max_new_tokens}
        if self.prompt == "chat":
            body["messages"] = list(request.messages)
        else:
            as_text = self.prompt == "text"
            body["prompt"] = tokenizer.decode(request.prompt_ids) if as_text else request.prompt_ids
        return body | self._drawing(request, drawing) | self._stops(drawing, tokenizer)

    def _drawing(self, request: Request, drawing: Drawing) -> dict[str, Any]:
        greedy = request.seed is None
        body: dict[str, Any] = {}
        if "sampling" in self.features:
            body["temperature"], body["top_p"] = (0.0, 1.0) if greedy else (drawing.temperature, drawing.top_p)
        if "seed" in self.features and not greedy:
            body["seed"] = fold_seed(request.seed)
        if "extras" in self.features:
            body |= _NEUTRAL
        return body

    def _stops(self, drawing: Drawing, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        if self.prompt == "chat":
            return {}
        body: dict[str, Any] = {}
        if "extras" in self.features:
            # a server without token ids may know ignore_eos and not our stop tokens, and would never stop
            body |= _TOKENS | {"stop_token_ids": drawing.stop_ids} | ({"ignore_eos": True} if self.ids else {})
        if not self.ids or "extras" not in self.features:
            body["stop"] = [tokenizer.decode([token]) for token in drawing.stop_ids][:_STOPS]
        if "logprobs" in self.features:
            body["logprobs"] = 0 if "extras" in self.features else 1  # vLLM's 0 is the drawn token's alone
        return body

    def knows_logps(self, request: Request, drawing: Drawing) -> bool:
        """Return whether the log-probabilities that it gives are those of a ``Sample``."""
        greedy, unheated = request.seed is None, drawing.temperature == 1  # greedy ones are never heated
        whole = greedy or drawing.top_p == 1
        if self.processed is None:
            return unheated and whole
        return whole and (unheated or not greedy) if self.processed else unheated

    @property
    def adaptations(self) -> list[str]:
        """Return what is other than with token prompts, token ids, log-probabilities and seeds, in words."""
        said = {
            "prompts as text, to which its tokenizer may add a BOS of its own": self.prompt == "text",
            "prompts as messages, under the server's own chat template": self.prompt == "chat",
            "no token ids: texts are kept, tokens only counted": not self.ids,
            "no log-probabilities": not self.logps,
            "no seeds: samples cannot be drawn again": "seed" not in self.features,
            "temperature and top-p are the server's own": "sampling" not in self.features,
            "top-k and the like are the server's own": "extras" not in self.features,
        }
        return [words for words, is_so in said.items() if is_so]


def fold_seed(seed: int) -> int:
    """Return a 63-bit seed as one in [1, 2^31 - 2], which every server takes."""
    return 1 + seed % _SEEDS


Ask = Callable[..., Awaitable[dict[str, Any]]]
"""(dialect, body that replaces parts of the payload's) -> answer of the probe; raises RefusalError."""


async def find_dialect(ask: Ask, *, api: str, request: Request) -> Dialect:
    """Return how a server is best spoken to.

    Args:
        ask: Sends the probe.
        api: As in ``ServedArgs``.
        request: What the probe asks for.

    Raises:
        RefusalError: The last one, where all ways are refused.
    """
    refusal = RefusalError(0, "it needs messages, and the prompt has none")
    for kind in _kinds(api, request):
        try:
            found, answer = await _richest(kind, ask)
        except RefusalError as error:
            if error.status in UNAUTHORISED:
                raise
            refusal = error
            continue
        if kind.prompt == "text" and api == "auto" and _dresses(answer, request):
            refusal = RefusalError(0, "it puts text prompts into a template of its own (api: completions allows that)")
            continue
        return await _measured(found, answer, ask)
    raise refusal


def _kinds(api: str, request: Request) -> list[Dialect]:
    completions = [Dialect("tokens"), Dialect("text")] if api != "chat" else []
    chats = [Dialect("chat", length=name) for name in ("max_tokens", "max_completion_tokens")]
    return completions + (chats if api != "completions" and request.messages else [])


async def _richest(kind: Dialect, ask: Ask) -> tuple[Dialect, dict[str, Any]]:
    """Return a way to speak with all the features that are not refused, and the answer to it."""
    try:
        return kind, await ask(kind)
    except RefusalError as error:
        if error.status in UNAUTHORISED:
            raise
    found = dataclasses.replace(kind, features=frozenset())
    answer = await ask(found)
    for feature in FEATURES:
        richer = dataclasses.replace(found, features=found.features | {feature})
        try:
            answer = await ask(richer)
            found = richer
        except RefusalError:
            pass
    return found, answer


def _dresses(answer: dict[str, Any], request: Request) -> bool:
    """Return whether a server read more tokens than a prompt and a BOS have, as Ollama does."""
    count = usage(answer, "prompt_tokens")
    return count is not None and count > len(request.prompt_ids) + 2


async def _measured(found: Dialect, answer: dict[str, Any], ask: Ask) -> Dialect:
    choice = first_choice(answer)
    ids = found.prompt != "chat" and completion_ids(choice) is not None
    logps = ids and token_logps(choice) is not None
    found = dataclasses.replace(found, ids=ids, logps=logps)
    return dataclasses.replace(found, processed=await _processes(found, ask)) if logps else found


async def _processes(found: Dialect, ask: Ask) -> bool | None:
    """Return whether the temperature changes the highest log-probability; None where that cannot be seen."""
    if "sampling" not in found.features:
        return None
    heated = {"top_p": 1.0, "logprobs": 1}
    try:
        tops = [highest_logp(first_choice(await ask(found, heated | {"temperature": heat}))) for heat in (1.0, _HOT)]
    except RefusalError:
        return None
    cool, hot = (0.0 if top is None else abs(top) for top in tops)
    if (largest := max(cool, hot)) < _CERTAIN:
        return None
    change = abs(cool - hot) / largest
    return None if _ROUNDING < change < 2 * _ROUNDING else change > _ROUNDING
