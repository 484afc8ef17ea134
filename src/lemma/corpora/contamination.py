"""Decides which training problems are so like a tested one that training on them would be training on the test.

1. *Exact*: the texts are equal without case, white space and punctuation (``split.comparable``).
2. *N-grams*: the training problem has at least half of the tested problem's runs of 13 words (Brown et al. 2020,
   arXiv:2005.14165, use that length), and nearly all of its numbers: with other numbers it is a problem of the same
   kind, not the same problem. A phrase that many training problems share ("where m and n are relatively prime
   positive integers. Find m + n.") says nothing of which problem it is, and does not count.

Only n-grams of tested problems are kept in memory, so training data of any size can be looked through.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lemma.corpora.split import Item, identity, problem_key

WORDS = 13  # of an n-gram
OVERLAP = 0.5  # of the tested problem's n-grams
NUMBERS = 0.9  # of the tested problem's numbers
COMMON = 10  # an n-gram in more training problems than this is a phrase …
COMMON_SHARE = 0.0005  # … and in more than this share of them

_WORD = re.compile(r"[^\W\d_]+|\d+")
_FIGURE = re.compile(r"\[asy\].*?(?:\[/asy\]|$)", re.DOTALL)
_SPELLED = frozenset((
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty",
    "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million", "half", "third", "quarter",
    "once", "twice", "first", "second", "double", "triple",
))  # fmt: skip


class Match(NamedTuple):
    """A training problem that is tested on.

    Attributes:
        row: Its number among all training problems, corpus after corpus.
        tested: Number of the tested problem.
        kind: ``exact`` or ``ngrams``.
        overlap: Share of the tested problem's n-grams that it has, in (0, 1].
    """

    row: int
    tested: int
    kind: str
    overlap: float


def find_contaminated(
    corpora: Sequence[Sequence[Item]],
    keys: np.ndarray,
    tested: Sequence[Item],
    *,
    ngrams: bool,
) -> list[Match]:
    """Return the training problems that match a tested problem, by row; of several matches of a row, the best.

    Args:
        corpora: Training problems or pairs, corpus after corpus.
        keys: (N,) uint64, ``problem_key`` of each of them.
        tested: Benchmark and held-out problems, or pairs.
        ngrams: Also compare runs of words, not only whole problems.
    """
    by_key = {problem_key(identity(problem)): number for number, problem in reversed(list(enumerate(tested)))}
    hits = np.flatnonzero(np.isin(keys, np.fromiter(by_key, dtype=np.uint64, count=len(by_key))))
    matches = {int(row): Match(int(row), by_key[int(keys[row])], "exact", 1.0) for row in hits}
    if ngrams:
        for match in _ngram_matches(corpora, keys, tested):
            matches.setdefault(match.row, match)
    return [matches[row] for row in sorted(matches)]


def _ngram_matches(corpora: Sequence[Sequence[Item]], keys: np.ndarray, tested: Sequence[Item]) -> Iterator[Match]:
    """Yield the best match by n-grams of each training problem that has one."""
    texts = [_words(identity(problem)) for problem in tested]
    grams = [_ngrams(words) for words in texts]
    index: dict[str, list[int]] = defaultdict(list)
    for number, some in enumerate(grams):
        for gram in some:
            index[gram].append(number)
    frequency: Counter[str] = Counter()
    counted: set[int] = set()  # a problem with many solutions or pairs is one that has the phrase
    shared: dict[int, list[str]] = {}
    for row, problem in enumerate(problem for corpus in corpora for problem in corpus):
        found = [gram for gram in _ngrams(_words(identity(problem))) if gram in index]
        if found:
            if (key := int(keys[row])) not in counted:
                counted.add(key)
                frequency.update(found)
            shared[row] = found
    limit = max(COMMON, COMMON_SHARE * len(np.unique(keys)))
    rare = [sum(frequency[gram] <= limit for gram in some) for some in grams]
    numbers = [_numbers(words) for words in texts]
    problems = _Rows(corpora)
    for row, found in shared.items():
        hits = Counter(number for gram in found if frequency[gram] <= limit for number in index[gram])
        likely = [(hits[n] / rare[n], n) for n in hits if hits[n] >= OVERLAP * rare[n]]
        if not likely:
            continue
        own = _numbers(_words(identity(problems[row])))
        likely = [(o, n) for o, n in likely if (own & numbers[n]).total() >= NUMBERS * numbers[n].total()]
        if likely:
            overlap, number = max(likely, key=lambda pair: (pair[0], -pair[1]))
            yield Match(row, number, "ngrams", overlap)


class _Rows:
    """Training problems by their number among all."""

    def __init__(self, corpora: Sequence[Sequence[Item]]) -> None:
        self._corpora = corpora
        self._ends = np.cumsum([len(corpus) for corpus in corpora])

    def __getitem__(self, row: int) -> Item:
        number = int(np.searchsorted(self._ends, row, side="right"))
        return self._corpora[number][row - (int(self._ends[number - 1]) if number else 0)]


def _words(text: str) -> list[str]:
    """Return the words and numbers of a problem without the code of its figures, which many problems share."""
    return _WORD.findall(_FIGURE.sub(" ", unicodedata.normalize("NFKC", text).casefold()))


def _numbers(words: list[str]) -> Counter[str]:
    return Counter(word for word in words if word.isdigit() or word in _SPELLED)


def _ngrams(words: list[str]) -> set[str]:
    return {" ".join(words[start : start + WORDS]) for start in range(len(words) - WORDS + 1)}
