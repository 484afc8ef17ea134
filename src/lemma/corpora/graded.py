"""Graded completions as ``records.jsonl`` holds them: ``{problem_id, source, problem, completions, verdicts, …}``.

``lemma validate`` and ``tools/regrade.py`` write such files. Of each problem pairs are made: a right completion over a
wrong one, the greedy one among them. Those without a readable answer, those whose grading took too long and those that
the length limit cut (``stopped: false``) are on neither side.
"""

from typing import Any

from lemma.corpora.adapter import Adapter
from lemma.corpora.pairing import RIGHT, UNFINISHED, WRONG, Pairing, make_pairs
from lemma.corpora.rows import Row, checked_text, column, level, optional_text, shown, subject, text
from lemma.types import InputError, Problem, Verdict

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


ADAPTER = Adapter(to_preferences=to_preferences, graded=True)
