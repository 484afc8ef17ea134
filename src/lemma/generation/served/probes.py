"""Completions by which a server shows which weights it has: fixed, and scored by it and by the trainer."""

import itertools
import math
import statistics
from typing import Any

from lemma.encoding import ChatEncoder, Example
from lemma.generation.draw import Drawing
from lemma.generation.engine import Request
from lemma.generation.served.answers import first_choice, token_logps
from lemma.generation.served.engine import ServedEngine
from lemma.generation.served.errors import NonsenseError, ServerError
from lemma.generation.served.transport import parse

PROBLEMS = (
    "What is 17 + 25?",
    "Ann has 12 apples and gives away 5 of them. How many apples has she left?",
    "A train goes 60 km in an hour. How far does it go in 3 hours?",
    "Solve 2x + 3 = 11 for x.",
)
_TOKENS = 32


def question(example: Example, model: str) -> dict[str, Any]:
    """Return what asks a server for the log-probabilities of prompt and completion."""
    ids = [*example.prompt_ids, *example.completions[0]]
    return {"model": model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 0}


def draw_probes(engine: ServedEngine, encoder: ChatEncoder) -> list[Example]:
    """Return a prompt and the engine's greedy completion of each problem.

    Raises:
        ServerError: If the servers do not draw them, or give no tokens.
    """
    prompts = [encoder.encode_prompt(problem) for problem in PROBLEMS]
    requests = [Request(ids, None, encoder.messages(problem)) for ids, problem in zip(prompts, PROBLEMS, strict=True)]
    drawing = Drawing(encoder.stop_ids, encoder.pad_id, _TOKENS, 1.0, 1.0, 2**15)
    drawn = dict(engine.draw(requests, drawing))
    if not all(sample.ids for sample in drawn.values()):
        raise ServerError("The servers give no tokens, by which they could show that they have the policy's adapter.")
    return [Example(f"{i}", "probe", prompt, [drawn[i].ids]) for i, prompt in enumerate(prompts)]


def read_scores(url: str, answer: str | NonsenseError, example: Example) -> list[float]:
    """Return the server's log-probability of each token of the completion.

    Args:
        url: Of the server.
        answer: To the question.
        example: That was asked for.

    Raises:
        ServerError: If the answer has none.
    """
    size = len(example.prompt_ids) + len(example.completions[0])
    try:
        if isinstance(answer, NonsenseError):
            raise answer
        logps = (token_logps(first_choice(parse(answer))) or [])[len(example.prompt_ids) : size]
        if len(logps) != len(example.completions[0]) or not all(_is_finite(each) for each in logps):
            raise NonsenseError("expected a finite log-probability of each token")
    except NonsenseError as error:
        raise ServerError(
            f"Server {url} does not score given completions ({error}), by which it could show that it has the "
            "policy's adapter: it must take echo with logprobs in /completions, as vLLM does."
        ) from error
    return [float(each) for each in logps]


def mean_difference(one: list[list[float]], other: list[list[float]]) -> float:
    """Return the mean absolute difference of all tokens' log-probabilities, in nats."""
    pairs = zip(itertools.chain.from_iterable(one), itertools.chain.from_iterable(other), strict=True)
    return statistics.fmean(abs(a - b) for a, b in pairs)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
