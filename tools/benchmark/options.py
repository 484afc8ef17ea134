"""What every workload asks for, and how an option is refused."""

import os
import shutil
from dataclasses import dataclass
from typing import Literal

import torch

from lemma.types import InputError


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

    against: Literal["trl"] = "trl"
    """The reference; its environment is made once, under .bench/ at the top of the checkout."""
    steps: int = 30
    """Optimiser steps that are measured, at least 1."""
    warmup: int = 5
    """Optimiser steps before those, compared but not measured, at least 1."""
    repeats: int = 3
    """Runs of each side, in turn, at least 1."""
    threads: int | None = None
    """Threads of either side, at least 1; null is one a core. More than one on a busy machine measures the others."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where both run."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Of both, in Lightning's names."""
    reference_python: str | None = None
    """Interpreter of an environment that has the reference already; null uses that of .bench/."""
    out: str | None = None
    """JSON file; null is runs/bench/<workload>.json. A file that is there already is moved aside."""
    seed: int = 0
    """Of weights, rows and their order, at least 0."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names option, rule and value.
        """
        for name, low in (("steps", 1), ("warmup", 1), ("repeats", 1), ("seed", 0)):
            expect(getattr(self, name) >= low, name, f"at least {low}", getattr(self, name))
        expect(self.threads is None or self.threads >= 1, "threads", "null or at least 1", self.threads)
        present = self.device == "cpu" or torch.cuda.is_available()
        expect(present, "device", "cpu, for there is no CUDA device here", self.device)
        found = self.reference_python is None or shutil.which(self.reference_python) is not None
        expect(found, "reference_python", "null or an interpreter", self.reference_python)

    @property
    def num_threads(self) -> int:
        """Return the threads of either side."""
        return self.threads or os.cpu_count() or 1
