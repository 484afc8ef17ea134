"""Decides how problems stand in files for other tools: JSON Lines, the CSV of AIMO, a folder of `datasets`."""

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from lemma.encoding import ChatEncoder
from lemma.files import write_atomic
from lemma.preparation.sides import Piece
from lemma.prompts import render_completion
from lemma.types import InputError, Problem

TEXTS = ("id", "source", "problem", "answer", "prompt", "target", "subject")
CSV_COLUMNS = ("id", "problem", "answer")


def as_row(problem: Problem, encoder: ChatEncoder) -> dict[str, Any]:
    """Return a problem as a row of texts.

    Args:
        problem: With an answer or a solution.
        encoder: Knows how problems are put; no chat template is applied, for that is the policy's own.

    Returns:
        ``id, source, problem, answer, prompt`` (what the user says), ``target`` (the completion to train on),
        ``level``, ``subject``, and, where a system prompt or worked examples stand before what the user says,
        ``messages``: the whole chat before the target. Of plain text, problem, prompt and messages are empty.
    """
    messages = encoder.messages(problem.problem) if problem.problem else []
    row = {
        "id": problem.id,
        "source": problem.source,
        "problem": problem.problem,
        "answer": problem.answer,
        "prompt": messages[-1]["content"] if messages else "",
        "target": render_completion(problem, encoder.prompt),
        "level": problem.level,
        "subject": problem.subject,
    }
    return row | {"messages": messages} if _has_more_messages(encoder) else row


def write_rows(path: Path, pieces: Iterable[Piece], encoder: ChatEncoder) -> None:
    """Write the problems of a side, corpus after corpus in the order of the data; one that comes twice stands together.

    Args:
        path: JSON Lines file.
        pieces: Of the side.
        encoder: Knows how problems are put.
    """
    pieces = list(pieces)

    def lines(bar: tqdm) -> Iterator[bytes]:
        for problem, times in _problems(pieces):
            line = _line(as_row(problem, encoder))
            for _ in range(times):
                yield line
            bar.update(times)

    with tqdm(total=sum(piece.num_rows for piece in pieces), desc=path.name, unit="row") as bar:
        write_atomic(path, lambda stream: stream.writelines(lines(bar)))


def write_jsonl_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a JSON Lines file atomically, a row at a time, so that it may be longer than the memory."""
    write_atomic(path, lambda stream: stream.writelines(_line(row) for row in rows))


def write_csv(path: Path, pieces: Iterable[Piece]) -> int:
    """Write ``id, problem, answer`` of the problems of a side that have an answer, each once.

    Args:
        path: CSV file.
        pieces: Of the side.

    Returns:
        How many have no question or no answer.
    """
    pieces, left_out = list(pieces), 0

    def write(stream: BinaryIO) -> None:
        nonlocal left_out
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow(CSV_COLUMNS)
        for problem, _ in tqdm(_problems(pieces), desc=path.name, unit="row"):
            if problem.answer is None or not problem.problem:
                left_out += 1
                continue
            writer.writerow([f"{problem.source}/{problem.id}", problem.problem, problem.answer])
        text.detach()

    write_atomic(path, write)
    return left_out


def write_dataset(folder: Path, files: dict[str, Path], encoder: ChatEncoder) -> None:
    """Write what ``datasets.load_from_disk`` reads, whole or not at all.

    Args:
        folder: Where it goes; what stands there is replaced.
        files: JSON Lines file of each split, from ``write_rows``.
        encoder: The one that they were written with.

    Raises:
        InputError: If it cannot be written.
    """
    from datasets import Dataset, DatasetDict, Features, Value

    columns: dict[str, Any] = {name: Value("string") for name in TEXTS} | {"level": Value("int64")}
    if _has_more_messages(encoder):
        columns["messages"] = [{"role": Value("string"), "content": Value("string")}]
    features = Features(columns)
    try:
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}.partial-", dir=folder.parent) as partial:
            splits = {
                split: Dataset.from_json(str(file), features=features, cache_dir=f"{partial}/cache")
                for split, file in files.items()
            }
            DatasetDict(splits).save_to_disk(f"{partial}/whole")
            shutil.rmtree(folder, ignore_errors=True)
            Path(f"{partial}/whole").rename(folder)
    except OSError as error:
        raise InputError(f"{folder}: could not be written ({error}).") from error


def _problems(pieces: Iterable[Piece]) -> Iterator[tuple[Problem, int]]:
    """Yield (problem, how often it comes), read from disk one after the other."""
    for piece in pieces:
        problems = piece.corpus.problems
        for index, times in zip(piece.index, piece.times, strict=True):
            if times:
                yield problems[index], int(times)


def _has_more_messages(encoder: ChatEncoder) -> bool:
    return len(encoder.messages("")) > 1


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"
