"""Decides how rows outlive the process that makes them: a file of each rank, a header, and whole rows alone.

The header is a fingerprint of whatever decides a row; rows under another one are another run's and set aside.
"""

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from lightning.pytorch.utilities import rank_zero_info

from lemma.files import keep_previous, write_atomic
from lemma.types import InputError

_SYNC = 1.0  # seconds between two times that the disk is waited for


class RowFile:
    """Appends the rows of a rank, each at once to ``<folder>/<kind>-rank<r>.jsonl``.

    Args:
        folder: Of the run; made if it is missing.
        kind: What a row is.
        rank: Whose file it is.
        fingerprint: As ``json_fingerprint`` returns it.

    Raises:
        InputError: If the file cannot be written.
    """

    def __init__(self, folder: Path, kind: str, rank: int, fingerprint: Mapping[str, Any]) -> None:
        self.path = folder / f"{kind}-rank{rank}.jsonl"
        self._synced = time.monotonic()
        try:
            self._stream = self._open(fingerprint)
        except OSError as error:
            raise InputError(f"{self.path}: could not be written ({error}).") from error

    def append(self, row: Any) -> None:
        """Append a row; the process may be killed any time after.

        Raises:
            InputError: If the disk is full.
        """
        try:
            _write(self._stream, row)
        except OSError as error:
            raise InputError(f"{self.path}: could not be written ({error}). What stands there is kept.") from error
        if time.monotonic() - self._synced > _SYNC:
            self._sync()

    def close(self) -> None:
        """Wait for the disk; safe to call twice."""
        if not self._stream.closed:
            self._sync()
            self._stream.close()

    def _open(self, fingerprint: Mapping[str, Any]) -> BinaryIO:
        """Open the file behind its last whole row; on a disk that rank 0 does not see, it may be another's."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        header, size = _header(self.path) if self.path.exists() else (None, 0)
        if header == fingerprint:
            os.truncate(self.path, size)
        else:
            keep_previous(self.path)
        stream = self.path.open("ab", buffering=0)
        if header != fingerprint:
            _write(stream, fingerprint)
        return stream

    def _sync(self) -> None:
        os.fsync(self._stream.fileno())
        self._synced = time.monotonic()


def json_fingerprint(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a fingerprint as it is read back from a file."""
    return json.loads(json.dumps(fingerprint))


def set_aside_others(folder: Path, kind: str, fingerprint: Mapping[str, Any]) -> None:
    """Move the files of every other run out of the way, and say what is different there.

    Args:
        folder: Of the run.
        kind: What a row is.
        fingerprint: Of the run that begins.
    """
    for path in _files(folder, kind):
        header, size = _header(path)
        if not size:  # killed before the header stood there
            path.unlink()
        elif header != fingerprint:
            rank_zero_info(f"{path} is of another run ({_difference(header, fingerprint)}): set aside.")
            keep_previous(path)


def earlier_rows(folder: Path, kind: str) -> Iterator[Any]:
    """Yield the whole rows of all ranks, rank by rank, those of the run alone: see ``set_aside_others``.

    Args:
        folder: Of the run.
        kind: What a row is.
    """
    yield from (_loaded(line) for _, _, line in _lines(folder, kind))


def find_rows(folder: Path, kind: str, place: Callable[[Any], int | None]) -> dict[int, tuple[Path, int]]:
    """Return in which file and at which byte the row of each place stands, in the order of places.

    Args:
        folder: Of the run.
        kind: What a row is.
        place: Maps a row to its place; None leaves it out. Of two rows for one place the first counts.
    """
    found: dict[int, tuple[Path, int]] = {}
    for file, offset, line in _lines(folder, kind):
        if (number := place(_loaded(line))) is not None:
            found.setdefault(number, (file, offset))
    return dict(sorted(found.items()))


def write_rows(path: Path, found: Mapping[int, tuple[Path, int]]) -> None:
    """Write rows that were found into one file, whole or not at all; one is in memory at a time.

    Args:
        path: The file; what stands there is replaced.
        found: As ``find_rows`` returns it.
    """

    def write(stream: BinaryIO) -> None:
        with contextlib.ExitStack() as stack:
            files = {file: stack.enter_context(file.open("rb")) for file in {file for file, _ in found.values()}}
            for file, offset in found.values():
                files[file].seek(offset)
                stream.write(files[file].readline())

    write_atomic(path, write)


def remove_row_files(folder: Path, kind: str) -> None:
    """Delete the files of a run whose results are written."""
    for path in _files(folder, kind):
        path.unlink()


def _files(folder: Path, kind: str) -> list[Path]:
    name = re.compile(rf"{kind}-rank[0-9]+\.jsonl")
    return sorted(path for path in folder.glob(f"{kind}-rank*.jsonl") if name.fullmatch(path.name))


def _lines(folder: Path, kind: str) -> Iterator[tuple[Path, int, bytes]]:
    """Yield the file, the offset in bytes and the text of each whole row."""
    for path in _files(folder, kind):
        with path.open("rb") as stream:
            offset = len(next(stream, b""))  # the header
            for line in stream:
                if line.endswith(b"\n"):
                    yield path, offset, line
                offset += len(line)


def _write(stream: BinaryIO, row: Any) -> None:
    line = json.dumps(row).encode() + b"\n"
    if stream.write(line) != len(line):  # unbuffered, so at once; a disk may take but a part
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _header(path: Path) -> tuple[Any, int]:
    """Return a file's header (None where it has none), and how many bytes its whole rows take with it."""
    size, header = 0, b""
    with path.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                header, size = header or line, size + len(line)
    return _loaded(header), size


def _loaded(line: bytes) -> Any:
    """Return what a line says; None for one that a crash of the machine has spoilt."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _difference(header: Any, fingerprint: Mapping[str, Any]) -> str:
    """Return what two fingerprints do not share, for people."""
    if not isinstance(header, dict):
        return "its first line cannot be read"
    one, other = _flat(header), _flat(fingerprint)
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return ", ".join(f"{name} {_short(one.get(name))}, now {_short(other.get(name))}" for name in names)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"
