"""Graded completions as ``records.jsonl`` holds them: ``{problem_id, source, problem, completions, verdicts, …}``.

``lemma validate`` and ``tools/regrade.py`` write such files, and a run on rollouts one for each rollout, in which a
problem comes again and again: all its completions in local files are one set. Of each problem pairs are made: a right
completion over a wrong one, the greedy one among them. Those without a readable answer, those whose grading took too
long and those that the length limit cut (``stopped: false``) are on neither side.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lemma.corpora.adapter import Adapter
from lemma.corpora.pairing import RIGHT, UNFINISHED, WRONG, Pairing, make_pairs
from lemma.corpora.rows import BadRow, Row, checked_text, column, level, optional_text, shown, subject, text
from lemma.types import InputError, Problem, Verdict

_NO_RECORD = 0  # key of what belongs to no problem
_GRADES = {Verdict.CORRECT: RIGHT, Verdict.WRONG: WRONG}


def to_preferences(row: Row, source: str, most: int) -> Pairing:
    """Return the pairs of a record; their ids begin with the record's source, for a file may hold several benchmarks.

    Args:
        row: A record.
        source: Label of the corpus.
        most: Pairs, at least 1.

    Raises:
        InputError: If a key is missing or of another type, the lists differ in length, or a verdict is unknown.
    """
    completions = _items(row, "completions", str, None)
    verdicts = _items(row, "verdicts", str, len(completions))
    stopped = [True] * len(completions)
    if row.values.get("stopped") is not None:
        stopped = _items(row, "stopped", bool, len(completions))
    topic, name = optional_text(row, "subject"), text(row, "problem_id")
    problem = Problem(
        id=f"{own}/{name}" if (own := optional_text(row, "source")) else name,
        source=source,
        problem=text(row, "problem"),
        level=level(row, "level") if "level" in row.values else None,
        subject=None if topic is None else subject(topic),
    )
    grades = [_grade(verdict) if whole else UNFINISHED for verdict, whole in zip(verdicts, stopped, strict=True)]
    return make_pairs(problem, zip(completions, grades, strict=True), most)


def gathered(read: Callable[[], Iterable[Row | BadRow]]) -> Iterator[Row | BadRow]:
    """Yield each record, those of one problem (source, id and text) as one, where the last of them stands.

    Of a file whose problems come once only their keys are held.

    Args:
        read: Returns all rows, from the first.
    """
    keys, counts = np.unique(np.fromiter(map(_problem_key, read()), dtype=np.uint64), return_counts=True)
    several = counts > 1
    to_come = dict(zip(keys[several].tolist(), counts[several].tolist(), strict=True))
    to_come.pop(_NO_RECORD, None)
    held: dict[int, list[Row]] = {}
    for row in read():
        key = _problem_key(row)
        if key not in to_come:
            yield row
            continue
        held.setdefault(key, []).append(row)
        to_come[key] -= 1
        if not to_come[key]:
            yield _joined(held.pop(key))


def _problem_key(row: Row | BadRow) -> int:
    """Return a hash of which problem a record is of."""
    if isinstance(row, BadRow) or not _is_whole(row):
        return _NO_RECORD
    names = repr([row.values.get(name) for name in ("source", "problem_id", "problem")])
    return int.from_bytes(hashlib.blake2b(names.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _is_whole(row: Row) -> bool:
    """Return whether a row has completions, and as many of what there is of each."""
    completions, verdicts = row.values.get("completions"), row.values.get("verdicts")
    if not isinstance(completions, list) or not isinstance(verdicts, list):
        return False
    stopped = _stopped(row)
    return isinstance(stopped, list) and len(completions) == len(verdicts) == len(stopped)


def _stopped(row: Row) -> Any:
    """Return which completions stopped: all, where nobody knows."""
    stopped = row.values.get("stopped")
    return [True] * len(row.values["completions"]) if stopped is None else stopped


def _joined(rows: list[Row]) -> Row:
    """Return the first record with the completions of all."""
    lists = {
        "completions": [text for row in rows for text in row.values["completions"]],
        "verdicts": [verdict for row in rows for verdict in row.values["verdicts"]],
        "stopped": [whole for row in rows for whole in _stopped(row)],
    }
    return replace(rows[0], values=rows[0].values | lists)


def _grade(verdict: str) -> str:
    if verdict not in list(Verdict):
        raise InputError(f"`verdicts`: expected {', '.join(Verdict)}, but got {shown(verdict)}.")
    return _GRADES.get(Verdict(verdict), verdict)


def _items(row: Row, name: str, kind: type, size: int | None) -> list[Any]:
    values = column(row, name)
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise InputError(f"`{name}`: expected a list of {kind.__name__}, but got {shown(values)}.")
    if size is not None and len(values) != size:
        raise InputError(f"`{name}`: expected {size} entries, one for each of `completions`, but got {len(values)}.")
    for number, value in enumerate(values):
        if kind is str and value.strip():
            checked_text(value, f"{name}[{number}]")
    return values


ADAPTER = Adapter(to_preferences=to_preferences, graded=True, gather=gathered)
