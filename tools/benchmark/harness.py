"""Runs both sides of a workload in turn, each as a process of its own, and writes down what came of it."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmark.meter import machine
from benchmark.options import BenchArgs
from benchmark.reference import TOOLS, reference_python
from benchmark.report import Record, format_rate, summarise, table
from lemma.files import keep_previous, write_json
from lemma.types import InputError

_DTYPES = {"32-true": "float32", "bf16-mixed": "bfloat16"}


@dataclass(frozen=True)
class Prepared:
    """What a workload made for both sides.

    Attributes:
        lemma: Maps a run's folder to the command of Lemma's side, which writes ``record.json`` there.
        reference: Maps a run's folder and an interpreter to that of the other side.
        flops_per_token: Of the model, for a token of a sequence, all passes together.
        facts: For the report.
    """

    lemma: Callable[[Path], list[str]]
    reference: Callable[[Path, str], list[str]]
    flops_per_token: float
    facts: dict[str, Any]


class Run(NamedTuple):
    """A finished side: its folder, and its record."""

    folder: Path
    record: Record


@dataclass(frozen=True)
class Workload:
    """A benchmark.

    Attributes:
        args: Its options.
        prepare: Makes everything both sides read, in a folder.
        check: Compares a repeat: (args, folder, Lemma's run, the reference's) → figures for the report. Raises an
            InputError where the two did not do the same work.
        units: What is counted, tokens among it: name → (record) → how many in each step. Lemma's rate over the
            reference's is that of the first.
    """

    args: type[BenchArgs]
    prepare: Callable[[Any, Path], Prepared]
    check: Callable[[Any, Path, Run, Run], dict[str, float]]
    units: dict[str, Callable[[Record], list[int]]]


def bench(name: str, workload: Workload, args: BenchArgs) -> None:
    """Run a workload, print its table and write its JSON file.

    Args:
        name: Of the workload.
        workload: What is run.
        args: Its options.

    Raises:
        InputError: If a side fails, or the sides did not do the same work; the file then says so, without ratios.
    """
    out = Path(args.out or f"runs/bench/{name}.json")
    python = args.reference_python or str(reference_python(args.against))
    report: dict[str, Any] = {
        "workload": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "options": asdict(args) | {"threads": args.num_threads},
        "machine": machine(),
        "records": {"lemma": [], "reference": []},
        "checks": [],
    }
    with tempfile.TemporaryDirectory(prefix="lemma-bench-") as folder:
        try:
            _measure(workload, args, python, Path(folder), report)
        except InputError as error:
            report["error"] = str(error)
            raise
        finally:
            keep_previous(out)
            write_json(out, report)
    _show(args, report, list(workload.units))
    print(f"Written: {out}")


def _show(args: BenchArgs, report: dict[str, Any], units: list[str]) -> None:
    """Print the table, and what stands behind it."""
    lemma, reference = (report["records"][side][0]["versions"] for side in ("lemma", "reference"))
    names = {"lemma": "Lemma", "reference": f"{_title('reference', args)} {reference[args.against]}"}
    print(f"\n{table(report['summary'], names, units)}\n")
    gpu = report["records"]["lemma"][0]["gpu"]
    print(
        f"{gpu or report['machine']['cpu']}, threads {args.num_threads}, {args.precision}; steps {args.steps}, repeats "
        f"{args.repeats}; matrix products reach {report['matmul_flops'] / 1e9:,.0f} GFLOP/s."
    )
    worst = {name: max(check[name] for check in report["checks"]) for name in report["checks"][0]}
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.1e}" for name, value in worst.items())
    print(f"The same work in every step: {shown}.")
    for name in sorted(lemma.keys() & reference.keys()):
        if lemma[name] != reference[name]:
            print(f"Note: {name} is {lemma[name]} with Lemma and {reference[name]} with the reference.")


def _measure(workload: Workload, args: BenchArgs, python: str, folder: Path, report: dict[str, Any]) -> None:
    """Run both sides in turn, and fill the report."""
    print("Making model, tokenizer, adapter and rows …", flush=True)
    prepared = workload.prepare(args, folder)
    matmul = float(run_process([sys.executable, "-m", "benchmark.matmul", args.device, _DTYPES[args.precision]], args))
    report |= {"flops_per_token": prepared.flops_per_token, "matmul_flops": matmul, "facts": prepared.facts}
    records = report["records"]
    for repeat in range(1, args.repeats + 1):
        runs = []
        for side in records:
            print(f"{_title(side, args)}, repeat {repeat} of {args.repeats} … ", end="", flush=True)
            run = folder / f"{side}-{repeat}"
            run_process(prepared.lemma(run) if side == "lemma" else prepared.reference(run, python), args)
            runs.append(read_run(run))
            record = runs[-1].record
            rates = {name: _rates(count(record), record["seconds"], args) for name, count in workload.units.items()}
            shown = {name: value for name, value in record.items() if name not in ("examples", "prompts")}
            records[side].append(shown | {"rates": rates})
            unit, measured = next(iter(rates.items()))
            print(f"{format_rate(median(measured))} {unit}/s, {record['peak_memory'] / 1e9:.2f} GB", flush=True)
        report["checks"].append(workload.check(args, folder, *runs))
    report["summary"] = summarise(**records, flops_per_token=prepared.flops_per_token, matmul=matmul)


def read_run(folder: Path) -> Run:
    """Return a side that has finished.

    Args:
        folder: Of the run.
    """
    return Run(folder, json.loads((folder / "record.json").read_text()))


def _rates(counts: list[int], seconds: list[float], args: BenchArgs) -> list[float]:
    """Return how many a second came in each step that is measured."""
    return [count / time for count, time in zip(counts, seconds, strict=True)][args.warmup :]


def _title(side: str, args: BenchArgs) -> str:
    return {"lemma": "Lemma", "reference": args.against.upper()}[side]


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
