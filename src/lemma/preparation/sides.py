"""Decides which problems of a run's corpora go to train, val and test, and accounts for those that go nowhere.

1. What the run itself leaves out stays out: rows that come twice or are tested on, and what is too long for its limits.
2. So do near duplicates, if they are looked for.
3. ``own``: val is what the run holds out, test its benchmarks. Proportions: all three (``80/10/10``) are cut by a hash
   of the problem, so that the same problem is in one of them alone; ``90/10`` leaves the benchmarks as test.
4. Train is one epoch of the mixture: where corpora have weights, each gives its share, drawn as ``lemma fit`` draws its
   first epoch. Val and test take every problem once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lemma.corpora import Corpus, Mixture, held_out, in_fold
from lemma.corpora.split import FOLDS
from lemma.datamodule import MathDataModule
from lemma.encoding import ExampleStore, Limits, encode_corpus
from lemma.preparation.options import OWN
from lemma.types import InputError

TRAIN, VAL, TEST = SIDES = ("train", "val", "test")

_UNLIMITED = 2**31 - 1  # tokens


@dataclass(frozen=True)
class Piece:
    """Some problems of one corpus that go to one side.

    Attributes:
        corpus: Where they are.
        index: (n,) int64, their numbers in it, rising.
        times: (n,) int64, how often each comes.
        prompt_tokens: (n,) int64.
        completion_tokens: (n,) int64, the stop token included.
    """

    corpus: Corpus
    index: np.ndarray
    times: np.ndarray
    prompt_tokens: np.ndarray
    completion_tokens: np.ndarray

    @property
    def num_rows(self) -> int:
        """Return the number of rows, repetitions included."""
        return int(self.times.sum())


@dataclass(frozen=True)
class Account:
    """What became of the problems of one training corpus.

    Attributes:
        corpus: The corpus.
        available: (n,) int64, numbers of the problems that are left once the data is clean.
        dropped: Problems left out by reason, without those that the run's own cleaning leaves out.
        too_long: (m,) int64, numbers of the problems that are too long.
    """

    corpus: Corpus
    available: np.ndarray
    dropped: dict[str, int]
    too_long: np.ndarray


@dataclass(frozen=True)
class Sides:
    """Where every problem went.

    Attributes:
        pieces: By side.
        accounts: One for each training corpus.
    """

    pieces: dict[str, list[Piece]]
    accounts: list[Account]


def clean_problems(data: MathDataModule) -> list[np.ndarray]:
    """Return the numbers of the problems of each training corpus that are neither dropped nor too long, rising.

    Args:
        data: Set up, with training corpora.
    """
    return [
        rows[~dropped[rows]]
        for rows, dropped in zip((store.arrays["rows"] for store in _stores(data)), data.cleaning.dropped, strict=True)
    ]


def divide(data: MathDataModule, split: str, near: Sequence[np.ndarray]) -> Sides:
    """Return where the problems of a run go.

    Args:
        data: Set up, with training corpora.
        split: ``own`` or proportions, as in ``PreparationArgs``.
        near: For each training corpus the numbers of its near duplicates.

    Raises:
        InputError: If a side, or a corpus's part of train, would be empty.
    """
    corpora, stores = data.loaded["train"], _stores(data)
    available = [numbers[~np.isin(numbers, out)] for numbers, out in zip(clean_problems(data), near, strict=True)]
    chosen = _own(data, available) if split == OWN else _folds(corpora, available, split)
    pieces = {
        side: [_piece(c, s, index) for c, s, index in zip(corpora, stores, chosen[side], strict=True) if len(index)]
        for side in (VAL, TEST)
    }
    pieces[TRAIN] = _epoch(data, corpora, stores, chosen[TRAIN])
    if split == OWN:
        pieces[VAL] += [
            _piece(corpus, part.store, part.store.arrays["rows"][part.index])
            for corpus, part in zip(data.loaded["held out"], data.training.held_out.parts[len(corpora) :], strict=True)
        ]
    if split.count("/") < 2:
        pieces[TEST] += [_benchmark(data, corpus) for corpus in data.loaded["benchmark"]]
    for side in SIDES:
        if not pieces[side] and not (side != TRAIN and split == OWN):
            raise InputError(f"--split: {split} leaves no problem for {side}.")
    accounts = [
        _account(data, number, available[number], near[number], chosen, pieces[TRAIN][number])
        for number in range(len(corpora))
    ]
    return Sides(pieces, accounts)


def levels_of(corpus: Corpus) -> np.ndarray:
    """Return (N,) float64, the level of each problem of a corpus, nan where it has none."""
    column = (np.nan if level is None else level for level in corpus.store.column("level"))
    return np.fromiter(column, dtype=np.float64)[corpus.rows]


def _stores(data: MathDataModule) -> list[ExampleStore]:
    return [part.store for part in data.training.examples.parts]


def _own(data: MathDataModule, available: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
    chosen: dict[str, list[np.ndarray]] = {TRAIN: [], VAL: [], TEST: []}
    for corpus, part, numbers in zip(data.loaded["train"], data.training.held_out.parts, available, strict=False):
        aside = held_out(corpus.keys[numbers], data.hold_out.share)
        chosen[TRAIN].append(numbers[~aside])
        chosen[VAL].append(np.intersect1d(numbers, part.store.arrays["rows"][part.index]))
        chosen[TEST].append(numbers[:0])
    return chosen


def _folds(corpora: Sequence[Corpus], available: Sequence[np.ndarray], split: str) -> dict[str, list[np.ndarray]]:
    return {
        side: [
            numbers[in_fold(corpus.keys[numbers], fold, split)]
            for corpus, numbers in zip(corpora, available, strict=True)
        ]
        for side, fold in zip(SIDES, FOLDS, strict=True)
    }


def _epoch(
    data: MathDataModule, corpora: Sequence[Corpus], stores: Sequence[ExampleStore], chosen: Sequence[np.ndarray]
) -> list[Piece]:
    """Return the problems of each corpus in the first epoch of the mixture, those that do not come included."""
    for corpus, index in zip(corpora, chosen, strict=True):
        if not len(index):
            raise InputError(f"--split: nothing is left of {corpus.source!r} for train.")
    mixture = Mixture([len(index) for index in chosen], [c.args.weight for c in corpora], data.seed, data.epoch)
    times = np.bincount(mixture.epoch_order(0), minlength=sum(mixture.sizes))
    parts = np.split(times, np.cumsum(mixture.sizes)[:-1])
    return [_piece(c, s, index, t) for c, s, index, t in zip(corpora, stores, chosen, parts, strict=True)]


def _benchmark(data: MathDataModule, corpus: Corpus) -> Piece:
    """Return the problems of a benchmark that can be graded, whatever their length."""
    graded = {problem.id for problem in data.benchmarks[corpus.source]}
    index = np.flatnonzero([problem.id in graded for problem in corpus.problems])
    return _piece(
        corpus, encode_corpus(corpus, data.encoder, Limits(_UNLIMITED, _UNLIMITED, "error"), data.cache), index
    )


def _piece(corpus: Corpus, store: ExampleStore, index: np.ndarray, times: np.ndarray | None = None) -> Piece:
    places = np.searchsorted(store.arrays["rows"], index)
    return Piece(
        corpus,
        np.asarray(index),
        np.ones(len(index), dtype=np.int64) if times is None else times,
        store.arrays["prompt_tokens"][places].astype(np.int64),
        store.arrays["completion_tokens"][places].astype(np.int64),
    )


def _account(
    data: MathDataModule,
    number: int,
    available: np.ndarray,
    near: np.ndarray,
    chosen: dict[str, list[np.ndarray]],
    train: Piece,
) -> Account:
    corpus = data.loaded["train"][number]
    dropped = data.cleaning.dropped[number]
    fits = np.zeros(len(corpus.rows), dtype=bool)
    fits[_stores(data)[number].arrays["rows"]] = True
    too_long = np.flatnonzero(~fits & ~dropped)
    counts = {"bad row": len(corpus.bad_rows), "filtered out": corpus.num_filtered, "over the cap": corpus.num_capped}
    counts |= {"too long": len(too_long), "near duplicate": len(near)}
    counts["held out beyond the most"] = len(available) - sum(len(chosen[side][number]) for side in SIDES)
    counts["not in the mixture's epoch"] = int((train.times == 0).sum())
    return Account(corpus, available, {name: count for name, count in counts.items() if count}, too_long)
