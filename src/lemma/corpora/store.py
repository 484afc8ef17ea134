"""Decides how problems and pairs are kept on disk, so that a corpus of any size takes no memory, and is read once.

1. They go into an Arrow file, in chunks of ``CHUNK``, with the place each came from and two hashes of its text.
2. The file is mapped into memory: the system holds what is looked at, and drops it when it needs the room.
3. A store's folder is named by a hash of all that decides its content, the code of this package included. It appears
   under that name when it is whole; one that is there is opened, not written again.
"""

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lemma.corpora.split import Item, identity, problem_key, row_key
from lemma.files import write_json
from lemma.types import InputError, Preference, Problem

CHUNK = 4096
"""Rows of an Arrow record batch; all but the last are full, so a row's batch follows from its number."""


class _Noun(NamedTuple):
    """What a store holds.

    Attributes:
        name: Of one, in messages.
        plural: Of several.
        columns: Attributes that are kept, as columns of the Arrow file.
        make: Function of (source, values of the columns) → one of them.
    """

    name: str
    plural: str
    columns: list[str]
    make: Callable[..., Item]


def _preference(*, messages: list[list[str]], **values: Any) -> Preference:
    return Preference(messages=tuple((role, content) for role, content in messages), **values)


NOUNS = {
    "problems": _Noun("problem", "problems", ["id", "problem", "solution", "answer", "level", "subject"], Problem),
    "preferences": _Noun(
        "pair",
        "preference pairs",
        ["id", "messages", "chosen", "rejected", "form", "kind", "level", "subject"],
        _preference,
    ),
}
"""What a store may hold: ``Problem``s or ``Preference``s."""


class Placed(NamedTuple):
    """A problem or a pair, and where it came from, as in ``Row.where``."""

    item: Item
    where: str


@dataclass
class Account:
    """What was met while rows were read, beside those that are kept; filled as they are.

    Attributes:
        bad_rows: ``where: reason`` of each row that could not be read.
        outcomes: Problems with graded completions by what came of them (``Pairing.outcome``).
        unused: Their completions that are in no pair by why (``Pairing.unused``).
    """

    bad_rows: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)


class Store(Sequence[Item]):
    """Problems or pairs in a folder, in the order in which they were written.

    Args:
        folder: What ``write_store`` has made.
        source: Label that they get.

    Attributes:
        noun: Key of ``NOUNS``.
        bad_rows: ``where: reason`` of each row that could not be read.
        outcomes: As in ``Account``.
        unused: As in ``Account``.
        repeated: Numbers of those that are not to be used, for their id came before.
        sha256: Hash of all that is kept.
        keys: (N,) uint64, ``problem_key`` of each.
        row_keys: (N,) uint64, ``row_key`` of each.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        self.source = source
        account = json.loads((folder / "account.json").read_text("utf-8"))
        self.noun: str = account["noun"]
        self.bad_rows: list[str] = account["bad_rows"]
        self.outcomes: Mapping[str, int] = account["outcomes"]
        self.unused: Mapping[str, int] = account["unused"]
        self.repeated: list[int] = account["repeated"]
        self.sha256: str = account["sha256"]
        self._columns, self._make = NOUNS[self.noun].columns, NOUNS[self.noun].make
        self._held: tuple[int, Any] | None = None  # the batch last looked at, and its number
        self.keys: np.ndarray = np.load(folder / "keys.npy", mmap_mode="r")
        self.row_keys: np.ndarray = np.load(folder / "row_keys.npy", mmap_mode="r")

    def __len__(self) -> int:
        """Return the number of problems or pairs."""
        return len(self.keys)

    def __getitem__(self, index: int) -> Item:
        """Return one problem or pair."""
        row = self._row(index)
        return self._make(source=self.source, **{name: row[name].as_py() for name in self._columns})

    def __iter__(self) -> Iterator[Item]:
        """Yield all of them."""
        for number in range(self._file.num_record_batches):
            for values in self._file.get_batch(number).select(self._columns).to_pylist():
                yield self._make(source=self.source, **values)

    def __getstate__(self) -> tuple[Path, str]:
        """Travel to another process as the folder's name."""
        return self.folder, self.source

    def __setstate__(self, state: tuple[Path, str]) -> None:
        """Open the folder anew."""
        self.__init__(*state)

    def column(self, name: str) -> Iterator[Any]:
        """Yield one attribute of each, e.g. ``level``."""
        for number in range(self._file.num_record_batches):
            yield from self._file.get_batch(number).column(name).to_pylist()

    def where(self, index: int) -> str:
        """Return the place one came from, e.g. ``data/x.jsonl:17``."""
        return self._row(index)["where"].as_py()

    def _row(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        chunk, offset = divmod(int(index), CHUNK)
        if self._held is None or self._held[0] != chunk:
            self._held = chunk, self._file.get_batch(chunk)
        batch = self._held[1]
        return {name: batch.column(name)[offset] for name in batch.schema.names}

    @functools.cached_property
    def _file(self) -> Any:
        import pyarrow

        return pyarrow.ipc.open_file(pyarrow.memory_map(str(self.folder / _FILE)))


_FILE = "rows.arrow"


def write_store(folder: Path, noun: str, items: Iterable[Placed], account: Account, *, skip_repeated: bool) -> None:
    """Write problems or pairs into a folder, a chunk at a time.

    Args:
        folder: Exists and is empty.
        noun: Key of ``NOUNS``: which they are.
        items: To be written.
        account: Filled while ``items`` is read.
        skip_repeated: Count one whose id came before among the bad rows, instead of raising an error.

    Raises:
        InputError: If two have the same id; names both places.
    """
    import pyarrow

    names = NOUNS[noun].columns
    schema = _schema([*names, "where"])
    keys: list[np.ndarray] = []
    digest = hashlib.sha256()
    with pyarrow.OSFile(str(folder / _FILE), "wb") as file, pyarrow.ipc.new_file(file, schema) as writer:
        for chunk in chunks(items, CHUNK):
            columns = {name: [getattr(each.item, name) for each in chunk] for name in names}
            columns["where"] = [each.where for each in chunk]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))
            keys.append(np.array([_keys(each.item) for each in chunk], dtype=np.uint64))
            digest.update(json.dumps(columns).encode())
    table = np.concatenate(keys) if keys else np.zeros((0, 3), dtype=np.uint64)
    np.save(folder / "keys.npy", table[:, 0])
    np.save(folder / "row_keys.npy", table[:, 1])
    found = {"noun": noun, **vars(account), "repeated": [], "sha256": digest.hexdigest()}
    write_json(folder / "account.json", found)
    for first, second in _repeated(table[:, 2]):
        store = Store(folder, "")
        reason = f"{store.where(second)}: id {store[second].id!r} occurs twice, first at {store.where(first)}."
        if not skip_repeated:
            raise InputError(f"{reason} (`on_bad_row: skip` leaves out such rows.)")
        found["repeated"].append(second)
        found["bad_rows"].append(reason)
    write_json(folder / "account.json", found)


