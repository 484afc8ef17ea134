"""What a loaded corpus is: problems or pairs on disk, the ones among them that were asked for, and the account."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tabulate import tabulate

from lemma.corpora.pairing import pairing_report
from lemma.corpora.registry import CorpusArgs
from lemma.corpora.split import Item
from lemma.corpora.store import NOUNS, Store
from lemma.types import InputError, Preference, Problem


@dataclass(frozen=True)
class Corpus:
    """A loaded corpus and the account of what is not in it."""

    args: CorpusArgs
    """What was asked for."""
    store: Store
    """Every row that could be read."""
    rows: np.ndarray
    """(N,) int64, the rows of the store that were asked for, in the order of the data, at least one."""
    num_filtered: int
    """Problems or pairs that `where` and `fold` left out."""
    num_capped: int
    """Problems or pairs that `max_rows` left out."""
    sha256: str
    """Hash of the local file's bytes; of all that could be read before filter and cap for hub and generated data."""

    @property
    def source(self) -> str:
        """Return the label in metrics and logs; every problem or pair has it."""
        return self.store.source

    @property
    def bad_rows(self) -> list[str]:
        """Return ``where: reason`` of each row that could not be read; empty unless `on_bad_row` is skip."""
        return self.store.bad_rows

    @property
    def keys(self) -> np.ndarray:
        """Return (N,) uint64, ``problem_key`` of each problem, or of each pair's."""
        return self.store.keys[self.rows]

    @property
    def holds_pairs(self) -> bool:
        """Return whether these are preference pairs, not problems."""
        return self.store.noun == "preferences"

    @property
    def problems(self) -> Sequence[Problem]:
        """Return the problems.

        Raises:
            InputError: If these are pairs.
        """
        return self._items_of("problems")

    @property
    def preferences(self) -> Sequence[Preference]:
        """Return the pairs.

        Raises:
            InputError: If these are problems.
        """
        return self._items_of("preferences")

    @functools.cached_property
    def items(self) -> Sequence[Item]:
        """Return the problems or the pairs, whichever it holds, read from disk when they are asked for."""
        return Selection(self.store, self.rows)

    def _items_of(self, noun: str) -> Sequence[Any]:
        if self.store.noun != noun:
            held, wanted = NOUNS[self.store.noun].plural, NOUNS[noun].plural
            raise InputError(f"corpus: {self.source!r} ({self.args.name}) holds {held}, but {wanted} are needed here.")
        return self.items


class Selection(Sequence[Item]):
    """Some rows of a store, in order."""

    def __init__(self, store: Store, rows: np.ndarray) -> None:
        """See the class."""
        self._store, self._rows = store, rows

    def __len__(self) -> int:
        """Return the number of problems or pairs."""
        return len(self._rows)

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        """Return a problem or a pair, or a list of them."""
        if isinstance(index, slice):
            return [self._store[row] for row in self._rows[index]]
        return self._store[self._rows[index]]

    def __eq__(self, other: object) -> bool:
        """Return whether the other has equal ones in the same order."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None


def reading_report(corpora: dict[str, list[Corpus]]) -> str:
    """Return what was read, as a table, how many problems give pairs, and each skipped row with place and reason.

    Args:
        corpora: Corpora by what they are for, e.g. train or benchmark.
    """
    rows = [
        [kind, corpus.source, len(corpus.rows), len(corpus.bad_rows), corpus.num_filtered, corpus.num_capped]
        for kind, group in corpora.items()
        for corpus in group
    ]
    table = tabulate(rows, ["for", "corpus", "read", "bad rows", "filtered out", "over the cap"])
    pairing = [
        pairing_report(corpus.source, corpus.store.outcomes, corpus.store.unused)
        for group in corpora.values()
        for corpus in group
        if corpus.store.outcomes
    ]
    skipped = [f"skipped {reason}" for group in corpora.values() for corpus in group for reason in corpus.bad_rows]
    return "\n".join([table, *pairing, *skipped])
