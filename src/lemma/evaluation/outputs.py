"""Decides how anybody's model outputs become ungraded records: rows in any columns, or this package's own records.

1. A file whose rows have ``samples`` and ``completions`` is a ``records.jsonl``; its columns are known.
2. Any other is read by the columns that the user names, a dotted path for an object inside the row. A row's completion
   is a text or a list of texts; rows of the same problem are samples of it. Where every problem has one completion, it
   counts as the greedy one.
3. Several completion columns are several models; each becomes outputs of its own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lemma.answers import extract_answer
from lemma.corpora.reading import read_local
from lemma.corpora.rows import BadRow, Row, level, shown, subject, text
from lemma.evaluation.records import Record
from lemma.types import GREEDY, InputError, Problem, Verdict


@dataclass(frozen=True)
class Columns:
    """Where things stand in a row; a dotted path leads into an object.

    Attributes:
        completions: A text or a list of texts; one column for each model.
        problem: The question.
        answer: The gold answer.
        labels: Whether the completion is right, as somebody else judged (true, false or null); none, or one column for
            each of ``completions``.
        id: Identity of the problem; None takes question and answer together.
        source: Benchmark of the problem; None is the file's name.
        level: Difficulty, or None.
        subject: Topic, or None.
    """

    completions: Sequence[str]
    problem: str = "problem"
    answer: str = "answer"
    labels: Sequence[str] = ()
    id: str | None = None
    source: str | None = None
    level: str | None = None
    subject: str | None = None

    def __post_init__(self) -> None:
        """Refuse labels that belong to no completion.

        Raises:
            InputError: If their number is neither 0 nor that of the completions.
        """
        if len(self.labels) not in (0, len(self.completions)):
            raise InputError(
                f"labels: expected none or one for each of the {len(self.completions)} completion columns, but got "
                f"{len(self.labels)}."
            )


@dataclass
class Outputs:
    """What one model wrote, not graded yet.

    Attributes:
        name: The completions' column, or ``completions`` of a records file.
        records: One for each problem.
        labels: Somebody else's judgement of each completion by record, None where there is none.
        places: Where the problem's first row stands, by record.
        bad_rows: ``where: reason`` of each row that was skipped.
    """

    name: str
    records: list[Record] = field(default_factory=list)
    labels: list[list[bool | None]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    bad_rows: list[str] = field(default_factory=list)


def read_outputs(
    path: Path, columns: Columns, *, extract_gold: bool = False, on_bad_row: str = "error"
) -> list[Outputs]:
    """Return the outputs of a file, one entry for each completion column.

    Args:
        path: JSON Lines, JSON, CSV or Parquet (each may end in ``.gz``).
        columns: Where things stand; without meaning for a ``records.jsonl``, whose former verdicts become the labels.
        extract_gold: Whether the answer column holds a worked solution, whose answer is to be extracted.
        on_bad_row: What a row that cannot be read does: error, or skip.

    Raises:
        InputError: If the file or a row cannot be read (names file, line and key), or no row is left.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    rows = list(read_local(path, path.name))
    first = next((row for row in rows if isinstance(row, Row)), None)
    if first is not None and {"samples", "completions", "problem_id"} <= first.values.keys():
        readers = {"completions": _Records()}
    else:
        labels = columns.labels or [None] * len(columns.completions)
        readers = {
            name: _Reader(columns, name, label, path.name.partition(".")[0], extract_gold)
            for name, label in zip(columns.completions, labels, strict=True)
        }
    outputs = []
    for name, reader in readers.items():
        bad_rows = []
        for row in rows:
            try:
                reader.add(row)
            except ValueError as error:
                if on_bad_row == "error":
                    raise InputError(f"{row.where}: {error} (`--on_bad_row skip` leaves out such rows.)") from error
                bad_rows.append(f"{row.where}: {error}")
        if not reader.records:
            raise InputError(f"{path}: every row is bad; the first: {bad_rows[0]}")
        outputs.append(Outputs(name, *reader.result(), bad_rows))
    return outputs


def cut_samples(outputs: Outputs, num_samples: int | None) -> Outputs:
    """Return outputs that have as many completions of each problem.

    Args:
        outputs: Of one model.
        num_samples: Samples kept of each problem, the first ones; None expects all problems to have as many.

    Raises:
        InputError: If a problem has fewer than that, numbers differ and ``num_samples`` is None, or only some problems
            have a greedy completion.
    """
    counts = [sum(sample != GREEDY for sample in record.samples) for record in outputs.records]
    wanted = max(counts) if num_samples is None else num_samples
    greedy = GREEDY in outputs.records[0].samples
    for record, count, place in zip(outputs.records, counts, outputs.places, strict=True):
        if (GREEDY in record.samples) != greedy:
            has = "no" if greedy else "a"
            raise InputError(f"{place}: problem {record.problem.id} has {has} greedy completion, unlike the first.")
        if count < wanted:
            hint = "" if num_samples else f" --num_samples {min(counts)} takes the first {min(counts)} of each."
            raise InputError(f"{place}: problem {record.problem.id} has {count} of {wanted} samples.{hint}")
    records, labels = [], []
    for record, judged in zip(outputs.records, outputs.labels, strict=True):
        kept = [i for i, sample in enumerate(record.samples) if sample == GREEDY or sample < wanted]
        chosen = {
            name: None if getattr(record, name) is None else [getattr(record, name)[i] for i in kept]
            for name in ("samples", "completions", "tokens_out", "stopped")
        }
        records.append(replace(record, **chosen))
        labels.append([judged[i] for i in kept])
    return replace(outputs, records=records, labels=labels)


