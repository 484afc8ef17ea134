"""How files are written: whole or not at all, and never over what was there before. Standard library only."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from lemma.types import InputError


def write_atomic(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file so that a reader sees the old one or the whole new one: write aside, fsync, rename.

    Args:
        path: Where the file goes; missing parent folders are made.
        write: Writes the content to a binary stream.

    Raises:
        InputError: If the file cannot be written (full disk, no permission). What stood at ``path`` is still there.
    """
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        raise InputError(f"{path}: could not be written ({error}). Every file written before is intact.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()  # gone already where all went well


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    write_atomic(path, lambda stream: stream.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write a JSON Lines file atomically, one row a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def keep_previous(path: Path) -> None:
    """Move what stands at ``path`` to the first free ``<name>-1``, ``<name>-2``, …, so that nothing is overwritten."""
    if not os.path.lexists(path):
        return
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.stem}-{number}{path.suffix}")):
        number += 1
    path.rename(kept)
