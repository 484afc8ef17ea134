"""Decides what a killed evaluation leaves behind: each finished completion, and what it depended on.

1. Each rank appends to a file of its own, ``completions-rank<r>.jsonl`` (``row_files``): a row a completion.
2. The next run takes the rows of every such file whose header is its own; a file of another evaluation is set aside.
3. A row counts if it is whole; of two for one completion, the first. When results are written, the files go.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lemma.evaluation.benchmarks import BenchmarkItem
from lemma.evaluation.row_files import RowFile, earlier_rows, json_fingerprint, remove_row_files, set_aside_others
from lemma.types import Completion

_KIND = "completions"
_VERSION = 1

Key = tuple[str, int, str, int]
"""Source, index of the problem there, its id, index of the completion."""


@dataclass(frozen=True)
class Kept:
    """A completion from an earlier run, and the seconds spent on it."""

    completion: Completion
    seconds: float


@dataclass(frozen=True)
class Earlier:
    """What earlier runs of the same evaluation left.

    Attributes:
        fingerprint: Whatever decides a completion, by name; primitives, or mappings of them.
        kept: The completions.
    """

    fingerprint: dict[str, Any]
    kept: dict[Key, Kept] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, fingerprint: Mapping[str, Any]) -> "Earlier":
        """Return what the files of a folder hold, and set aside those of another evaluation.

        Args:
            folder: Of the evaluation.
            fingerprint: Of the evaluation that begins.
        """
        earlier = cls(json_fingerprint({"version": _VERSION, **fingerprint}))
        set_aside_others(folder, _KIND, earlier.fingerprint)
        for row in earlier_rows(folder, _KIND):
            if (found := _completion(row)) is not None:
                earlier.kept.setdefault(*found)
        return earlier


class Journal:
    """Keeps a rank's completions as they are drawn.

    Args:
        folder: Of the evaluation.
        rank: Whose file is written.
        earlier: What is there already.
    """

    def __init__(self, folder: Path, rank: int, earlier: Earlier) -> None:
        self._kept: dict[tuple[str, int, str], dict[int, Kept]] = {}
        for (*problem, sample), kept in earlier.kept.items():
            self._kept.setdefault(tuple(problem), {})[sample] = kept
        self._file = RowFile(folder, _KIND, rank, earlier.fingerprint)

    @property
    def path(self) -> Path:
        """Return the file of this rank."""
        return self._file.path

    def kept(self, item: BenchmarkItem) -> dict[int, Kept]:
        """Return what earlier runs left of a problem, by the index of the completion."""
        return self._kept.get((item.problem.source, item.index, item.problem.id), {})

    def add(self, item: BenchmarkItem, completion: Completion, seconds: float) -> None:
        """Append a completion; the process may be killed any time after.

        Raises:
            InputError: If the disk is full.
        """
        self._file.append(
            {
                "source": item.problem.source,
                "index": item.index,
                "problem_id": item.problem.id,
                "sample": completion.sample,
                "text": completion.text,
                "num_tokens": completion.num_tokens,
                "stopped": completion.stopped,
                "seconds": round(seconds, 4),
            }
        )

    def close(self) -> None:
        """Wait for the disk; safe to call twice."""
        self._file.close()


def remove_journals(folder: Path) -> None:
    """Delete the files of an evaluation whose results are written."""
    remove_row_files(folder, _KIND)


def _completion(row: Any) -> tuple[Key, Kept] | None:
    """Return what a row says; None for one that is spoilt."""
    match row:
        case {
            "source": str(source),
            "index": int(index),
            "problem_id": str(id_),
            "sample": int(sample),
            "text": str(text),
            "num_tokens": int(num_tokens),
            "stopped": bool(stopped),
            "seconds": float() | int() as seconds,
        }:
            completion = Completion(id_, source, sample, text, num_tokens, stopped)
            return (source, index, id_, sample), Kept(completion, seconds)
    return None
