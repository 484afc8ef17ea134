"""Notes what a trainer does in its process: time, memory, loss and what the model saw. Needs torch alone.

Nothing is computed while the clock runs: steps leave marks and references, which are read when training is over.
"""

import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Sequence = tuple[list[int], list[int]]
"""Ids of a prompt and of its completion."""


class Meter:
    """Notes the optimiser steps of one process.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._marks: list[Any] = []
        self._steps: list[tuple[Tensor, Any]] = []
        self._memory_before = 0

    def start(self) -> None:
        """Note the begin of the first step."""
        self._memory_before = peak_memory(self._cuda)
        self._marks = [self._now()]

    def end_step(self, loss: Tensor, batch: Any) -> None:
        """Note the end of a step.

        Args:
            loss: () the step's, detached, in nats: the mean over completion tokens, or over pairs.
            batch: What the model saw; kept until ``record`` reads it.
        """
        self._marks.append(self._now())
        self._steps.append((loss, batch))

    def record(self, examples: Callable[[Any], Iterable[list[Sequence]]], packages: tuple[str, ...]) -> dict[str, Any]:
        """Return what was noted, one entry a step in each list.

        Args:
            examples: Takes a batch apart, into the sequences of each example: one, or those of a pair, chosen first.
            packages: Names of packages whose versions belong to the record.
        """
        memory = peak_memory(self._cuda)
        steps = [list(examples(batch)) for _, batch in self._steps]
        batches = [list(itertools.chain(*step)) for step in steps]
        return {
            "seconds": self._seconds(),
            "tokens": [sum(len(prompt) + len(completion) for prompt, completion in batch) for batch in batches],
            "completion_tokens": [sum(len(completion) for _, completion in batch) for batch in batches],
            "losses": [float(loss) for loss, _ in self._steps],
            "examples": [sorted(map(_digest, step)) for step in steps],
            "prompts": [sorted(_digest(prompt) for prompt, _ in batch) for batch in batches],
            "peak_memory": memory,
            "memory_before_training": self._memory_before,
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if self._cuda else None,
            "versions": {"python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft", *packages)},
        }

    def batches(self) -> Iterator[Any]:
        """Yield what the model saw in each step."""
        return (batch for _, batch in self._steps)

    def _now(self) -> Any:
        """Return the time in seconds; on a GPU an event, for which nothing waits."""
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _seconds(self) -> list[float]:
        pairs = list(zip(self._marks[:-1], self._marks[1:], strict=True))
        if not self._cuda:
            return [end - begin for begin, end in pairs]
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) / 1000 for begin, end in pairs]


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record for the process that started this one."""
    path.write_text(json.dumps(record))


def peak_memory(cuda: bool) -> int:
    """Return the most memory in bytes that this process had so far: resident, or allocated on the GPU.

    ``ru_maxrss`` alone would be wrong: on Linux a process inherits that of the one that started it.

    Args:
        cuda: Whether the GPU's memory is asked for.
    """
    if cuda:
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def machine() -> dict[str, Any]:
    """Return what this machine is, and how busy it is."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "platform": platform.platform(),
    }


def _digest(ids: list[Sequence] | list[int]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]