def _schema(names: Sequence[str]) -> Any:
    import pyarrow

    text = pyarrow.large_string()
    others = {"level": pyarrow.int64(), "messages": pyarrow.list_(pyarrow.list_(text))}
    return pyarrow.schema([(name, others.get(name, text)) for name in names])


def _keys(item: Item) -> tuple[int, int, int]:
    identifier = int.from_bytes(hashlib.blake2b(item.id.encode(), digest_size=8).digest(), "big")
    return problem_key(identity(item)), row_key(item), identifier


def _repeated(identifiers: np.ndarray) -> list[tuple[int, int]]:
    """Return (first, later) indices of equal values, by the later index."""
    values, firsts, inverse = np.unique(identifiers, return_index=True, return_inverse=True)
    later = np.flatnonzero(firsts[inverse] != np.arange(len(identifiers))) if len(values) < len(identifiers) else []
    return [(int(firsts[inverse[index]]), int(index)) for index in later]


def chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of ``size`` items, the last one shorter."""
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def cached_path(cache: Path, key: dict[str, Any]) -> Path:
    """Return where ``cached_folder`` keeps what belongs to a key, whether it is there yet or not.

    Args:
        cache: Folder of folders.
        key: All that decides the content, as JSON values.
    """
    return cache / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def cached_folder(cache: Path, key: dict[str, Any], build: Callable[[Path], None]) -> Path:
    """Return the folder that belongs to a key, built if it is not there yet.

    Args:
        cache: Folder of folders.
        key: All that decides the content, as JSON values.
        build: Fills an empty folder. If it fails nothing is left behind.

    Raises:
        InputError: If the cache cannot be written to.
    """
    folder = cached_path(cache, key)
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=cache))
    except OSError as error:
        raise InputError(f"data.cache_dir: {cache} cannot be written to ({error}).") from error
    try:
        build(partial)
        write_json(partial / "key.json", key)
        for file in partial.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        partial.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was faster
            raise InputError(f"data.cache_dir: {folder} could not be written ({error}).") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


@functools.cache
def code_hash(*packages: str) -> str:
    """Return a hash of the source code of subpackages of lemma, for what they have written is only as good as they."""
    digest, root = hashlib.sha256(), Path(__file__).parents[1]
    for package in sorted(packages):
        for file in sorted((root / package).rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
