"""Notes what a side does in its process: time, memory, loss and what the model saw. Needs torch alone.

Nothing is computed while the clock runs: steps leave marks and references, which are read when the last is over.
"""

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmark.process import facts, resident_memory

Sequence = tuple[list[int], list[int]]
"""Ids of a prompt and of its completion."""


class Meter:
    """Notes the steps of one process.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._marks: list[Any] = []
        self._batches: list[Any] = []
        self._losses: list[Tensor] = []
        self._memory_before = 0

    def start(self) -> None:
        """Note the begin of the first step."""
        self._memory_before = self._peak_memory()
        self._marks = [self._now()]

    def end_step(self, batch: Any, loss: Tensor | None = None) -> None:
        """Note the end of a step.

        Args:
            batch: What the model saw, or drew; kept until ``record`` reads it.
            loss: () the step's, detached, in nats: the mean over completion tokens, or over pairs; None where nothing
                is trained.
        """
        self._marks.append(self._now())
        self._batches.append(batch)
        if loss is not None:
            self._losses.append(loss)

    def record(self, examples: Callable[[Any], Iterable[list[Sequence]]], packages: tuple[str, ...]) -> dict[str, Any]:
        """Return what was noted, one entry a step in each list.

        Args:
            examples: Takes a batch apart, into the sequences of each example: one, or those of a pair, chosen first.
            packages: Names of packages whose versions belong to the record.
        """
        memory = self._peak_memory()  # before what follows takes some
        return (
            facts(("torch", "transformers", "peft", *packages))
            | counts([list(examples(batch)) for batch in self._batches])
            | {
                "seconds": self._seconds(),
                "losses": [float(loss) for loss in self._losses],
                "peak_memory": memory,
                "memory_before_training": self._memory_before,
                "threads": torch.get_num_threads(),
                "gpu": torch.cuda.get_device_name() if self._cuda else None,
            }
        )

    def batches(self) -> Iterator[Any]:
        """Yield what the model saw in each step."""
        return iter(self._batches)

    def _peak_memory(self) -> int:
        return torch.cuda.max_memory_allocated() if self._cuda else resident_memory()

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


def counts(steps: Iterable[Iterable[list[Sequence]]]) -> dict[str, list[Any]]:
    """Return what is compared of each step: how many examples and tokens, and which.

    Args:
        steps: Examples of each.
    """
    found: dict[str, list[Any]] = {
        name: [] for name in ("num_examples", "tokens", "completion_tokens", "examples", "prompts")
    }
    for step in steps:
        step = list(step)
        sequences = list(itertools.chain(*step))
        found["num_examples"].append(len(step))
        found["tokens"].append(sum(len(prompt) + len(completion) for prompt, completion in sequences))
        found["completion_tokens"].append(sum(len(completion) for _, completion in sequences))
        found["examples"].append(sorted(map(digest, step)))
        found["prompts"].append(sorted(digest(prompt) for prompt, _ in sequences))
    return found


def digest(ids: list[Sequence] | list[int]) -> str:
    """Return a short hash of token ids."""
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]
