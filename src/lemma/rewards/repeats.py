"""What a completion loses by saying the same again and again."""

import re
from collections.abc import Sequence

from lemma.rewards.options import expect, is_count, is_number

_PIECE = re.compile(r"[^\W\d_]{1,16}|\S")


def repetition(
    completions: Sequence[str],
    *,
    ngram_size: int = 20,
    max_penalty: float = 1.0,
    **columns: object,
) -> list[float | None]:
    r"""Return minus ``max_penalty`` times the share of n-grams that occurred before in the same completion.

    .. math:: R = -p \left(1 - \frac{\#\text{different n-grams}}{\#\text{n-grams}}\right)

    Reference: arXiv:2502.03373, appendix C.2, which punishes single tokens, those of repeated n-grams of 40 tokens.
    Here it is the completion, and the pieces are words, digits and other characters, so that no tokenizer is needed; a
    run of letters is cut after every 16, so that one without blanks can repeat itself too. Short n-grams recur in any
    honest calculation.

    Args:
        completions: N texts.
        ngram_size: n, in pieces; a text of fewer repeats nothing.
        max_penalty: p, at least 0.
        columns: Not used.

    Returns:
        N values in (-``max_penalty``, 0].

    Raises:
        InputError: If an option is out of range.
    """
    expect(is_count(ngram_size), "ngram_size", "at least 1", ngram_size)
    expect(is_number(max_penalty) and max_penalty >= 0, "max_penalty", "a number of at least 0", max_penalty)
    return [-max_penalty * _share_repeated(completion, ngram_size) or 0.0 for completion in completions]


def _share_repeated(text: str, ngram_size: int) -> float:
    pieces = _PIECE.findall(text)
    ngrams = [tuple(pieces[start : start + ngram_size]) for start in range(len(pieces) - ngram_size + 1)]
    return 1.0 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
