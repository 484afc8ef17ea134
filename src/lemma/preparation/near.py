"""Near duplicates of a run's problems, of each other and of what is tested: found, written down, and read again."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lemma.corpora import Corpus
from lemma.corpora.near_duplicates import near_duplicates
from lemma.datamodule import MathDataModule
from lemma.files import write_jsonl
from lemma.preparation.sides import clean_problems
from lemma.types import Problem


class _Distinct(NamedTuple):
    """The problems that are compared: of rows with the same text the first, the tested ones before all others.

    Attributes:
        corpora: Tested, then training corpora.
        num_tested: Of the corpora.
        index: For each corpus, (n,) int64, the numbers of the problems that are compared.
    """

    corpora: list[Corpus]
    num_tested: int
    index: list[np.ndarray]

    @property
    def num_kept(self) -> int:
        """Return how many are tested."""
        return sum(len(index) for index in self.index[: self.num_tested])


class _Problems(Sequence[Problem]):
    """Some problems of several sequences, one after the other, each read when it is asked for."""

    def __init__(self, groups: Sequence[tuple[Sequence[Problem], np.ndarray]]) -> None:
        self._groups = groups
        self._ends = np.cumsum([len(index) for _, index in groups], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> Problem:
        group, index = self.place(number)
        return self._groups[group][0][index]

    def __iter__(self) -> Iterator[Problem]:
        return itertools.chain.from_iterable((problems[i] for i in index) for problems, index in self._groups)

    def place(self, number: int) -> tuple[int, int]:
        """Return (group, number in it)."""
        group = int(np.searchsorted(self._ends, number, side="right"))
        return group, int(self._groups[group][1][number - (int(self._ends[group - 1]) if group else 0)])


def write_near_duplicates(
    path: Path, data: MathDataModule, threshold: float, progress: Callable[[int], object]
) -> None:
    """Write a line for each near duplicate: which, what it resembles, how much, and both texts.

    Rows of the same problem with other solutions are no near duplicates of each other: they go or stay together.

    Args:
        path: JSON Lines file.
        data: Set up, with training corpora.
        threshold: Least similarity.
        progress: Called with the number of problems gone through.
    """
    distinct, clean = _distinct(data), clean_problems(data)
    corpora = distinct.corpora
    problems = _Problems([(c.problems, index) for c, index in zip(corpora, distinct.index, strict=True)])
    rows = []
    for found in near_duplicates(
        problems, threshold, num_kept=distinct.num_kept, folder=path.parent, progress=progress
    ):
        group, index = problems.place(found.row)
        other, like = problems.place(found.like)
        resembles = {"tested": other < distinct.num_tested, **_described(corpora[other], like)}
        similarity = {"similarity": round(found.similarity, 4), "estimated": round(found.estimated, 4)}
        key = corpora[group].keys[index]
        for number, corpus in enumerate(data.loaded["train"]):  # the same problem may have several solutions
            for row in clean[number][corpus.keys[clean[number]] == key]:
                place = {"corpus": number, "row": int(row)}
                rows.append({**place, **_described(corpus, int(row)), **similarity, "resembles": resembles})
    write_jsonl(path, rows)


def num_compared(data: MathDataModule) -> int:
    """Return how many problems ``write_near_duplicates`` goes through."""
    return sum(map(len, _distinct(data).index))


def _distinct(data: MathDataModule) -> _Distinct:
    tested = [*data.loaded["benchmark"], *data.loaded["held out"]]
    corpora = [*tested, *data.loaded["train"]]
    index = [*(np.arange(len(corpus.rows)) for corpus in tested), *clean_problems(data)]
    keys = np.concatenate([corpus.keys[some] for corpus, some in zip(corpora, index, strict=True)])
    first = np.zeros(len(keys), dtype=bool)
    first[np.unique(keys, return_index=True)[1]] = True
    parts = np.split(first, np.cumsum([len(some) for some in index])[:-1])
    return _Distinct(corpora, len(tested), [some[part] for some, part in zip(index, parts, strict=True)])


def read_near_duplicates(path: Path, num_corpora: int) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
    """Return the numbers of the near duplicates of each training corpus, and the lines themselves.

    Args:
        path: What ``write_near_duplicates`` wrote.
        num_corpora: Training corpora.
    """
    with path.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    numbers = [
        np.array([row["row"] for row in lines if row["corpus"] == c], dtype=np.int64) for c in range(num_corpora)
    ]
    return numbers, lines


def _described(corpus: Corpus, index: int) -> dict[str, Any]:
    problem = corpus.problems[index]
    where = corpus.store.where(int(corpus.rows[index]))
    return {"source": problem.source, "id": problem.id, "where": where, "problem": problem.problem or problem.solution}
