"""What every workload asks for, and how an option is refused."""

import os
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

import torch

from lemma.types import InputError

SWEEPS = {
    "length": (256, 512, 1024, 2048, 4096, 8192),
    "group_size": (4, 8, 16, 32, 64),
    "prompt_tokens": (64, 128, 256, 512, 1000, 2000),
}
"""Option → the values that a sweep takes where none are given."""


def expect(holds: bool, name: str, rule: str, value: object) -> None:
    """Refuse an option.

    Raises:
        InputError: If it does not hold.
    """
    if not holds:
        raise InputError(f"--{name}: expected {rule}, but got {value!r}.")


@dataclass(frozen=True)
class BenchArgs:
    """What every workload asks for."""

    against: Literal["trl", "hf", "math_verify", "none"]
    """The reference; none runs Lemma alone."""
    steps: int = 30
    """Steps that are measured, at least 1."""
    warmup: int = 5
    """Steps before those, compared but not measured, at least 1."""
    repeats: int = 3
    """Runs of each side, in turn, at least 1."""
    threads: int | None = None
    """Threads of either side, at least 1; null is one a core. More than one on a busy machine measures the others."""
    reference_python: str | None = None
    """Interpreter of an environment that has the reference already; null makes one under .bench/ where the reference
    is not a part of Lemma's own."""
    out: str | None = None
    """JSON file, beside which a PNG is drawn; null is runs/bench/<workload>.json, or <workload>-<sweep>.json. Files
    that are there already are moved aside."""
    seed: int = 0
    """Of weights, rows and their order, at least 0."""
    sweep: str | None = None
    """Option with a whole number that takes several values, one after another; null runs once."""
    sweep_values: list[int] | None = None
    """Those values; null is 256 … 8192 for length, 4 … 64 for group_size, 64 … 2000 for prompt_tokens."""
    reference_up_to: int | None = None
    """Largest of them at which the reference runs, too: beyond, where it takes too long or too much memory, Lemma runs
    alone. Null runs both at all."""

    device: ClassVar[str] = "cpu"
    precision: ClassVar[str] = "32-true"

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names option, rule and value.
        """
        self.expect_at_least(steps=1, warmup=1, repeats=1, seed=0)
        expect(self.threads is None or self.threads >= 1, "threads", "null or at least 1", self.threads)
        found = self.reference_python is None or shutil.which(self.reference_python) is not None
        expect(found, "reference_python", "null or an interpreter", self.reference_python)
        counted = [field.name for field in fields(self) if field.type in (int, int | None)]
        counted.remove("reference_up_to")
        expect(self.sweep in (None, *counted), "sweep", f"null or one of {', '.join(counted)}", self.sweep)
        known = self.sweep is None or self.sweep in SWEEPS or bool(self.sweep_values)
        expect(known, "sweep_values", f"the values of {self.sweep}, such as '[2, 4]'", self.sweep_values)
        for name in ("sweep_values", "reference_up_to"):
            expect(self.sweep or getattr(self, name) is None, name, "null without --sweep", getattr(self, name))
        if self.out is not None:
            out = Path(self.out)
            expect(out.suffix == ".json" and not out.is_dir(), "out", "a file that ends in .json", self.out)
            parent = next(parent for parent in out.absolute().parents if parent.exists())
            expect(parent.is_dir(), "out", f"a place in a folder, which {parent} is not", self.out)

    def expect_at_least(self, **lows: int) -> None:
        """Refuse options below their lowest value.

        Raises:
            InputError: Names option, rule and value.
        """
        for name, low in lows.items():
            expect(getattr(self, name) >= low, name, f"at least {low}", getattr(self, name))

    @property
    def num_threads(self) -> int:
        """Return the threads of either side."""
        return self.threads or os.cpu_count() or 1

    @property
    def num_steps(self) -> int:
        """Return the steps of a run."""
        return self.warmup + self.steps


@dataclass(frozen=True)
class ModelBenchArgs(BenchArgs):
    """What a workload asks for that runs a model."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where both run."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Of both, in Lightning's names."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names option, rule and value.
        """
        super().__post_init__()
        present = self.device == "cpu" or torch.cuda.is_available()
        expect(present, "device", "cpu, for there is no CUDA device here", self.device)
