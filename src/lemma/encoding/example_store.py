"""Decides how encoded examples are kept: token ids in flat arrays, on disk and mapped into memory, or in memory.

An example is a row of segments: its prompt, then its completions. ``spans`` holds where each segment ends in
``tokens``, ``first`` the number of each example's first segment. What is asked of every example of a run (lengths,
completion tokens) stands in arrays of its own, so that planning an epoch reads no text and no ids.
"""

import hashlib
from collections.abc import Iterable
from contextlib import ExitStack
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
    "kinds": np.uint8,  # UTF-8 of what makes the completions of each example differ
    "kind_ends": np.int64,  # (N,)
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
        problem_id, kind = self._text("ids", "id_ends", index), self._text("kinds", "kind_ends", index)
        return Example(problem_id, source, segments[0], segments[1:], weight, bool(arrays["answer_cut"][index]), kind)

    def num_completions(self, index: np.ndarray) -> np.ndarray:
        """Return (n,) int64, the completions of the examples at ``index``, (n,) int64."""
        bounds = np.append(self.arrays["first"], len(self.arrays["spans"]))
        return bounds[index + 1] - bounds[index] - 1

    def completion_lengths(self, index: np.ndarray) -> np.ndarray:
        """Return the tokens of each completion of some examples.

        Args:
            index: (n,) int64, examples that all have k completions.

        Returns:
            (n, k) int64.
        """
        if not len(index):
            return np.zeros((0, 0), dtype=np.int64)
        number = int(self.num_completions(index[:1])[0])
        segments = self.arrays["first"][index][:, None] + np.arange(number + 1)  # the prompt's, then the completions'
        return np.diff(self.arrays["spans"][segments], axis=1)

    def update(self, digest: "hashlib._Hash", index: np.ndarray) -> None:
        """Add the token ids of some examples to a hash, and where their segments end."""
        tokens, spans = self.arrays["tokens"], self.arrays["spans"]
        bounds = np.append(self.arrays["first"], len(spans))
        for first, last in zip(bounds[index].tolist(), bounds[index + 1].tolist(), strict=True):
            start = int(spans[first - 1]) if first else 0
            digest.update((spans[first:last] - start).tobytes())
            digest.update(tokens[start : int(spans[last - 1])].tobytes())

    def _text(self, name: str, ends: str, index: int) -> str:
        start = int(self.arrays[ends][index - 1]) if index else 0
        return self.arrays[name][start : int(self.arrays[ends][index])].tobytes().decode()

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
        num_kind_bytes: Bytes of kinds that do.
    """

    def __init__(
        self, num_tokens: int = 0, num_segments: int = 0, num_id_bytes: int = 0, num_kind_bytes: int = 0
    ) -> None:
        self.num_tokens, self.num_segments = num_tokens, num_segments
        self.num_id_bytes, self.num_kind_bytes = num_id_bytes, num_kind_bytes
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
        identifier, kind = example.problem_id.encode(), example.kind.encode()
        columns["ids"] += identifier
        columns["kinds"] += kind
        self.num_id_bytes += len(identifier)
        self.num_kind_bytes += len(kind)
        columns["id_ends"].append(self.num_id_bytes)
        columns["kind_ends"].append(self.num_kind_bytes)
        columns["rows"].append(row)
        columns["lengths"].append(max(sequence_lengths(example)))
        columns["prompt_tokens"].append(len(example.prompt_ids))
        columns["completion_tokens"].append(sum(map(len, example.completions)))
        columns["answer_cut"].append(example.answer_cut)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was added."""
        return {name: np.array(values, dtype=_DTYPES[name]) for name, values in self._columns.items()}

    def next(self) -> "_Columns":
        """Return an empty one for what comes after these in the same store."""
        return _Columns(self.num_tokens, self.num_segments, self.num_id_bytes, self.num_kind_bytes)


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
                columns, held = columns.next(), 0
        flush()
