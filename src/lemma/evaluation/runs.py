"""Decides what a finished evaluation is when it is read back: its results, and a value of each problem for a figure."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lemma.evaluation.records import Record, read_records
from lemma.metrics import pass_at_k
from lemma.types import InputError, Verdict


@dataclass(frozen=True)
class Run:
    """One evaluation, read back from its files.

    Attributes:
        name: How the run is called in tables: the folder that was given.
        results: Content of ``results.json``.
        records: The records by (source, problem id).
    """

    name: str
    results: dict[str, Any]
    records: dict[tuple[str, str], Record]

    @property
    def benchmarks(self) -> dict[str, dict[str, Any]]:
        """Return each source's part of the results."""
        return self.results["benchmarks"]

    def metrics(self, source: str) -> dict[str, dict[str, float]]:
        """Return the figures of a source with their intervals, empty where it was not measured."""
        return self.benchmarks.get(source, {}).get("metrics", {})

    def values(self, source: str, metric: str) -> dict[str, float]:
        """Return each problem's value, by id.

        Args:
            source: The benchmark.
            metric: ``accuracy`` (0 or 1) or ``pass@k``, or either with ``flexible_`` before it; problems on which it
                was not measured are left out.
        """
        verdict = "flexible_verdict" if metric.startswith("flexible_") else "verdict"
        name, _, k = metric.removeprefix("flexible_").partition("@")
        records = [record for key, record in self.records.items() if key[0] == source]
        if name == "accuracy":
            greedy = {record.problem.id: record.greedy for record in records if record.greedy is not None}
            return {id_: float(getattr(grade, verdict) is Verdict.CORRECT) for id_, grade in greedy.items()}
        records = [record for record in records if len(record.sampled) >= int(k)]
        if not records:
            return {}
        num_correct = [sum(getattr(g, verdict) is Verdict.CORRECT for g in record.sampled) for record in records]
        num_total = [len(record.sampled) for record in records]
        values = pass_at_k(torch.tensor(num_correct), torch.tensor(num_total), int(k))
        return dict(zip((record.problem.id for record in records), values.tolist(), strict=True))


def load_run(folder: Path) -> Run:
    """Read an evaluation.

    Args:
        folder: A run directory (its ``validate`` is read) or a folder with ``records.jsonl`` and ``results.json``.

    Raises:
        InputError: If the files are missing, a record cannot be read (names file, line and key) or stands there twice.
    """
    inner = folder if (folder / "results.json").is_file() else folder / "validate"
    try:
        results = json.loads((inner / "results.json").read_text("utf-8"))
        records: dict[tuple[str, str], Record] = {}
        for record in read_records(inner / "records.jsonl"):
            if record.key in records:
                raise InputError(
                    f"{inner / 'records.jsonl'}: {record.key[0]}, problem {record.key[1]} stands there twice."
                )
            records[record.key] = record
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: no evaluation found ({error.filename} is missing); run `lemma validate`."
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{inner / 'results.json'}: not JSON ({error}).") from error
    if not isinstance(results, dict) or not isinstance(results.get("benchmarks"), dict):
        raise InputError(f"{inner / 'results.json'}: `benchmarks` is missing; is this an evaluation of Lemma?")
    return Run(str(folder), results, records)
