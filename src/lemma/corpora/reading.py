"""Decides where a corpus is read from, and turns files, archives and hub data sets into rows with provenance.

1. ``locate`` says whether a path is local or the name of a data set on the Hugging Face hub.
2. ``read_local`` and ``read_hub`` yield each row as a ``Row``, or as a ``BadRow`` with the reason it cannot be read.
3. ``files_sha256`` says which bytes were read.

What each file suffix means is decided in ``formats.py``, and what a folder of ``save_to_disk`` holds in ``saved.py``.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from lemma.corpora.formats import ARCHIVES, SUFFIXES, read_archive, read_document, read_table, stem_of
from lemma.corpora.rows import BadRow, Row
from lemma.corpora.saved import is_saved, saved_files
from lemma.types import InputError

SPLITS = frozenset({"train", "test", "validation", "valid", "val", "dev"})
"""Folder names that mark the split of the files below them in a tree or an archive."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def locate(path: str, root: str | None) -> Path | None:
    """Return the local file or folder that a path means, or None if it is a hub name.

    A path that exists, as it stands or under ``root``, is local. Another of the form ``owner/name`` without a data
    file's suffix is a hub name.

    Args:
        path: File, folder or hub name.
        root: Folder that relative paths may start from, or None.

    Raises:
        InputError: If the path is neither; the message names each place looked at.
    """
    for place in _places(path, root):
        if place.exists():
            return place
    if _HUB_NAME.fullmatch(path) and not path.endswith((*SUFFIXES, *ARCHIVES, ".gz")):
        return None
    raise InputError(f"{path}: no such file, folder or hub name (owner/name): there is no {_looked(path, root)}.")


def read_local(path: Path, split: str) -> Iterator[Row | BadRow]:
    """Yield the rows of a local file, archive or folder.

    A folder that ``datasets`` wrote with ``save_to_disk`` stands for its Arrow files. Another stands for its files
    ``<split>.<suffix>``, ``<split>-000001.<suffix>`` and ``<split>-00000-of-00001.<suffix>`` where there are any, else
    for the tree of ``.json`` files below it, one problem each. In a tree and in an archive, folders named as splits
    choose the files; where there are none, all files count.

    Args:
        path: An existing file or folder.
        split: Chooses within a folder or an archive; a file of rows, and a saved data set of one split, is read
            whatever the split.

    Raises:
        InputError: If there is nothing to read, the suffix is unknown, or a file cannot be read as a whole.
    """
    files = local_files(path, split)
    if is_saved(path):
        yield from _read_tables(files, files[0].parent.name)
    elif path.is_dir() and not _split_files(path, split):
        yield from _read_tree(path, files)
    elif path.name.endswith(ARCHIVES) and path.is_file():
        yield from _of_split(read_archive(path), path, split)
    else:
        yield from _read_tables(files, split if path.is_dir() else stem_of(path))


def local_files(path: Path, split: str) -> list[Path]:
    """Return the files that a local path stands for, in the order in which they are read (see ``read_local``).

    Raises:
        InputError: If the suffix is unknown, the file is empty, or a folder has nothing of the split.
    """
    if is_saved(path):
        return saved_files(path, split)
    if path.is_dir():
        files = _split_files(path, split) or _tree_files(path, split)
        if not files:
            raise InputError(
                f"{path}: expected {split}.jsonl (or {', '.join(SUFFIXES[1:])}) or a tree of .json files of the split "
                f"{split!r}, but the folder holds {_listing(path)}."
            )
        return files
    known = (*SUFFIXES, *ARCHIVES)
    if not path.name.removesuffix(".gz").endswith(known) and not path.name.endswith(known):
        raise InputError(f"{path}: expected a file ending in {', '.join(known)}, but got {path.name!r}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: expected at least one row, but the file is empty.")
    return [path]


