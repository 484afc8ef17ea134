r"""Decides which problems say the same as an earlier one in slightly other words, whatever the size of the data.

1. A problem's *tokens* are its words, its numbers, LaTeX's commands and every other sign; its *shingles* are its runs
   of five tokens. Two problems are as similar as the Jaccard index of their shingles.
2. MinHash (Broder 1997) finds candidates: signatures of ``PERMUTATIONS`` numbers (by ``datasketch``), cut into bands;
   problems that agree in a band are candidates. The signatures are kept on disk.
3. Of each candidate the index itself is computed; MinHash alone is off by some 4 %.
4. Words may differ, mathematics may not: with other numbers (digits or spelled), signs, variables or words in capitals
   it is another problem. So it is with another answer, where both have one: "the sum of the roots" and "the product of
   the roots" are as similar as two problems get. Where one has none, figures and brackets must agree, too.
5. The first of two stays, in the order in which they are given; what stays is what later ones are compared with.
"""

import itertools
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lemma.answers import as_rational, normalize
from lemma.corpora.split import identity
from lemma.types import InputError, Problem

SHINGLE = 5  # tokens
PERMUTATIONS = 128
MOST_COMPARED = 20  # earlier problems of a band with which a problem is compared
_DOUBT = 0.15  # by which an estimate may be too low: more than three standard errors
_CHUNK = 1 << 16  # pairs whose signatures are compared at once

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|\\[a-zA-Z]+|\\.|[^\s\w]")
_FIGURE = re.compile(r"\[asy\].*?(?:\[/asy\]|$)", re.DOTALL)
_IGNORED = re.compile(rf"{_FIGURE.pattern}|[\^_]\{{\}}", re.DOTALL)  # and scripts without anything in them
_LAYOUT = frozenset((
    *"$.,;:!?'\"(){}[]~&", *(rf"\{sign}" for sign in "[](){}$,;!: \\"),
    *(rf"\{name}" for name in ("left", "right", "displaystyle", "text", "textit", "textbf", "mathrm", "mbox", "it")),
))  # fmt: skip
_SPELLED = {
    word: str(value)
    for value, word in enumerate((
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
    ))
}  # fmt: skip
_SAME = {r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\leq": r"\le", r"\geq": r"\ge", r"\neq": r"\ne"}
_WORDS_OF_A_LETTER = frozenset("aAI")
_QUANTITIES = frozenset((
    "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million", "half",
    "third", "quarter", "fourth", "fifth", "once", "twice", "double", "triple", "first", "second", "dozen",
))  # fmt: skip


class NearDuplicate(NamedTuple):
    """A problem that resembles an earlier one.

    Attributes:
        row: Its number.
        like: Number of the earlier problem, which stays.
        estimated: Share of the signatures' numbers that agree.
        similarity: Jaccard index of the shingles.
    """

    row: int
    like: int
    estimated: float
    similarity: float


def near_duplicates(
    problems: Sequence[Problem],
    threshold: float,
    *,
    num_kept: int = 0,
    folder: Path | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> list[NearDuplicate]:
    """Return the problems that resemble an earlier one that stays, by row.

    Memory holds some 80 bytes a problem (bands of the signatures, one at a time) and the pairs found.

    Args:
        problems: Read twice: in order, then the candidates.
        threshold: Least similarity, above 0 and at most 1.
        num_kept: The first so many stay in any case, such as problems that are tested on.
        folder: Where signatures are kept meanwhile; None is the system's folder for temporary files.
        progress: Called with the number of problems that a step has gone through; all are gone through once.

    Raises:
        InputError: If ``datasketch`` is not installed, or the threshold is outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise InputError(f"--near_duplicates: expected a similarity above 0 and at most 1, but got {threshold}.")
    with tempfile.TemporaryDirectory(prefix="signatures.partial-", dir=folder) as temporary:
        signatures = _signatures(problems, Path(temporary) / "signatures.bin", progress)
        pairs = _candidates(signatures, threshold)
        return list(_resembling(problems, signatures, pairs, threshold, num_kept))


def shingles(text: str) -> set[str]:
    """Return the runs of five tokens of a text, the whole text if it is shorter.

    Args:
        text: Of a problem; case, layout and marks that say nothing do not count.
    """
    tokens = _tokens(text)
    return {" ".join(tokens[start : start + SHINGLE]) for start in range(max(1, len(tokens) - SHINGLE + 1))}


def _tokens(text: str) -> list[str]:
    """Return words, numbers and signs without what only lays them out; small spelled numbers as digits."""
    return [token.casefold() for token in _cased_tokens(text)]


def _cased_tokens(text: str) -> list[str]:
    return [_spelling(token) for token in _found(_IGNORED.sub(" ", text)) if token not in _LAYOUT]


def _found(text: str) -> list[str]:
    return _TOKEN.findall(unicodedata.normalize("NFKC", text))


def _spelling(token: str) -> str:
    token = _SPELLED.get(token.casefold(), token)
    return _SAME.get(token, token).replace(",", "")


def _mathematics(text: str) -> Counter[str]:
    """Return the numbers, signs, variables and words in capitals (``ABCD``) of a text, each with its count."""
    return Counter(token for token in _cased_tokens(text) if _is_mathematics(token))


def _brackets_and_figures(text: str) -> Counter[str]:
    """Return the brackets of a text, and all that its figures are drawn with."""
    figures = _FIGURE.findall(text)
    return Counter(token for token in _found(" ".join(figures))) + Counter(sign for sign in text if sign in "()[]")


def _is_mathematics(token: str) -> bool:
    if not token.isalpha() or token.casefold() in _QUANTITIES:
        return True
    return token.isupper() if len(token) > 1 else token not in _WORDS_OF_A_LETTER


def _signatures(problems: Iterable[Problem], path: Path, progress: Callable[[int], object]) -> np.ndarray:
    """Return (N, PERMUTATIONS) uint32, mapped from a file."""
    try:
        from datasketch import MinHash
    except ImportError as error:
        raise InputError("--near_duplicates needs datasketch: pip install -e '.[prepare]'.") from error
    empty = MinHash(PERMUTATIONS)
    with path.open("wb") as file:
        for problem in problems:
            signature = empty.copy()
            signature.update_batch([shingle.encode() for shingle in shingles(identity(problem))])
            signature.hashvalues.astype(np.uint32).tofile(file)
            progress(1)
    if not path.stat().st_size:
        return np.zeros((0, PERMUTATIONS), dtype=np.uint32)
    return np.memmap(path, dtype=np.uint32, mode="r").reshape(-1, PERMUTATIONS)


def _candidates(signatures: np.ndarray, threshold: float) -> Iterator[tuple[int, int]]:
    """Return (later, earlier) rows that agree in a band, by the later one, each pair once."""
    from datasketch import MinHashLSH

    bands = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.1, 0.9))  # a pair missed is not made good
    found = []
    for band in range(bands.b):
        pairs = _pairs(signatures[:, band * bands.r : (band + 1) * bands.r])
        for start in range(0, len(pairs), _CHUNK):
            some = pairs[start : start + _CHUNK]
            agreement = (signatures[some[:, 0]] == signatures[some[:, 1]]).mean(axis=1)
            found.append(some[agreement >= threshold - _DOUBT])
    pairs = np.unique(np.concatenate([np.zeros((0, 2), dtype=np.int64), *found]), axis=0)
    return ((int(later), int(earlier)) for later, earlier in pairs)


def _pairs(band: np.ndarray) -> np.ndarray:
    """Return (pairs, 2) int64 of (later, earlier) rows with the same values, the nearest before each at most."""
    keys = np.zeros(len(band), dtype=np.uint64)
    for column in range(band.shape[1]):
        keys = keys * np.uint64(0x100000001B3) + band[:, column].astype(np.uint64)  # a collision is found out later
    order = np.argsort(keys, kind="stable")
    ordered, found = keys[order], []
    for distance in range(1, MOST_COMPARED + 1):
        same = np.flatnonzero(ordered[distance:] == ordered[:-distance])
        if not len(same):
            break
        found.append(np.stack([order[same + distance], order[same]], axis=1))
    return np.concatenate([np.zeros((0, 2), dtype=np.int64), *found])


def _resembling(
    problems: Sequence[Problem],
    signatures: np.ndarray,
    pairs: Iterable[tuple[int, int]],
    threshold: float,
    num_kept: int,
) -> Iterator[NearDuplicate]:
    removed: set[int] = set()
    for row, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        if row < num_kept:
            continue
        problem = problems[row]
        own, mathematics = shingles(identity(problem)), _mathematics(identity(problem))
        best: NearDuplicate | None = None
        for _, earlier in group:
            if earlier in removed or not _may_be_the_same(problem, mathematics, problems[earlier]):
                continue
            other = shingles(identity(problems[earlier]))
            similarity = len(own & other) / len(own | other)
            if similarity >= threshold and (best is None or similarity > best.similarity):
                estimated = float((signatures[row] == signatures[earlier]).mean())
                best = NearDuplicate(row, earlier, estimated, similarity)
        if best is not None:
            removed.add(row)
            yield best


def _may_be_the_same(problem: Problem, mathematics: Counter[str], other: Problem) -> bool:
    if mathematics != _mathematics(identity(other)):
        return False
    if problem.answer is not None and other.answer is not None:
        return _value(problem.answer) == _value(other.answer)
    return _brackets_and_figures(identity(problem)) == _brackets_and_figures(identity(other))


def _value(answer: str) -> Fraction | str:
    normal = normalize(answer)
    number = as_rational(normal)
    return normal if number is None else number
