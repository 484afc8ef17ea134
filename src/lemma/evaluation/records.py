"""Decides what is kept of a measured problem: one row of ``records.jsonl``, in parallel lists."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lemma.answers import Graded, Grader
from lemma.answers.extract import FLEXIBLE_STRATEGIES
from lemma.types import GREEDY, Completion, InputError, Problem, Verdict


@dataclass(frozen=True)
class Record:
    """Everything that was generated for one problem, graded or about to be.

    Attributes:
        index: Of the problem in its benchmark.
        problem: The problem.
        samples: Index of each completion among the samples, from 0; -1 for the greedy one, which comes first.
        completions: Their texts.
        tokens_in: Tokens of the prompt, or None where nobody counted.
        tokens_out: Tokens of each completion, the stop token included, or None.
        stopped: Whether a stop token ended each, or None where nobody knows.
        seconds: Time spent on the problem, or None: generation shared evenly among a batch, and grading.
        grades: One for each completion; empty until it is graded.
        votes: Group of equal answers that each completion is in, -1 for none; empty until it is graded. Only answers
            that strict extraction finds vote.
    """

    index: int
    problem: Problem
    samples: list[int]
    completions: list[str]
    tokens_in: int | None = None
    tokens_out: list[int] | None = None
    stopped: list[bool] | None = None
    seconds: float | None = None
    grades: Sequence[Graded] = ()
    votes: Sequence[int] = ()

    @classmethod
    def of(cls, index: int, problem: Problem, completions: Sequence[Completion], tokens_in: int) -> "Record":
        """Return the ungraded record of what an engine generated."""
        return cls(
            index,
            problem,
            samples=[one.sample for one in completions],
            completions=[one.text for one in completions],
            tokens_in=tokens_in,
            tokens_out=[one.num_tokens for one in completions],
            stopped=[one.stopped for one in completions],
        )

    @property
    def key(self) -> tuple[str, str]:
        """Return (source, problem id)."""
        return self.problem.source, self.problem.id

    @property
    def greedy(self) -> Graded | None:
        """Return the grade of the greedy completion, if there is one."""
        return next((g for sample, g in zip(self.samples, self.grades, strict=True) if sample == GREEDY), None)

    @property
    def sampled(self) -> list[Graded]:
        """Return the grades of the sampled completions."""
        return [g for sample, g in zip(self.samples, self.grades, strict=True) if sample != GREEDY]

    @property
    def sampled_votes(self) -> list[int]:
        """Return the votes of the sampled completions."""
        return [vote for sample, vote in zip(self.samples, self.votes, strict=True) if sample != GREEDY]

    @property
    def num_correct(self) -> int:
        """Return how many of the sampled completions are correct."""
        return sum(grade.verdict is Verdict.CORRECT for grade in self.sampled)

    def as_json(self) -> dict[str, Any]:
        """Return the graded record as one JSON Lines row."""
        greedy = self.greedy
        return {
            "problem_id": self.problem.id,
            "source": self.problem.source,
            "level": self.problem.level,
            "subject": self.problem.subject,
            "problem": self.problem.problem,
            "answer": self.problem.answer,
            "n_correct": self.num_correct,
            "n_total": len(self.sampled),
            "greedy_correct": None if greedy is None else greedy.verdict is Verdict.CORRECT,
            "samples": self.samples,
            "completions": self.completions,
            "predictions": [grade.prediction for grade in self.grades],
            "strategies": [grade.strategy for grade in self.grades],
            "verdicts": [grade.verdict.value for grade in self.grades],
            "flexible_verdicts": [grade.flexible_verdict.value for grade in self.grades],
            "votes": list(self.votes),
            "stopped": self.stopped,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "seconds": None if self.seconds is None else round(self.seconds, 4),
        }

    @classmethod
    def from_json(cls, row: Any, index: int) -> "Record":
        """Return the record that a row stands for; the counts in it are counted again.

        Args:
            row: One row of ``records.jsonl``.
            index: Of the problem in its benchmark.

        Raises:
            InputError: If the row is none; names the key.
        """
        if not isinstance(row, dict):
            raise InputError(f"expected a record, but got {type(row).__name__}.")
        samples = _items(row, "samples", None, int)
        size = len(samples)
        if not size:
            raise InputError("`samples`: expected at least one completion.")
        verdicts, flexible = (
            [_verdict(name, text) for text in _items(row, name, size, str)]
            for name in ("verdicts", "flexible_verdicts")
        )
        predictions, strategies = (_items(row, name, size, str | None) for name in ("predictions", "strategies"))
        texts = {name: _value(row, name, str) for name in ("problem_id", "source", "problem", "answer")}
        return cls(
            index,
            Problem(
                texts["problem_id"],
                texts["source"],
                texts["problem"],
                answer=texts["answer"],
                level=_value(row, "level", int | None),
                subject=_value(row, "subject", str | None),
            ),
            samples,
            completions=_items(row, "completions", size, str),
            tokens_in=_value(row, "tokens_in", int | None),
            tokens_out=None if row.get("tokens_out") is None else _items(row, "tokens_out", size, int),
            stopped=None if row.get("stopped") is None else _items(row, "stopped", size, bool),
            seconds=_value(row, "seconds", int | float | None),
            grades=[Graded(*grade) for grade in zip(verdicts, flexible, predictions, strategies, strict=True)],
            votes=_items(row, "votes", size, int),
        )


def graded(records: Sequence[Record], grader: Grader) -> list[Record]:
    """Return the records with grades and votes.

    Args:
        records: Of problems with answers.
        grader: Says what is right, and which answers are the same.
    """
    golds = [record.problem.answer for record in records for _ in record.completions]
    grades = iter(grader.grade_texts(golds, [text for record in records for text in record.completions]))
    done = []
    for record in records:
        mine = [next(grades) for _ in record.completions]
        answers = [None if grade.strategy in FLEXIBLE_STRATEGIES else grade.prediction for grade in mine]
        done.append(replace(record, grades=mine, votes=grader.group(answers, record.problem.answer)))
    return done


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a ``records.jsonl``.

    Raises:
        InputError: If a line is no record; names file, line and key.
    """
    num_seen: dict[str, int] = {}
    try:
        lines = path.read_text("utf-8").split("\n")  # at "\n" only: a raw U+2028 is part of a text
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}).") from error
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            record = Record.from_json(json.loads(line), 0)
        except ValueError as error:
            raise InputError(f"{path}:{number}: not a record: {error}") from error
        index = num_seen.get(record.problem.source, 0)
        num_seen[record.problem.source] = index + 1
        yield replace(record, index=index)


def _value(row: dict[str, Any], key: str, kind: Any) -> Any:
    if key not in row:
        raise InputError(f"`{key}` is missing.")
    value = row[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"`{key}`: expected {getattr(kind, '__name__', kind)}, but got {value!r}.")
    return value


def _items(row: dict[str, Any], key: str, size: int | None, kind: Any) -> list:
    values = _value(row, key, list)
    if size is not None and len(values) != size:
        raise InputError(f"`{key}`: expected {size} entries, one for each of `samples`, but got {len(values)}.")
    return [_value({key: value}, key, kind) for value in values]


def _verdict(key: str, text: str) -> Verdict:
    if text not in list(Verdict):
        raise InputError(f"`{key}`: expected {', '.join(Verdict)}, but got {text!r}.")
    return Verdict(text)
