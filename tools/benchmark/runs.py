"""Runs a workload once, or once for each value of an option, and writes, prints and draws what came of it."""

import contextlib
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmark.figures import draw_repeats, draw_sweep
from benchmark.harness import Workload, measure, title
from benchmark.options import SWEEPS, BenchArgs
from benchmark.process import machine
from benchmark.reference import REFERENCES
from benchmark.report import format_figure, heading, table
from lemma.files import keep_previous, write_json

_PROFILED = 15


def bench(name: str, workload: Workload, args: BenchArgs) -> None:
    """Run a workload, print its table, and write its JSON file and its PNG.

    Args:
        name: Of the workload.
        workload: What is run.
        args: Its options.

    Raises:
        InputError: If a side fails, or the sides did not do the same work; the file then says so, without ratios.
    """
    with _written(name, args) as (report, image):
        measure(workload, args, report)
        names = _names(report, args)
        keep_previous(image)
        draw_repeats(report, names, image)
    print(f"\n{table(report['summary'], names)}\n\n{_conditions(report, args)}")
    if report["checks"]:
        worst = {name: max(check[name] for check in report["checks"]) for name in report["checks"][0]}
        shown = ", ".join(f"{name.replace('_', ' ')} {value:,.4g}" for name, value in worst.items())
        print(f"The same work in every step: {shown}.")
        _note_versions(report)
    if "profile" in report:
        print(f"\n{_profile_table(report['profile'])}\n")
    print(f"Drawn: {image}")


def sweep(name: str, workload: Workload, args: BenchArgs) -> None:
    """Run a workload for each value of ``--sweep``, print one table, and write one JSON file and one PNG.

    Args:
        name: Of the workload.
        workload: What is run.
        args: Its options.

    Raises:
        InputError: As for ``bench``; the file then has the values before.
    """
    values = args.sweep_values or SWEEPS[args.sweep]
    points = [(value, _at(args, value)) for value in values]  # refuses what cannot be before anything runs
    with _written(name, args) as (report, image):
        report["points"] = []
        for value, point in points:
            print(f"{args.sweep} {value}:", flush=True)
            report["points"].append({"value": value})
            measure(workload, point, report["points"][-1])
        names = _names(report["points"][0], args)
        keep_previous(image)
        draw_sweep(report, names, image)
    print(f"\n{_sweep_table(report, names)}\n\n{_conditions(report['points'][0], args)}")
    print(f"Drawn: {image}")


def _at(args: BenchArgs, value: int) -> BenchArgs:
    """Return the options at a value of the sweep."""
    alone = args.reference_up_to is not None and value > args.reference_up_to
    return replace(args, **{args.sweep: value}, against="none" if alone else args.against)


@contextlib.contextmanager
def _written(name: str, args: BenchArgs) -> Iterator[tuple[dict[str, Any], Path]]:
    """Yield a report and the place of its image; it is written if anything was measured, also with what went wrong."""
    out = Path(args.out or f"runs/bench/{name if args.sweep is None else f'{name}-{args.sweep}'}.json")
    image = out.with_suffix(".png")
    report: dict[str, Any] = {
        "workload": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "options": asdict(args) | {"threads": args.num_threads},
        "machine": machine(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield report, image
    except Exception as error:
        report["error"] = str(error)
        print(flush=True)  # ends the line of the side that was running
        raise
    finally:
        if any(part.get("records", {}).get("lemma") for part in (report, *report.get("points", ()))):
            keep_previous(out)
            write_json(out, report)
            print(f"Written: {out}")


def _names(report: dict[str, Any], args: BenchArgs) -> dict[str, str]:
    """Return how the sides are called, the reference with its version."""
    names = {side: title(side, args) for side in report["records"]}
    if "reference" in names:
        versions = report["records"]["reference"][0]["versions"]
        names["reference"] += f" {versions[REFERENCES[args.against].package]}"
    return names


def _conditions(report: dict[str, Any], args: BenchArgs) -> str:
    """Return what the figures hold for."""
    device = report["records"]["lemma"][0]["gpu"] or machine()["cpu"]
    parts = f"{device}, threads {args.num_threads}; steps {args.steps}, repeats {args.repeats}"
    if report["matmul_flops"] is None:
        return f"{parts}."
    return f"{parts}; {args.precision}; matrix products reach {report['matmul_flops'] / 1e9:,.0f} GFLOP/s."


def _note_versions(report: dict[str, Any]) -> None:
    """Say which packages the sides have at other versions."""
    lemma, reference = (runs[0]["versions"] for runs in report["records"].values())
    for name in sorted(lemma.keys() & reference.keys()):
        if lemma[name] != reference[name]:
            print(f"Note: {name} is {lemma[name]} with Lemma and {reference[name]} with the reference.")


def _profile_table(rows: list[dict[str, Any]]) -> str:
    """Return the operations that take most of Lemma's time."""
    shown = [(row["operation"], f"{row['share']:.1%}", f"{row['calls']:,}") for row in rows[:_PROFILED]]
    return tabulate(shown, headers=["operation of Lemma's", "of its time", "calls"], stralign="right")


def _sweep_table(report: dict[str, Any], names: dict[str, str]) -> str:
    """Return a row for each value: rate, memory and ratio."""
    figures = [next(iter(report["points"][0]["summary"]["lemma"])), "peak_memory"]
    rows = []
    for point in report["points"]:
        row = [point["value"]]
        for figure in figures:
            sides = [point["summary"].get(side) for side in names]
            row += ["" if side is None else format_figure(figure, side[figure]) for side in sides]
            if "reference" in names:
                ratio = point["summary"].get("ratio")
                row.append("" if ratio is None else f"{ratio[figure]['value']:.2f}x")
        rows.append(row)
    titles = [*names.values(), "ratio"] if "reference" in names else [*names.values()]
    headers = [f"{heading(figure)}\n{name}" for figure in figures for name in titles]
    return tabulate(rows, headers=[report["options"]["sweep"], *headers], stralign="right", disable_numparse=True)
