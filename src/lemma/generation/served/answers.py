"""What counts as a completion in an answer: every field is checked for type, range and fit before it is believed."""

from typing import Any

from transformers import PreTrainedTokenizerBase

from lemma.generation.draw import Drawing, Sample
from lemma.generation.served.errors import NonsenseError, bounded

LARGEST_COUNT = 2**31 - 1
LOWEST_LOGP = -1e5
LARGEST_LOGP = 1e-4
"""A log-softmax may round to this; more is nonsense."""
_FINISHED = ("stop", "length")
_TOKEN_ID = "token_id:"


def first_choice(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the only choice of an answer.

    Raises:
        NonsenseError: There is none, or more than one.
    """
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise NonsenseError("expected one choice")
    return choices[0]


def usage(answer: dict[str, Any], name: str) -> int | None:
    """Return a count of tokens that the server gives, or None."""
    counts = answer.get("usage")
    count = counts.get(name) if isinstance(counts, dict) else None
    return count if _is_int(count) and 0 <= count <= LARGEST_COUNT else None


def completion_ids(choice: dict[str, Any]) -> list[Any] | None:
    """Return the token ids of a choice, unchecked; None where it has none.

    They stand in ``token_ids``, or, in servers before that, in the names of the tokens.
    """
    if isinstance(choice.get("token_ids"), list):
        return choice["token_ids"]
    tokens = _logprobs(choice).get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(each, str) and each.startswith(_TOKEN_ID) for each in tokens):
        return None
    digits = [each.removeprefix(_TOKEN_ID) for each in tokens]
    return [int(each) if each.isdecimal() and len(each) <= 10 else None for each in digits] or None


def token_logps(choice: dict[str, Any]) -> list[Any] | None:
    """Return the log-probabilities of a choice's tokens, unchecked; None where it has none."""
    logps = _logprobs(choice).get("token_logprobs")
    return logps if isinstance(logps, list) else None


def highest_logp(choice: dict[str, Any]) -> float | None:
    """Return the highest log-probability that is given for the first token, or None."""
    tops = _logprobs(choice).get("top_logprobs")
    first = tops[0] if isinstance(tops, list) and tops else None
    logps = [each for each in first.values() if _is_logp(each)] if isinstance(first, dict) else []
    return max(logps, default=None)


def read_tokens(
    answer: dict[str, Any], prompt_ids: list[int], drawing: Drawing, *, vocab_size: int, logps: bool
) -> Sample:
    """Return the completion of an answer that holds token ids.

    Args:
        answer: As the server gave it.
        prompt_ids: What it was to continue.
        drawing: How it was to be drawn.
        vocab_size: What token ids are below.
        logps: Whether its log-probabilities are wanted; without, the completion has none.

    Raises:
        NonsenseError: It is not what was asked for.
    """
    choice = first_choice(answer)
    ids, reason = completion_ids(choice), _finish(choice)
    if not isinstance(ids, list) or not all(_is_int(each) and 0 <= each < vocab_size for each in ids):
        raise NonsenseError(f"expected token ids from 0 to {vocab_size - 1}")
    if choice.get("prompt_token_ids") not in (None, prompt_ids):
        raise NonsenseError("the prompt's tokens came back changed")
    if not 1 <= len(ids) <= drawing.max_new_tokens or usage(answer, "completion_tokens") not in (None, len(ids)):
        raise NonsenseError(f"{len(ids)} tokens do not fit max_tokens {drawing.max_new_tokens} and usage")
    if any(each in drawing.stop_ids for each in ids[:-1]):
        raise NonsenseError("the completion goes on after a stop token")
    if reason == "length" and len(ids) < drawing.max_new_tokens:
        raise NonsenseError(
            f"cut after {len(ids)} of {drawing.max_new_tokens} tokens: is the server's context shorter?"
        )
    stopped = reason == "stop" or ids[-1] in drawing.stop_ids
    return Sample(ids, _checked_logps(choice, len(ids)) if logps else [], stopped)


def read_text(answer: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> Sample:
    """Return the completion of an answer in words; thoughts that stand apart come first, between <think> and </think>.

    Raises:
        NonsenseError: It holds no text.
    """
    choice = first_choice(answer)
    stopped = _finish(choice) == "stop"
    message = choice.get("message")
    text = _spoken(message) if isinstance(message, dict) else choice.get("text")
    if not isinstance(text, str):
        raise NonsenseError("expected a text")
    if (count := usage(answer, "completion_tokens")) is None:
        count = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) + stopped
    return Sample([], [], stopped, text, count)


def _spoken(message: dict[str, Any]) -> str | None:
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    content = message.get("content")
    if not isinstance(thoughts, str):
        return content
    return f"<think>\n{thoughts}\n</think>\n\n{content if isinstance(content, str) else ''}"


def _finish(choice: dict[str, Any]) -> str:
    reason = choice.get("finish_reason")
    if reason not in _FINISHED:
        raise NonsenseError(f"finish_reason: expected stop or length, but got {bounded(reason)}")
    return reason


def _checked_logps(choice: dict[str, Any], size: int) -> list[float]:
    logps = token_logps(choice)
    if logps is None or len(logps) != size or not all(_is_logp(each) for each in logps):
        raise NonsenseError(f"expected {size} log-probabilities, finite and at most 0")
    return [min(float(each), 0.0) for each in logps]


def _logprobs(choice: dict[str, Any]) -> dict[str, Any]:
    found = choice.get("logprobs")
    return found if isinstance(found, dict) else {}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_logp(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and LOWEST_LOGP <= value <= LARGEST_LOGP
