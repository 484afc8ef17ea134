"""Compares evaluations of several runs on the same problems: is a gain real?"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from lemma.metrics import paired_bootstrap_interval
from lemma.types import GREEDY, InputError, Verdict


@dataclass(frozen=True)
class Run:
    """One evaluation, read back from its files.

    Attributes:
        name: How the run is called in tables: the folder that was given.
        results: Content of ``results.json``.
        values: ``pass@1`` (share of correct samples) and ``accuracy`` (greedy completion correct: 0 or 1), each by
            (source, problem id).
    """

    name: str
    results: dict[str, Any]
    values: dict[str, dict[tuple[str, str], float]]


def load_run(folder: Path) -> Run:
    """Read an evaluation.

    Args:
        folder: A run directory (its ``validate`` is read) or a folder with ``records.jsonl`` and ``results.json``.

    Raises:
        InputError: If the files are missing or a record cannot be read; names file and line.
    """
    inner = folder if (folder / "results.json").is_file() else folder / "validate"
    try:
        results = json.loads((inner / "results.json").read_text("utf-8"))
        lines = (inner / "records.jsonl").read_text("utf-8").split("\n")
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: no evaluation found ({error.filename} is missing); run `lemma validate`."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{inner / 'records.jsonl'} or results.json: not UTF-8 ({error}).") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{inner / 'results.json'}: not JSON ({error}).") from error
    values: dict[str, dict[tuple[str, str], float]] = {"accuracy": {}, "pass@1": {}}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            record = json.loads(line)
            key = (record["source"], record["problem_id"])
            if record["num_samples"]:
                values["pass@1"][key] = record["num_correct"] / record["num_samples"]
            for completion in record["completions"]:
                if completion["sample"] == GREEDY:
                    values["accuracy"][key] = float(completion["verdict"] == Verdict.CORRECT)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{inner / 'records.jsonl'}:{number}: not a record ({error!r}).") from error
    return Run(str(folder), results, values)


def comparison_table(runs: Sequence[Run], *, by_level: bool = False) -> str:
    """Return the figures of all runs side by side, in per cent with 95 % intervals.

    Args:
        runs: At least one.
        by_level: Also give each level's figures.
    """
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for run in runs:
        for source, benchmark in run.results["benchmarks"].items():
            for name, e in benchmark["metrics"].items():
                if by_level or "/" not in name:
                    cell = f"{100 * e['value']:5.1f} [{100 * e['low']:.1f}, {100 * e['high']:.1f}]"
                    rows.setdefault((source, name), {})[run.name] = cell
    table = [[*key, *(cells.get(run.name, "") for run in runs)] for key, cells in rows.items()]
    return tabulate(table, ["benchmark", "metric", *(run.name for run in runs)], disable_numparse=True)


@dataclass(frozen=True)
class Gain:
    """Difference of a mean between two runs on the same problems, with its paired 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    num_problems: int


def paired_gain(base: Run, run: Run, source: str, *, metric: str = "pass@1", seed: int = 0) -> Gain:
    """Return how much a run gains over another on a benchmark.

    Args:
        base: The run to improve on.
        run: The run that may.
        source: The benchmark.
        metric: ``pass@1`` or ``accuracy``.
        seed: Of the bootstrap.

    Raises:
        InputError: If the two were not measured on the same problems.
    """
    before = {key: value for key, value in base.values[metric].items() if key[0] == source}
    after = {key: value for key, value in run.values[metric].items() if key[0] == source}
    if before.keys() != after.keys() or not before:
        shared = len(before.keys() & after.keys())
        raise InputError(
            f"{base.name} and {run.name} share {shared} problems of {source} with {metric}, but "
            f"have {len(before)} and {len(after)}: a paired comparison needs the same ones."
        )
    a = torch.tensor([before[key] for key in before], dtype=torch.float64)
    b = torch.tensor([after[key] for key in before], dtype=torch.float64)
    low, high = paired_bootstrap_interval(a, b, seed=seed)
    return Gain(float((b - a).mean()), float(low), float(high), len(a))