def label_pairs(outputs: Outputs, records: Iterable[Record]) -> Iterator[tuple[Record, int, bool]]:
    """Yield (graded record, position of the completion in it, label) of every completion that has a label."""
    for record, judged in zip(records, outputs.labels, strict=True):
        for position, one in enumerate(judged):
            if one is not None:
                yield record, position, one


class _Records:
    """Takes rows of a ``records.jsonl``."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.labels: list[list[bool | None]] = []
        self.places: list[str] = []
        self._num_problems: Counter[str] = Counter()

    def add(self, row: Row | BadRow) -> None:
        if isinstance(row, BadRow):
            raise InputError(row.reason)
        record = Record.from_json(row.values, self._num_problems[str(row.values.get("source"))])
        self._num_problems[record.problem.source] += 1
        self.labels.append([grade.verdict is Verdict.CORRECT for grade in record.grades])
        self.records.append(replace(record, grades=(), votes=()))
        self.places.append(row.where)

    def result(self) -> tuple[list[Record], list[list[bool | None]], list[str]]:
        return self.records, self.labels, self.places


class _Reader:
    """Takes rows in the user's columns, for one column of completions."""

    def __init__(self, columns: Columns, completions: str, label: str | None, stem: str, extract_gold: bool) -> None:
        self.columns, self.completions, self.label = columns, completions, label
        self.stem, self.extract_gold = stem, extract_gold
        self.records: dict[tuple[str, ...], Record] = {}
        self.labels: dict[tuple[str, ...], list[bool | None]] = {}
        self.places: dict[tuple[str, ...], str] = {}
        self._num_problems: Counter[str] = Counter()

    def add(self, row: Row | BadRow) -> None:
        if isinstance(row, BadRow):
            raise InputError(row.reason)
        problem = self._problem(row)
        texts = _texts(_value(row, self.completions), self.completions)
        judged = [None] * len(texts) if self.label is None else _labels(_value(row, self.label), self.label, len(texts))
        key = (problem.source, problem.id) if self.columns.id else (problem.source, problem.problem, problem.answer)
        if key not in self.records:
            self.records[key] = Record(self._num_problems[problem.source], problem, [], [])
            self._num_problems[problem.source] += 1
            self.labels[key], self.places[key] = [], row.where
        record = self.records[key]
        if (record.problem.problem, record.problem.answer) != (problem.problem, problem.answer):
            raise InputError(f"`{self.columns.id}`: another problem or answer than at {self.places[key]}.")
        record.samples.extend(range(len(record.samples), len(record.samples) + len(texts)))
        record.completions.extend(texts)
        self.labels[key].extend(judged)

    def result(self) -> tuple[list[Record], list[list[bool | None]], list[str]]:
        records = list(self.records.values())
        if all(record.samples == [0] for record in records):
            records = [replace(record, samples=[GREEDY]) for record in records]
        return records, list(self.labels.values()), list(self.places.values())

    def _problem(self, row: Row) -> Problem:
        columns = self.columns
        answer = _text(row, columns.answer)
        if self.extract_gold:
            extraction = extract_answer(answer)
            if extraction is None:
                raise InputError(f"`{columns.answer}`: no answer can be extracted from {shown(answer)}.")
            answer = extraction.answer
        topic = None if columns.subject is None else _value(row, columns.subject)
        return Problem(
            id=row.key if columns.id is None else _text(row, columns.id),
            source=self.stem if columns.source is None else _text(row, columns.source),
            problem=_text(row, columns.problem),
            answer=answer,
            level=None if columns.level is None else level(_at(row, columns.level), columns.level),
            subject=None if topic is None else subject(_text(row, columns.subject)),
        )


def _value(row: Row, path: str) -> Any:
    """Return what stands at a dotted path; a key that holds a dot itself comes first.

    Raises:
        InputError: If there is nothing; names the path and the keys that are there.
    """
    value: Any = row.values
    if path in value:
        return value[path]
    for number, key in enumerate(path.split(".")):
        if not isinstance(value, dict) or key not in value:
            before = ".".join(path.split(".")[:number])
            there = ", ".join(map(str, value)) if isinstance(value, dict) else shown(value)
            raise InputError(f"no column `{path}`; {f'`{before}`' if before else 'the row'} has {there or 'none'}.")
        value = value[key]
    return value


def _at(row: Row, path: str) -> Row:
    """Return a row with the value at a path as a column of that name."""
    return Row(row.where, row.key, {path: _value(row, path)})


def _text(row: Row, path: str) -> str:
    return text(_at(row, path), path)


def _texts(value: Any, path: str) -> list[str]:
    """Return completions; an empty one is one without an answer."""
    texts = value if isinstance(value, list) else [value]
    for one in texts:
        if not isinstance(one, str):
            raise InputError(f"`{path}`: expected a text or a list of texts, but got {shown(one)}.")
        if any("\ud800" <= letter <= "\udfff" for letter in one):
            raise InputError(f"`{path}`: expected Unicode text, but got a lone surrogate in {shown(one)}.")
    if not texts:
        raise InputError(f"`{path}`: expected at least one completion, but the list is empty.")
    return list(texts)


def _labels(value: Any, path: str, size: int) -> list[bool | None]:
    labels = value if isinstance(value, list) else [value]
    if len(labels) != size:
        raise InputError(f"`{path}`: expected {size} labels, one for each completion, but got {len(labels)}.")
    for one in labels:
        if one is not None and one not in (True, False):
            raise InputError(f"`{path}`: expected true, false or null, but got {shown(one)}.")
    return [None if one is None else bool(one) for one in labels]
