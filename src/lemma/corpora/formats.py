"""Decides how the bytes of a file become rows: JSON Lines, a JSON list, CSV, Parquet, Arrow, one document, an archive.

Files of rows are read as they stream, in memory that does not grow with the file; only a JSON list and an archive,
whose files are taken in order of name, are read whole. Nothing is unpickled and nothing is extracted to disk. A row
that cannot be read becomes a ``BadRow``; a file that cannot be read at all is an ``InputError``.
"""

import csv
import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lemma.corpora.rows import BadRow, Row, shown
from lemma.types import InputError

if TYPE_CHECKING:
    from pyarrow import RecordBatch

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".arrow")
"""Files of rows; each may end in ``.gz`` besides, but for Parquet and Arrow."""

ARCHIVES = (".tar.gz", ".tgz", ".tar")
"""Archives of one ``.json`` document a problem."""

BATCH_ROWS = 1024
"""Rows of a Parquet or Arrow file that are turned into Python values at once."""

_BOM = b"\xef\xbb\xbf"
_ARROW_FILE = b"ARROW1"  # an Arrow IPC file begins so; what does not is an Arrow IPC stream


def stem_of(path: Path) -> str:
    """Return a data file's name without its suffixes, e.g. ``train`` of ``train.jsonl.gz``."""
    return path.name.removesuffix(".gz").rpartition(".")[0]


def read_table(path: Path) -> Iterator[Row | BadRow]:
    """Yield the rows of a file of rows, by its suffix; the rows' ``key`` is left empty.

    A ``.json`` file that does not begin with ``[`` is read as JSON Lines, since data sets are published so.

    Args:
        path: A file that ends in one of ``SUFFIXES``, or in ``.gz`` besides.

    Raises:
        InputError: If the file as a whole cannot be read.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix in (".parquet", ".arrow"):
        yield from _read_columns(path, _parquet_batches if suffix == ".parquet" else _arrow_batches)
        return
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            if suffix == ".csv":
                yield from _read_csv(stream, path)
            elif suffix == ".json" and _begins_list(stream):
                yield from _read_json_list(stream.read().removeprefix(_BOM), path)
            else:
                yield from _read_json_lines(stream, path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: expected a gzip file, but reading it failed: {error}.") from error


def read_document(data: bytes, *, where: str, key: str) -> Row | BadRow:
    """Return one JSON object as a row, or as a bad row that says what is wrong with it.

    Args:
        data: UTF-8 text of the object.
        where: Provenance of the row.
        key: Identity of the row.
    """
    try:
        values = json.loads(data.removeprefix(_BOM).decode())
    except UnicodeDecodeError as error:
        byte = data.removeprefix(_BOM)[error.start]
        return BadRow(where, f"expected UTF-8, but got byte 0x{byte:02x} at position {error.start}.")
    except json.JSONDecodeError as error:
        return BadRow(where, f"broken JSON at line {error.lineno}, column {error.colno} of the row: {error.msg}.")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets thousands deep
        return BadRow(where, f"broken JSON: {error}.")
    return _as_row(values, where, key)


def read_archive(path: Path) -> Iterator[Row | BadRow]:
    """Yield the ``.json`` members of a tar archive, ordered by name as a folder's files are; read in memory only.

    Raises:
        InputError: If the archive is broken or holds no ``.json`` file.
    """
    try:
        with tarfile.open(path) as archive:
            members = {
                member.name: archive.extractfile(member).read()
                for member in archive
                if member.isfile() and member.name.endswith(".json")
            }
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: expected a tar archive, but reading it failed: {error}.") from error
    if not members:
        raise InputError(f"{path}: expected .json files in the archive, but found none.")
    for name in sorted(members, key=lambda name: name.split("/")):
        yield read_document(members[name], where=f"{path}:{name}", key=name.removesuffix(".json"))


def _as_row(values: object, where: str, key: str) -> Row | BadRow:
    if not isinstance(values, dict):
        return BadRow(where, f"expected a JSON object, but got {shown(values)}.")
    return Row(where, key, values)


def _begins_list(stream: BinaryIO) -> bool:
    """Return whether the first character that is no blank opens a list; the stream is at its beginning again."""
    first = stream.read(len(_BOM)).removeprefix(_BOM)
    while not first.strip() and (more := stream.read(1)):
        first = more
    stream.seek(0)
    return first.lstrip().startswith(b"[")


def _read_json_lines(stream: BinaryIO, path: Path) -> Iterator[Row | BadRow]:
    # A binary stream is cut at "\n" only: a raw U+2028 is part of a row (never `str.splitlines`).
    for number, line in enumerate(stream, start=1):
        if line.removeprefix(_BOM if number == 1 else b"").strip():
            yield read_document(line.rstrip(b"\n"), where=f"{path}:{number}", key="")


def _read_json_list(data: bytes, path: Path) -> Iterator[Row | BadRow]:
    try:
        items = json.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: expected UTF-8, but got byte 0x{data[error.start]:02x}.") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: broken JSON at column {error.colno}: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: broken JSON: {error}.") from error
    for index, values in enumerate(items):
        yield _as_row(values, f"{path}[{index}]", "")


def _read_csv(stream: BinaryIO, path: Path) -> Iterator[Row | BadRow]:
    """Yield one row for each record below the header; a record may span lines, and its first one is named."""
    csv.field_size_limit(max(csv.field_size_limit(), 1 << 24))  # characters; the default of 2^17 cuts long solutions
    lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(lines, strict=True)
    header = _checked_fields(next(reader, []), None)
    if isinstance(header, str):
        raise InputError(f"{path}:1: {header}")
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            fields = _checked_fields(next(reader), header)
        except StopIteration:
            return
        except csv.Error as error:
            fields = f"broken CSV: {error}."
        if isinstance(fields, str):
            yield BadRow(where, fields)
        elif fields:
            yield Row(where, "", dict(zip(header, fields, strict=True)))


def _checked_fields(fields: list[str], header: list[str] | None) -> list[str] | str:
    """Return the fields of a record, none for a blank line, or a sentence on what is wrong with them."""
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        return f"expected UTF-8, but got other bytes in {shown(fields)}."
    if header is not None and fields and len(fields) != len(header):
        return f"expected {len(header)} fields ({', '.join(header)}), but got {len(fields)}: {shown(fields)}."
    return fields


def _read_columns(path: Path, batches: Callable[[Path], Iterator["RecordBatch"]]) -> Iterator[Row]:
    import pyarrow

    index = 0
    try:
        for batch in batches(path):
            for values in batch.to_pylist():
                yield Row(f"{path}:{index}", "", values)
                index += 1
    except (pyarrow.ArrowException, OSError) as error:
        kind = "a Parquet" if path.suffix == ".parquet" else "an Arrow"
        raise InputError(f"{path}: expected {kind} file, but reading it failed: {error}.") from error


def _parquet_batches(path: Path) -> Iterator["RecordBatch"]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16) as file:  # else it is held as a whole
        yield from file.iter_batches(batch_size=BATCH_ROWS)


def _arrow_batches(path: Path) -> Iterator["RecordBatch"]:
    import pyarrow

    with pyarrow.OSFile(str(path)) as source:  # mapped pages would count as resident
        if source.read(len(_ARROW_FILE)) == _ARROW_FILE:
            file = pyarrow.ipc.open_file(source)
            batches = (file.get_batch(number) for number in range(file.num_record_batches))
        else:
            source.seek(0)
            batches = iter(pyarrow.ipc.open_stream(source))
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield batch.slice(start, BATCH_ROWS)
