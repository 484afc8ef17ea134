"""Decides which parts of an output are finished, and refuses to mix the outputs of two configurations."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lemma.files import write_json
from lemma.types import InputError

FILE = "manifest.json"
_BLOCK = 1 << 20  # bytes read at once


class Manifest:
    """The list of what an output folder holds, with hashes.

    Args:
        folder: Of the output; made if it is not there.
        made_from: All that decides the content, as JSON values; parts by name.

    Raises:
        InputError: If the folder cannot be written to, holds the output of another configuration or other files.
    """

    def __init__(self, folder: Path, made_from: dict[str, Any]) -> None:
        self.folder = folder
        self._made_from = json.loads(json.dumps(made_from))
        self.files: dict[str, str] = {}
        check_folder(folder)
        if (folder / FILE).is_file():
            self._resume(folder / FILE)
            for left_over in folder.glob("*.partial-*"):  # by a run that was killed
                shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
        self._write()

    def _resume(self, path: Path) -> None:
        try:
            found = json.loads(path.read_bytes())
            there, files = found["made_from"], found["files"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"--output: {path} is not what this tool wrote ({type(error).__name__}: {error})."
            ) from error
        if changed := [key for key in self._made_from | there if there.get(key) != self._made_from.get(key)]:
            raise InputError(
                f"--output: {self.folder} holds data made from another configuration (other: {', '.join(changed)}); "
                "choose another folder."
            )
        self.files = files

    def stage(self, names: Sequence[str], build: Callable[[], None]) -> bool:
        """Build some files or folders of the output, unless they are there and whole.

        Args:
            names: What ``build`` writes, relative to the folder.
            build: Writes each of them atomically.

        Returns:
            Whether it had to be built.
        """
        if all(name in self.files and digest(self.folder / name) == self.files[name] for name in names):
            return False
        build()
        self.files |= {name: digest(self.folder / name) for name in names}
        self._write()
        return True

    def _write(self) -> None:
        write_json(self.folder / FILE, {"made_from": self._made_from, "files": self.files})


def check_folder(folder: Path) -> None:
    """Make the folder of an output, if it is not there.

    Raises:
        InputError: If it cannot be written to, or holds files of other origin.
    """
    try:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / FILE).is_file():
            raise InputError(f"--output: {folder} holds other files; choose a new folder.")
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"--output: {folder} cannot be written to ({error}).") from error


def digest(path: Path) -> str | None:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files; None if there is nothing."""
    if not path.exists():
        return None
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            total.update(str(file.relative_to(path)).encode() if path.is_dir() else b"")
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    total.update(block)
    return total.hexdigest()
