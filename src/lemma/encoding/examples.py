"""Decides how encoded examples are kept: token ids in flat arrays, on disk and mapped into memory, or in memory.

An example is a row of segments: its prompt, then its completions. ``spans`` holds where each segment ends in
``tokens``, ``first`` the number of each example's first segment. What is asked of every example of a run (lengths,
completion tokens) stands in arrays of its own, so that planning an epoch reads no text and no ids.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lemma.encoding.chat import Example
from lemma.encoding.layouts import sequence_lengths

_DTYPES = {
    "tokens": np.int32,
    "spans": np.int64,  # (segments,) end of each segment in tokens
    "first": np.int64,  # (N,) segments before each example
    "ids": np.uint8,  # UTF-8 of all problem ids
    "id_ends": np.int64,  # (N,)
    "rows": np.int64,  # (N,) number of the problem in its corpus
    "lengths": np.int32,  # (N,) tokens of the longest sequence, prompt and one completion
    "prompt_tokens": np.int32,  # (N,)
    "completion_tokens": np.int32,  # (N,)
    "answer_cut": np.bool_,  # (N,)
}


class ExampleStore:
    """Encoded examples in arrays.

    Args:
        arrays: By the names above; in memory, or mapped from files.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.arrays["first"])

    def get(self, index: int, *, source: str, weight: float) -> Example:
        """Return one example.

        Args:
            index: From 0.
            source: Its corpus's label.
            weight: Of its completion tokens in the loss.
        """
        arrays = self.arrays
        first, last = int(arrays["first"][index]), self._end("first", index, len(arrays["spans"]))
        start = int(arrays["spans"][first - 1]) if first else 0
        segments = []
        for end in arrays["spans"][first:last].tolist():
            segments.append(arrays["tokens"][start:end].tolist())
            start = end
        id_start = int(arrays["id_ends"][index - 1]) if index else 0
        problem_id = arrays["ids"][id_start : int(arrays["id_ends"][index])].tobytes().decode()
        return Example(problem_id, source, segments[0], segments[1:], weight, bool(arrays["answer_cut"][index]))

    def _end(self, name: str, index: int, end: int) -> int:
        return int(self.arrays[name][index + 1]) if index + 1 < len(self) else end

    @classmethod
    def open(cls, folder: Path) -> "ExampleStore":
        """Map what ``ExampleWriter`` wrote into memory."""
        arrays = {}
        for name, dtype in _DTYPES.items():
            file = folder / f"{name}.bin"
            empty = file.stat().st_size == 0
            arrays[name] = np.zeros(0, dtype) if empty else np.memmap(file, dtype=dtype, mode="r")
        return cls(arrays)

    @classmethod
    def of(cls, examples: Iterable[Example]) -> "ExampleStore":
        """Return examples as arrays in memory; their rows are numbered as they come."""
        writer = _Columns()
        for row, example in enumerate(examples):
            writer.add(row, example)
        return cls(writer.arrays())


class _Columns:
    """Collects examples as arrays.

    Args:
        num_tokens: Tokens that come before these in the same store.
        num_segments: Segments that do.
        num_id_bytes: Bytes of problem ids that do.
    """

    def __init__(self, num_tokens: int = 0, num_segments: int = 0, num_id_bytes: int = 0) -> None:
        self.num_tokens, self.num_segments, self.num_id_bytes = num_tokens, num_segments, num_id_bytes
        self._columns: dict[str, list] = {name: [] for name in _DTYPES}

    def add(self, row: int, example: Example) -> None:
        """Add one."""
        columns = self._columns
        columns["first"].append(self.num_segments)
        for segment in (example.prompt_ids, *example.completions):
            columns["tokens"] += segment
            self.num_tokens += len(segment)
            columns["spans"].append(self.num_tokens)
        self.num_segments += 1 + len(example.completions)
        identifier = example.problem_id.encode()
        columns["ids"] += identifier
        self.num_id_bytes += len(identifier)
        columns["id_ends"].append(self.num_id_bytes)
        columns["rows"].append(row)
        columns["lengths"].append(max(sequence_lengths(example)))
        columns["prompt_tokens"].append(len(example.prompt_ids))
        columns["completion_tokens"].append(sum(map(len, example.completions)))
        columns["answer_cut"].append(example.answer_cut)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was added."""
        return {name: np.array(values, dtype=_DTYPES[name]) for name, values in self._columns.items()}


def write_examples(folder: Path, examples: Iterable[tuple[int, Example]], *, chunk: int = 2048) -> None:
    """Write examples into a folder, a chunk at a time.

    Args:
        folder: Exists; ``ExampleStore.open`` reads it.
        examples: (number of the problem in its corpus, example).
        chunk: Examples in memory.
    """
    columns, held = _Columns(), 0
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in _DTYPES}

        def flush() -> None:
            for name, array in columns.arrays().items():
                array.tofile(files[name])

        for row, example in examples:
            columns.add(row, example)
            held += 1
            if held == chunk:
                flush()
                columns, held = _Columns(columns.num_tokens, columns.num_segments, columns.num_id_bytes), 0
        flush()


@dataclass(frozen=True)
class Part:
    """Some examples of one corpus.

    Attributes:
        store: Where they are.
        index: (n,) int64, which.
        source: The corpus's label.
        weight: Of their completion tokens in the loss.
    """

    store: ExampleStore
    index: np.ndarray
    source: str
    weight: float = 1.0

    def column(self, name: str) -> np.ndarray:
        """Return one array of the store at these examples, (n,)."""
        return self.store.arrays[name][self.index]


class Examples(Sequence[Example]):
    """The examples of a run, corpus after corpus.

    Args:
        parts: One for each corpus; some may be empty.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
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
    def completion_weights(self) -> np.ndarray:
        """Return (N,) float64, weight x completion tokens: each example's part of a window's normaliser."""
        weights = np.repeat([part.weight for part in self.parts], [len(part.index) for part in self.parts])
        return self._column("completion_tokens") * weights

    @functools.cached_property
    def corpus(self) -> np.ndarray:
        """Return (N,) int64, the number of each example's part."""
        return np.repeat(np.arange(len(self.parts)), [len(part.index) for part in self.parts])

    def _column(self, name: str) -> np.ndarray:
        columns = [part.column(name) for part in self.parts]
        return np.concatenate(columns) if columns else np.zeros(0, dtype=_DTYPES[name])


def longest_example(*groups: Examples) -> Example | None:
    """Return the example with the longest sequence, None if there is none."""
    longest = max((group for group in groups if len(group)), key=lambda group: group.lengths.max(), default=None)
    return None if longest is None else longest[int(longest.lengths.argmax())]
