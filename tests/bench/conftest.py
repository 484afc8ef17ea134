"""Runs the benchmark in the tests' own process, its sides too, so that what they import is imported once."""

import contextlib
import io
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))


class Finished(NamedTuple):
    """What a run of the tool came to: how it ended, what it printed, its report and its image."""

    error: str | None
    stdout: str
    report: dict
    image: Path


def run_here(command: list[str], args: object, doctor: Callable[[Path], None] | None = None) -> str:
    """Do what ``harness.run_process`` does, in this process.

    Args:
        command: python -m MODULE ARGUMENTS.
        args: Ignored.
        doctor: Takes the reference's job, a file, before the reference does.
    """
    _, _, module, *arguments = command
    if doctor is not None and module.endswith(("_trl", "_hf", "_math_verify")):
        doctor(Path(arguments[0]))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", [module, *arguments])
        runpy.run_module(module, run_name="__main__")
    return printed.getvalue()


@pytest.fixture(scope="session")
def bench(tmp_path_factory) -> Callable[..., Finished]:
    """Return a function of (workload, options, doctor of the reference's job) that runs the tool on few rows."""
    import bench as tool
    from benchmark import dpo, grpo, harness, problems

    def run(workload: str, *options: str, doctor: Callable[[Path], None] | None = None) -> Finished:
        out = tmp_path_factory.mktemp("bench") / "out.json"
        error = None
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
            for module in (harness, grpo):
                patch.setattr(module, "run_process", lambda *each: run_here(*each, doctor=doctor))
            for module in (problems, dpo):
                patch.setattr(module, "NUM_GENERATED", 60)
            python = f"--reference_python={sys.executable}"
            patch.setattr(sys, "argv", ["bench.py", workload, python, f"--out={out}", *options])
            try:
                tool.main()
            except SystemExit as ended:
                error = ended.code
        report = json.loads(out.read_text()) if out.is_file() else {}
        return Finished(error, printed.getvalue(), report, out.with_suffix(".png"))

    return run


@pytest.fixture(scope="session")
def doctored() -> Callable[..., Callable[[Path], None]]:
    """Return a function of a change of a job's entries that makes a doctor."""

    def doctor(change: Callable[[dict], None]) -> Callable[[Path], None]:
        def treat(path: Path) -> None:
            job = json.loads(path.read_text())
            change(job)
            path.write_text(json.dumps(job))

        return treat

    return doctor
