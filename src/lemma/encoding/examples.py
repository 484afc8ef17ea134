"""Decides which encoded examples a run has, and what is asked of all of them at once: lengths, weights, pairs."""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lemma.encoding.chat import Example
from lemma.encoding.example_store import ExampleStore


@dataclass(frozen=True)
class Part:
    """Some examples of one corpus.

    Attributes:
        store: Where they are.
        index: (n,) int64, which.
        source: The corpus's label.
        weight: Of their completion tokens in the loss, or of the pairs.
    """

    store: ExampleStore
    index: np.ndarray
    source: str
    weight: float = 1.0

    def column(self, name: str) -> np.ndarray:
        """Return one array of the store at these examples, (n,)."""
        return self.store.arrays[name][self.index]

    @property
    def holds_pairs(self) -> bool:
        """Return whether every example, of which there is one at least, has two completions."""
        return len(self.index) > 0 and bool((self.store.num_completions(self.index) == 2).all())


class Examples(Sequence[Example]):
    """The examples of a run, corpus after corpus.

    Args:
        parts: One for each corpus; some may be empty.

    Attributes:
        ref_logps: (N, n) float64, the reference's log-probability of each of an example's n completions, where it was
            computed beforehand; whoever did sets it, and the batches that are made from then on have it.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self.ref_logps: np.ndarray | None = None
        self._ends = np.cumsum([len(part.index) for part in self.parts], dtype=np.int64)

    @classmethod
    def of(cls, examples: Sequence[Example]) -> "Examples":
        """Return a list of examples in this form, in memory."""
        runs: list[list[Example]] = []
        for example in examples:
            if not runs or (example.source, example.weight) != (runs[-1][0].source, runs[-1][0].weight):
                runs.append([])
            runs[-1].append(example)
        return cls([Part(ExampleStore.of(run), np.arange(len(run)), run[0].source, run[0].weight) for run in runs])

    def __len__(self) -> int:
        """Return the number of examples."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Example:
        """Return one example."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self._ends, index, side="right"))
        part = self.parts[number]
        offset = int(index) - (int(self._ends[number - 1]) if number else 0)
        return part.store.get(int(part.index[offset]), source=part.source, weight=part.weight)

    def __iter__(self) -> Iterator[Example]:
        """Yield all examples."""
        return (self[index] for index in range(len(self)))

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Return (N,) int32, the tokens of each example's longest sequence."""
        return self._column("lengths")

    @functools.cached_property
    def shared_lengths(self) -> np.ndarray:
        """Return (N,) int64, the tokens of each example where its prompt stands once, before all its completions."""
        return self._column("prompt_tokens").astype(np.int64) + self._column("completion_tokens")

    @functools.cached_property
    def weights(self) -> np.ndarray:
        """Return (N,) float64, the weight of each example."""
        weights = np.array([part.weight for part in self.parts], dtype=np.float64)
        return np.repeat(weights, [len(part.index) for part in self.parts])

    @functools.cached_property
    def completion_weights(self) -> np.ndarray:
        """Return (N,) float64, weight x completion tokens: each example's part of a window's normaliser."""
        return self._column("completion_tokens") * self.weights

    @functools.cached_property
    def holds_pairs(self) -> bool:
        """Return whether every example, of which there is one at least, has two completions."""
        return len(self) > 0 and all(part.holds_pairs for part in self.parts if len(part.index))

    @functools.cached_property
    def corpus(self) -> np.ndarray:
        """Return (N,) int64, the number of each example's part."""
        return np.repeat(np.arange(len(self.parts)), [len(part.index) for part in self.parts])

    @functools.cached_property
    def sha256(self) -> str:
        """Return a hash of the token ids of all examples, in their order."""
        digest = hashlib.sha256()
        for part in self.parts:
            part.store.update(digest, part.index)
        return digest.hexdigest()

    def _column(self, name: str) -> np.ndarray:
        columns = [part.column(name) for part in self.parts]
        return np.concatenate(columns) if columns else np.zeros(0, dtype=np.int32)


def longest_example(*groups: Examples, lengths: str = "lengths") -> Example | None:
    """Return the longest example, None if there is none.

    Args:
        groups: Where to look.
        lengths: What is measured: ``lengths`` or ``shared_lengths`` of ``Examples``.
    """
    some = [(group, getattr(group, lengths)) for group in groups if len(group)]
    group, measured = max(some, key=lambda pair: pair[1].max(), default=(None, None))
    return None if group is None else group[int(measured.argmax())]
