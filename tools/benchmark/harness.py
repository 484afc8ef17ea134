"""Runs both sides of a workload in turn, each as a process of its own, and gathers what came of it."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmark.options import BenchArgs
from benchmark.reference import REFERENCES, TOOLS, reference_python
from benchmark.report import Record, format_figure, summarise
from lemma.types import InputError

_DTYPES = {"32-true": "float32", "bf16-mixed": "bfloat16"}
_COMPARED = {"examples", "prompts", "greedy", "verdicts", "cold", "warm"}  # too long for the report


@dataclass(frozen=True)
class Prepared:
    """What a workload made for both sides.

    Attributes:
        lemma: Maps a run's folder to the command of Lemma's side, which writes ``record.json`` there.
        reference: Maps a run's folder and an interpreter to that of the other side.
        facts: For the report.
        flops_per_token: Of the model, for a token of a sequence, all passes together; None where none runs.
        profile: Maps a folder to the command that writes ``profile.json`` there; None where none is asked for.
    """

    lemma: Callable[[Path], list[str]]
    reference: Callable[[Path, str], list[str]]
    facts: dict[str, Any]
    flops_per_token: float | None = None
    profile: Callable[[Path], list[str]] | None = None

    @classmethod
    def of_modules(cls, lemma: str, reference: str, job: Path, **others: Any) -> "Prepared":
        """Return what runs a module of this package on either side, with the job's file and the run's folder.

        Args:
            lemma: Name of Lemma's.
            reference: Name of the other side's.
            job: What both read.
            **others: The other attributes.
        """
        return cls(
            lambda run: [sys.executable, "-m", f"benchmark.{lemma}", str(job), str(run)],
            lambda run, python: [python, "-m", f"benchmark.{reference}", str(job), str(run)],
            **others,
        )


class Run(NamedTuple):
    """A finished side: its folder, and its record."""

    folder: Path
    record: Record


class Unit(NamedTuple):
    """What is counted, and over which time: names of two lists in a record, an entry a step."""

    counts: str
    seconds: str = "seconds"


@dataclass(frozen=True)
class Workload:
    """A benchmark.

    Attributes:
        args: Its options.
        prepare: Makes everything both sides read, in a folder.
        check: Compares a repeat: (args, folder, Lemma's run, the reference's) → figures for the report. Raises an
            InputError where the two did not do the same work.
        units: What is counted, by name; the first is the one that counts. Tokens are among them where a model runs.
    """

    args: type[BenchArgs]
    prepare: Callable[[Any, Path], Prepared]
    check: Callable[[Any, Path, Run, Run], dict[str, float]]
    units: dict[str, Unit]


def measure(workload: Workload, args: BenchArgs, report: dict[str, Any]) -> None:
    """Run the sides of a workload in turn.

    Args:
        workload: What is run.
        args: Its options.
        report: Filled with records, checks and the summary, as far as it comes.

    Raises:
        InputError: If a side fails, or the sides did not do the same work.
    """
    python = args.reference_python or str(reference_python(args.against))
    sides = ["lemma"] if args.against == "none" else ["lemma", "reference"]
    records: dict[str, list[Record]] = {side: [] for side in sides}
    report |= {"records": records, "checks": []}
    with tempfile.TemporaryDirectory(prefix="lemma-bench-") as name:
        folder = Path(name)
        print("Making what both sides start from …", flush=True)
        prepared = workload.prepare(args, folder)
        report |= {"flops_per_token": prepared.flops_per_token, "matmul_flops": None, "facts": prepared.facts}
        if prepared.flops_per_token is not None:
            matmul = [sys.executable, "-m", "benchmark.matmul", args.device, _DTYPES[args.precision]]
            report["matmul_flops"] = float(run_process(matmul, args))
        for repeat in range(1, args.repeats + 1):
            runs = []
            for side in sides:
                print(f"{title(side, args)}, repeat {repeat} of {args.repeats} … ", end="", flush=True)
                run = folder / f"{side}-{repeat}"
                run.mkdir()
                run_process(prepared.lemma(run) if side == "lemma" else prepared.reference(run, python), args)
                runs.append(read_run(run))
                records[side].append(_with_rates(runs[-1].record, workload.units, args))
            if len(runs) == 2:
                report["checks"].append(workload.check(args, folder, *runs))
        if prepared.profile is not None:
            run = folder / "profile"
            run.mkdir()
            run_process(prepared.profile(run), args)
            report["profile"] = json.loads((run / "profile.json").read_text())
    figures = {"flops_per_token": prepared.flops_per_token, "matmul": report["matmul_flops"]}
    report["summary"] = summarise(records, **figures)


def title(side: str, args: BenchArgs) -> str:
    """Return how a side is called."""
    return "Lemma" if side == "lemma" else REFERENCES[args.against].title


def read_run(folder: Path) -> Run:
    """Return a side that has finished.

    Args:
        folder: Of the run.
    """
    return Run(folder, json.loads((folder / "record.json").read_text()))


def run_process(command: list[str], args: BenchArgs) -> str:
    """Run a process to its end and return its output.

    Raises:
        InputError: If it fails; shows the end of what it wrote.
    """
    environment = os.environ | {
        "PYTHONPATH": str(TOOLS),
        "OMP_NUM_THREADS": str(args.num_threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0") if args.device == "cuda" else "",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise InputError(f"{shlex.join(command)} ended with status {done.returncode}:\n{tail}")
    return done.stdout


def _with_rates(record: Record, units: dict[str, Unit], args: BenchArgs) -> Record:
    """Return what the report keeps of a record, and how many a second came in each step that is measured."""
    rates = {
        name: [count / time for count, time in zip(record[unit.counts], record[unit.seconds], strict=True)]
        for name, unit in units.items()
    }
    rates = {name: each[args.warmup :] for name, each in rates.items()}
    figure, measured = next(iter(rates.items()))
    memory = format_figure("peak_memory", record["peak_memory"])
    print(f"{format_figure(figure, median(measured))} {figure}/s, {memory}", flush=True)
    return {name: value for name, value in record.items() if name not in _COMPARED} | {"rates": rates}
