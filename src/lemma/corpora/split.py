"""Decides which problem is the same as another, and which are held out, by a hash of the text."""

import hashlib
import unicodedata
from collections.abc import Iterable

from lemma.types import InputError, Problem


def problem_key(text: str) -> str:
    """Return the identity of a problem's text, as 64 hexadecimal digits.

    Two texts share it if they differ in nothing but case, white space and Unicode compatibility forms (NFKC).

    Args:
        text: Text of the problem.
    """
    normalized = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(normalized.encode()).hexdigest()


def identity(problem: Problem) -> str:
    """Return the text that says which problem it is: the question, or for plain text, which has none, the text.

    Args:
        problem: Of any corpus.
    """
    return problem.problem or problem.solution or ""


def held_out(problem_text: str, share: float) -> bool:
    """Return whether a problem belongs to the held-out part.

    The same text is always on the same side, in every corpus and run; a larger share holds out a superset.

    Args:
        problem_text: Text of the problem.
        share: Fraction of problems to hold out, from 0 to 1.

    Raises:
        InputError: If the share is outside 0..1.
    """
    if not 0 <= share <= 1:
        raise InputError(f"Expected `share` to be from 0 to 1, but got {share}.")
    return int(problem_key(problem_text)[:16], 16) < share * 2**64


def exact_overlaps(train: Iterable[Problem], benchmark: Iterable[Problem]) -> list[tuple[Problem, Problem]]:
    """Return every pair of a training and a benchmark problem with the same key, in the benchmark's order.

    Args:
        train: Problems that are trained on.
        benchmark: Problems that are measured on.
    """
    by_key: dict[str, list[Problem]] = {}
    for problem in train:
        by_key.setdefault(problem_key(identity(problem)), []).append(problem)
    return [(match, problem) for problem in benchmark for match in by_key.get(problem_key(identity(problem)), ())]
