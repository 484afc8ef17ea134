"""Decides which problem is the same as another, and on which side of a split it is, by a hash of the text."""

import hashlib
import re
import unicodedata

import numpy as np

from lemma.types import InputError, Preference, Problem

Item = Problem | Preference
"""What a corpus holds: problems, or pairs of completions of a problem."""

FOLDS = ("train", "validation", "test")

_IGNORED = re.compile(r"[\W_]+")
_OTHER_BITS = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying (modulo 2^64) keeps different keys different


def comparable(text: str) -> str:
    """Return what is left of a text without case, white space, punctuation and Unicode compatibility forms (NFKC).

    Corpora write one problem with other marks (``$n$`` and ``n``, ``\\frac`` and ``\\dfrac`` differ still); a text of
    nothing but marks is kept.

    Args:
        text: Text of a problem.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    return _IGNORED.sub("", text) or text


def problem_key(text: str) -> int:
    """Return the identity of a problem's text, 64 bits: equal for texts with the same ``comparable`` form.

    Args:
        text: Text of the problem.
    """
    return _hash(comparable(text))


def row_key(item: Item) -> int:
    """Return the identity of a problem with its solution and answer, or of a pair with its whole prompt, 64 bits.

    White space does not count.

    Args:
        item: Of any corpus.
    """
    if isinstance(item, Preference):
        parts = (*(part for message in item.messages for part in message), item.chosen, item.rejected)
    else:
        parts = (item.problem, item.solution or "", item.answer or "")
    return _hash("\0".join(" ".join(part.split()) for part in parts))


def identity(item: Item) -> str:
    """Return the text that says which problem it is: the question, or for plain text, which has none, the text.

    A pair is of the problem that the user's last message puts.

    Args:
        item: Of any corpus.
    """
    return item.prompt if isinstance(item, Preference) else item.problem or item.solution or ""


def held_out(keys: np.ndarray, share: float) -> np.ndarray:
    """Return which problems belong to the held-out part.

    The same problem is always on the same side, in every corpus and run; a larger share holds out a superset.

    Args:
        keys: (N,) uint64, ``problem_key`` of each problem.
        share: Fraction of problems to hold out, from 0 to 1.

    Returns:
        (N,) bool.

    Raises:
        InputError: If the share is outside 0..1.
    """
    if not 0 <= share <= 1:
        raise InputError(f"Expected `share` to be from 0 to 1, but got {share}.")
    return _unit(keys) < share


def in_fold(keys: np.ndarray, fold: str, folds: str) -> np.ndarray:
    """Return which problems belong to a fold.

    A problem's fold follows from its text and the proportions alone: the same in every corpus that has it, and in any
    later version of the data.

    Args:
        keys: (N,) uint64, ``problem_key`` of each problem.
        fold: One of ``FOLDS``.
        folds: Proportions of train, validation and test: ``80/10/10``, or ``90/10`` without a test fold.

    Returns:
        (N,) bool.
    """
    shares = np.array([float(share) for share in folds.split("/")] + [0.0])[: len(FOLDS)]
    ends = np.array([0.0, *np.cumsum(shares) / shares.sum()])
    number = FOLDS.index(fold)
    values = _unit(np.asarray(keys, dtype=np.uint64) * _OTHER_BITS)  # so that held_out takes its share of each fold
    return (ends[number] <= values) & (values < ends[number + 1])


def _unit(keys: np.ndarray) -> np.ndarray:
    """Return hashes as numbers in [0, 1)."""
    return (np.asarray(keys, dtype=np.uint64) >> np.uint64(11)) / 2.0**53


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
