"""Makes graded records, and runs of them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from lemma.answers import Graded
from lemma.evaluation import BenchmarkScores, Record
from lemma.files import write_jsonl
from lemma.types import GREEDY, Problem, Verdict

NAMES = {"C": Verdict.CORRECT, "W": Verdict.WRONG, "U": Verdict.UNPARSEABLE, "T": Verdict.TIMEOUT}


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """Return a function of verdicts, as letters, to a record; the first is greedy unless told otherwise.

    A letter F is an answer that only flexible extraction finds, and that is correct.
    """

    def make(
        index: int, verdicts: str, *, votes: Sequence[int] | None = None, greedy: bool = True, source: str = "toy",
        level: int | None = None, subject: str | None = None, tokens: Sequence[int] | None = None,
    ) -> Record:  # fmt: skip
        strict = [Verdict.UNPARSEABLE if letter == "F" else NAMES[letter] for letter in verdicts]
        flexible = [Verdict.CORRECT if letter == "F" else NAMES[letter] for letter in verdicts]
        if votes is None:  # right ones agree, each wrong one is alone
            votes = [
                0 if v is Verdict.CORRECT else -1 if v is Verdict.UNPARSEABLE else i + 1 for i, v in enumerate(strict)
            ]
        size = len(verdicts)
        tokens = list(tokens or [5] * size)
        return Record(
            index,
            Problem(f"p{index}", source, f"question {index}", answer="1", level=level, subject=subject),
            samples=list(range(GREEDY, size - 1)) if greedy else list(range(size)),
            completions=[f"text {i}" for i in range(size)],
            tokens_in=7,
            tokens_out=tokens,
            stopped=[number < 9 for number in tokens],
            seconds=0.5,
            grades=[
                Graded(s, f, None if letter == "U" else "1", {"F": "number", "U": None}.get(letter, "boxed"))
                for s, f, letter in zip(strict, flexible, verdicts, strict=True)
            ],
            votes=list(votes),
        )

    return make


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes records as a finished run's folder, with results computed from them."""

    def write(name: str, records: list[Record], **settings: object) -> Path:
        benchmarks = {}
        for source in dict.fromkeys(record.problem.source for record in records):
            mine = [record for record in records if record.problem.source == source]
            num_samples = len(mine[0].sampled)
            scores = BenchmarkScores(
                [record.problem for record in sorted(mine, key=lambda record: record.index)],
                num_samples=num_samples,
                ks=[k for k in (1, 2) if k <= num_samples],
                greedy=mine[0].greedy is not None,
                seed=0,
            )
            for position, record in enumerate(sorted(mine, key=lambda record: record.index)):
                scores.update(Record(**{**vars(record), "index": position}))
            benchmarks[source] = {"metrics": {key: asdict(value) for key, value in scores.estimates().items()}}
        folder = tmp_path / name
        write_jsonl(folder / "records.jsonl", [record.as_json() for record in records])
        (folder / "results.json").write_text(json.dumps({**settings, "benchmarks": benchmarks}))
        return folder

    return write
