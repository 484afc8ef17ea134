"""Decides how the bytes of a file become rows: JSON Lines, a JSON list, CSV, Parquet, one JSON document, an archive.

Nothing is unpickled and nothing is extracted to disk. A row that cannot be read becomes a ``BadRow``; a file that
cannot be read at all is an ``InputError``.
"""

import csv
import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from lemma.corpora.rows import BadRow, Row, shown
from lemma.types import InputError

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
"""Files of rows; each may end in ``.gz`` besides, but for Parquet."""

ARCHIVES = (".tar.gz", ".tgz", ".tar")
"""Archives of one ``.json`` document a problem."""

_BOM = b"\xef\xbb\xbf"


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
    if suffix == ".parquet":
        yield from _read_parquet(path)
        return
    data = _read_bytes(path).removeprefix(_BOM)
    if suffix == ".csv":
        yield from _read_csv(data, path)
    elif suffix == ".json" and data.lstrip().startswith(b"["):
        yield from _read_json_list(data, path)
    else:
        # Cut at "\n" only: a raw U+2028 is part of a row (never `str.splitlines`).
        yield from _read_json_lines(data.split(b"\n"), path)


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


def _read_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: expected a gzip file, but reading it failed: {error}.") from error


def _read_json_lines(lines: list[bytes], path: Path) -> Iterator[Row | BadRow]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield read_document(line, where=f"{path}:{number}", key="")


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


def _read_csv(data: bytes, path: Path) -> Iterator[Row | BadRow]:
    """Yield one row for each record below the header; a record may span lines, and its first one is named."""
    csv.field_size_limit(max(csv.field_size_limit(), 1 << 24))  # characters; the default of 2^17 cuts long solutions
    reader = csv.reader(io.StringIO(data.decode(errors="surrogateescape"), newline=""), strict=True)
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


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        index = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            for values in batch.to_pylist():
                yield Row(f"{path}:{index}", "", values)
                index += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: expected a Parquet file, but reading it failed: {error}.") from error
