"""What a row of a corpus is, and how a column of it is read: the one wording of every complaint about a value."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lemma.types import InputError


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a corpus in its native columns, and where it stands.

    Attributes:
        where: For messages: ``data/x.jsonl:17`` (line, from 1), ``data/x.json[16]``, ``x.parquet:16``,
            ``owner/name/subset[train]:16`` (row, from 0) or ``x.tar.gz:MATH/train/algebra/0.json``.
        key: For ids: ``<file stem or split>/<row, from 0>`` or the path inside the tree without ``.json``.
        values: Column name → value.
    """

    where: str
    key: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read.

    Attributes:
        where: As in ``Row``.
        reason: A sentence that names the key and the value.
    """

    where: str
    reason: str


def shown(value: object, limit: int = 80) -> str:
    """Return a value for a message, cut in the middle to at most ``limit`` characters."""
    text = repr(value)
    half = limit // 2 - 1
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]}"


def column(row: Row, name: str) -> Any:
    """Return the value of a column.

    Raises:
        InputError: If the row has no such column; the message lists the ones it has.
    """
    if name not in row.values:
        raise InputError(f"no column `{name}`; the row has {', '.join(map(str, row.values)) or 'none'}.")
    return row.values[name]


def text(row: Row, name: str) -> str:
    """Return the text of a column without outer white space; a number becomes its shortest text.

    Raises:
        InputError: If the column is missing, empty, no text and no number, or holds a lone surrogate.
    """
    return checked_text(column(row, name), name)


def checked_text(value: Any, name: str) -> str:
    """Return a value as ``text`` returns that of a column.

    Raises:
        InputError: If it is empty, no text and no number, or holds a lone surrogate; names it by ``name``.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"`{name}`: expected a non-empty text, but got {shown(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"`{name}`: expected Unicode text, but got a lone surrogate in {shown(value)}.") from error
    return value.strip()


def optional_text(row: Row, name: str) -> str | None:
    """Return the text of a column as ``text`` does, or None where the row lacks the column, or it is null or empty.

    Raises:
        InputError: If the column holds something that is no text and no number.
    """
    return None if row.values.get(name) in (None, "") else text(row, name)


def present(row: Row, names: Sequence[str]) -> str | None:
    """Return the first of the names that is a column of the row, or None."""
    return next((name for name in names if name in row.values), None)


def level(row: Row, name: str) -> int | None:
    """Return the difficulty in a column: ``3``, ``"3"`` and ``"Level 3"`` are 3; null, ``""`` and ``"Level ?"`` None.

    Raises:
        InputError: If the column is missing or says something else.
    """
    value = column(row, name)
    if value is None or value == "" or value == "Level ?":
        return None
    found = re.fullmatch(r"(?:Level )?(\d+)(?:\.0)?", str(value).strip())
    if found is None:
        raise InputError(f"`{name}`: expected a level such as 3 or 'Level 3', but got {shown(value)}.")
    return int(found[1])


def subject(name: str) -> str:
    """Return a subject's normal form, e.g. ``Counting & Probability`` → ``counting_and_probability``."""
    return "_".join(re.findall(r"\w+", name.casefold().replace("&", " and ")))
