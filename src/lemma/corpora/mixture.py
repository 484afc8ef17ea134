"""Decides which rows of several corpora make up an epoch, and in which order.

1. Weights give each corpus its share of an epoch. It ends when the first corpus would be exhausted, or, with ``epoch``
   ``longest``, when every row of every corpus has come: smaller ones are then repeated.
2. Each corpus has an endless order of its own rows: one permutation after another (*passes*). An epoch takes the next
   rows of it, so no row comes twice before all rows of its corpus came once.
3. Where an epoch ends one pass and begins the next, the rows that it already has are moved back in the new pass, so
   that no epoch holds a row twice (of a corpus that is not repeated within it).
4. The rows of all corpora are permuted together.

Everything is a pure function of (sizes, weights, seed, epoch).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

import numpy as np

from lemma.types import InputError

_ROWS, _EPOCH = 0, 1  # which draw a generator is for


class Mixture:
    """The order of rows of several corpora, epoch by epoch. Without weights an epoch is every row once.

    Args:
        sizes: Rows of each corpus, at least 1.
        weights: Share of each corpus, above 0 and in any unit, or all None. None stands for all None.
        seed: At least 0.
        epoch: ``shortest`` or ``longest``: which corpus ends an epoch, where there are weights.

    Attributes:
        counts: Rows of each corpus in an epoch, the same in every epoch.

    Raises:
        InputError: If just some corpora have a weight, one is not above 0, or one is too small for a single row.
        ValueError: If there is no corpus, a corpus without rows, the lengths differ or the seed is negative.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float | None] | None = None,
        seed: int = 0,
        epoch: str = "shortest",
    ) -> None:
        """See the class."""
        weights = [None] * len(sizes) if weights is None else list(weights)
        if not sizes or min(sizes) < 1:
            raise ValueError(f"Expected `sizes` to be one or more numbers of at least 1, but got {list(sizes)}.")
        if len(weights) != len(sizes):
            raise ValueError(f"Expected `weights` to be {len(sizes)} numbers, but got {weights}.")
        if seed < 0:
            raise ValueError(f"Expected `seed` to be at least 0, but got {seed}.")
        self.sizes = list(sizes)
        self.counts = epoch_counts(self.sizes, weights, epoch)
        self._seed = seed
        self._starts = np.cumsum([0, *sizes[:-1]])

    def __len__(self) -> int:
        """Return the number of rows of any epoch."""
        return sum(self.counts)

    def epoch_order(self, epoch: int) -> np.ndarray:
        """Return the rows of an epoch.

        Args:
            epoch: Counted from 0.

        Returns:
            int64 array of shape ``(len(self),)``: indices into the concatenation of the corpora.

        Raises:
            ValueError: If the epoch is negative.
        """
        if epoch < 0:
            raise ValueError(f"Expected `epoch` to be at least 0, but got {epoch}.")
        rows = [start + self._rows_of(corpus, epoch) for corpus, start in enumerate(self._starts)]
        return self._generator(_EPOCH, epoch).permutation(np.concatenate(rows))

    def _rows_of(self, corpus: int, epoch: int) -> np.ndarray:
        """Return the rows of one corpus in an epoch, shape ``(counts[corpus],)``."""
        size, count = self.sizes[corpus], self.counts[corpus]
        number, offset = divmod(epoch * count, size)
        if count >= size:
            passes = range(number, number + 1 + (offset + count - 1) // size)
            rows = [self._generator(_ROWS, corpus, each).permutation(size) for each in passes]
            return np.concatenate(rows)[offset : offset + count]
        order = self._pass(corpus, number)
        if offset + count > size:
            order = np.concatenate([order, self._next_pass(corpus, number, order)])
        return order[offset : offset + count]

    def _pass(self, corpus: int, number: int) -> np.ndarray:
        """Return all rows of a corpus in the order of the given pass, shape ``(sizes[corpus],)``."""
        size, count = self.sizes[corpus], self.counts[corpus]
        period = count // math.gcd(size, count)  # every so many passes, a pass and an epoch begin together
        first = number - number % period
        order = self._generator(_ROWS, corpus, first).permutation(size)
        for earlier in range(first, number):
            order = self._next_pass(corpus, earlier, order)
        return order

    def _next_pass(self, corpus: int, number: int, order: np.ndarray) -> np.ndarray:
        """Return the order of the pass after pass ``number``, whose order is given."""
        size, count = self.sizes[corpus], self.counts[corpus]
        fresh = self._generator(_ROWS, corpus, number + 1).permutation(size)
        num_taken = (number + 1) * size % count  # rows at the old pass's end that share an epoch with the new pass
        if num_taken == 0:
            return fresh
        free = np.flatnonzero(~np.isin(fresh, order[size - num_taken :]))[: count - num_taken]
        return np.concatenate([fresh[free], np.delete(fresh, free)])

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))


EPOCHS: dict[str, Callable[[Iterable[Fraction]], Fraction]] = {"shortest": min, "longest": max}
"""What ends an epoch → which of the rows that each corpus could fill by its share are taken."""


def epoch_counts(sizes: Sequence[int], weights: Sequence[float | None], epoch: str = "shortest") -> list[int]:
    """Return how many rows of each corpus an epoch holds.

    With shares ``weight / sum of weights``, an epoch has ``min(size / share)`` rows (``max`` where the longest corpus
    ends it), rounded down, and they are dealt out by largest remainder. Weights are taken as the decimals that were
    written, so 0.1 is a tenth.

    Args:
        sizes: Rows of each corpus.
        weights: Weight of each corpus, or all None for every row once.
        epoch: One of ``EPOCHS``.

    Raises:
        InputError: If just some corpora have a weight, one is not above 0, or one is too small for a single row.
    """
    if all(weight is None for weight in weights):
        return list(sizes)
    if not all(weight is not None and 0 < weight < float("inf") for weight in weights):
        raise InputError(f"data.corpora: expected `weight` above 0 in all corpora or in none, but got {list(weights)}.")
    exact = [Fraction(str(weight)) for weight in weights]
    num_rows = int(EPOCHS[epoch](size * sum(exact) / weight for size, weight in zip(sizes, exact, strict=True)))
    quotas = [num_rows * weight / sum(exact) for weight in exact]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(sizes)), key=lambda corpus: counts[corpus] - quotas[corpus])
    for corpus in by_remainder[: num_rows - sum(counts)]:
        counts[corpus] += 1
    if min(counts) == 0:
        raise InputError(
            f"data.corpora: expected every `weight` to give a row or more, but weights {list(weights)} of corpora "
            f"with {list(sizes)} rows give {counts} rows an epoch."
        )
    return counts