def read_hub(
    name: str,
    *,
    split: str,
    subset: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    root: str | None = None,
) -> Iterator[Row]:
    """Yield the rows of a data set on the Hugging Face hub (or in its local cache).

    Args:
        name: ``owner/name``.
        split: Name of the split.
        subset: Name of the configuration, or None for the only one.
        revision: Branch, tag or commit, or None for the newest.
        streaming: Fetch rows as they are asked for, instead of the whole data set into the local cache first.
        root: Folder that relative local paths may start from, for the error message.

    Raises:
        InputError: If it cannot be loaded; the message names the data set and how to give a local path instead.
    """
    import datasets

    label = name if subset is None else f"{name}/{subset}"
    prefix = split if subset is None else f"{split}/{subset}"
    index = -1
    try:
        rows = datasets.load_dataset(name, subset, split=split, revision=revision, streaming=streaming)
        for index, values in enumerate(rows):
            yield Row(f"{label}[{split}]:{index}", f"{prefix}/{index}", values)
    except Exception as error:  # the client raises errors of many libraries for a network or a name that fails
        done = "load" if index < 0 else f"read beyond row {index} of"
        raise InputError(
            f"{name}: cannot {done} subset {subset!r}, split {split!r} from the Hugging Face hub: "
            f"{type(error).__name__}: {error} To read local data, set `path` to a file ({', '.join(SUFFIXES)}), "
            f"a .tar.gz or a folder; there is no {_looked(name, root)}."
        ) from error
    if index < 0:
        raise InputError(f"{label}[{split}]: expected at least one row, but found none.")


def files_sha256(path: Path, split: str) -> str:
    """Return the SHA-256 of a local path's bytes, as 64 hexadecimal digits.

    For one file it is what ``sha256sum`` prints; for a folder, each file's relative name and own hash are hashed.

    Args:
        path: An existing file or folder.
        split: Chooses among the files of a folder.
    """
    digest = hashlib.sha256()
    for file in local_files(path, split):
        with file.open("rb") as stream:
            own = hashlib.file_digest(stream, "sha256")
        if file == path:
            return own.hexdigest()
        digest.update(f"{file.relative_to(path).as_posix()}\n{own.hexdigest()}\n".encode())
    return digest.hexdigest()


def _looked(path: str, root: str | None) -> str:
    return " nor ".join(str(place.absolute()) for place in _places(path, root))


def _read_tree(folder: Path, files: list[Path]) -> Iterator[Row | BadRow]:
    own = folder.absolute().name
    for file in files:
        name = f"{own}/{file.relative_to(folder).as_posix()}"
        yield read_document(file.read_bytes(), where=str(file), key=name.removesuffix(".json"))


def _read_tables(files: list[Path], stem: str) -> Iterator[Row | BadRow]:
    """Yield the rows of files of rows, keyed by the stem and a count over all of them."""
    num_rows = 0
    for row in (row for file in files for row in read_table(file)):
        yield dataclasses.replace(row, key=f"{stem}/{num_rows}") if isinstance(row, Row) else row
        num_rows += 1
    if num_rows == 0:
        raise InputError(f"{files[0]}: expected at least one row, but found none.")


def _places(path: str, root: str | None) -> list[Path]:
    places = [Path(path).expanduser()]
    if root is not None and not places[0].is_absolute():
        places.append(Path(root).expanduser() / path)
    return places


def _split_files(folder: Path, split: str) -> list[Path]:
    name = re.compile(rf"{re.escape(split)}(-\d+(-of-\d+)?)?({'|'.join(map(re.escape, SUFFIXES))})(\.gz)?")
    return sorted(file for file in folder.iterdir() if file.is_file() and name.fullmatch(file.name))


def _tree_files(folder: Path, split: str) -> list[Path]:
    own = folder.absolute().name
    named = [((own, *file.relative_to(folder).parts), file) for file in folder.rglob("*.json") if file.is_file()]
    marked = any(SPLITS.intersection(parts[:-1]) for parts, _ in named)
    return [file for parts, file in sorted(named) if not marked or split in parts[:-1]]


def _of_split(members: Iterable[Row | BadRow], path: Path, split: str) -> list[Row | BadRow]:
    """Return an archive's rows below a folder named as the split, or all if no folder names a split."""
    rows = [(row, row.where.removeprefix(f"{path}:").split("/")[:-1]) for row in members]
    marks = sorted(SPLITS.intersection(folder for _, folders in rows for folder in folders))
    kept = [row for row, folders in rows if not marks or split in folders]
    if not kept:
        raise InputError(f"{path}: expected files of the split {split!r}, but the archive holds {', '.join(marks)}.")
    return kept


def _listing(folder: Path, limit: int = 10) -> str:
    names = sorted(file.name for file in folder.iterdir())
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "") or "nothing"
