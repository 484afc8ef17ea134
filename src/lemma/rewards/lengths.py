"""What a completion earns or loses by its length in tokens."""

import math
from collections.abc import Sequence

from lemma.rewards.options import expect, is_count, is_number
from lemma.types import Verdict

_CACHE_SHARE = 5  # arXiv:2503.14476 takes a cache of 4096 tokens of 20480


def length(
    completions: Sequence[str],
    *,
    verdicts: Sequence[str],
    num_tokens: Sequence[int],
    stopped: Sequence[bool],
    max_length: Sequence[int],
    short_correct: float = 1.0,
    long_correct: float = 0.5,
    short_wrong: float = -1.0,
    long_wrong: float = -0.5,
    exceeded: float = -1.0,
    **columns: object,
) -> list[float | None]:
    r"""Return the cosine length reward: a right answer earns more the shorter it is, a wrong one loses less the longer.

    .. math:: R = r_L + \tfrac12 (r_0 - r_L) (1 + \cos(\pi\, t / L))

    for t tokens of at most L, where :math:`r_0` is the value at length 0 and :math:`r_L` that at length L, one pair of
    them for right answers and one for wrong ones; ``exceeded`` for a completion that was cut off.

    Reference: arXiv:2502.03373, section 4.2. There it is the whole reward; the values here are smaller, as it stands
    beside `correctness`. Cut off is what no stop token ended, not what has L tokens.

    Args:
        completions: N texts.
        verdicts: N values of ``Verdict``; unparseable is wrong.
        num_tokens: N lengths, the stop token included.
        stopped: N times whether a stop token ended it.
        max_length: N times L, in tokens.
        short_correct: For a right answer of length 0.
        long_correct: For a right answer of length L.
        short_wrong: For a wrong answer of length 0.
        long_wrong: For a wrong answer of length L.
        exceeded: For a completion that was cut off, or is longer than L, whatever its answer.
        columns: Not used.

    Returns:
        N values within the smallest and the largest of the five, [-1, 1] by default; None where the verdict is
        ``timeout`` and the completion was not cut off.

    Raises:
        InputError: If a value is no number, or a ``max_length`` is below 1.
        ValueError: If a verdict is not one.
    """
    values = {
        "short_correct": short_correct,
        "long_correct": long_correct,
        "short_wrong": short_wrong,
        "long_wrong": long_wrong,
        "exceeded": exceeded,
    }
    for key, value in values.items():
        expect(is_number(value), key, "a number", value)

    def reward(verdict: Verdict, tokens: int, ended: bool, longest: int) -> float | None:
        expect(is_count(longest), "max_length", "at least 1", longest)
        if not ended or tokens > longest:
            return float(exceeded)
        if verdict is Verdict.TIMEOUT:
            return None
        short, long = (short_correct, long_correct) if verdict is Verdict.CORRECT else (short_wrong, long_wrong)
        return long + 0.5 * (short - long) * (1.0 + math.cos(math.pi * tokens / longest))

    rows = zip(completions, verdicts, num_tokens, stopped, max_length, strict=True)
    return [reward(Verdict(verdict), tokens, ended, longest) for _, verdict, tokens, ended, longest in rows]


def overlong(
    completions: Sequence[str],
    *,
    num_tokens: Sequence[int],
    max_length: Sequence[int],
    cache: int | None = None,
    **columns: object,
) -> list[float | None]:
    r"""Return DAPO's soft overlong punishment.

    .. math:: R = \begin{cases} 0 & t \le L - C \\ ((L - C) - t) / C & L - C < t \le L \\ -1 & t > L \end{cases}

    for t tokens, the longest length L and the cache C.

    Reference: arXiv:2503.14476, eq. 13.

    Args:
        completions: N texts.
        num_tokens: N lengths, the stop token included.
        max_length: N times L, in tokens.
        cache: C, in tokens, at most L; None is a fifth of L, as in the paper.
        columns: Not used.

    Returns:
        N values in [-1, 0].

    Raises:
        InputError: If the cache or a ``max_length`` is out of range.
    """
    expect(cache is None or is_count(cache), "cache", "at least 1 or null", cache)

    def punishment(tokens: int, longest: int) -> float:
        expect(is_count(longest), "max_length", "at least 1", longest)
        expect(cache is None or cache <= longest, "cache", f"at most max_length, {longest} tokens", cache)
        soft = cache or max(longest // _CACHE_SHARE, 1)
        return -min(max((tokens - (longest - soft)) / soft, 0.0), 1.0) or 0.0  # no negative zero

    return [punishment(tokens, longest) for _, tokens, longest in zip(completions, num_tokens, max_length, strict=True)]
