"""What both sides of ``generate`` do alike: draw for the prompts of each step, with a meter."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.meter import Meter
from benchmark.process import write_record

Ids = list[int]


@dataclass(frozen=True)
class Job:
    """What ``generate.prepare`` wrote."""

    base: str
    adapter: str
    prompts: list[list[Ids]]
    """Of each step."""
    pad_id: int
    stop_ids: list[int]
    group_size: int
    new_tokens: int
    device: str
    precision: str
    seed: int

    @classmethod
    def read(cls) -> "Job":
        """Return the job that the command line names: JOB RUN_FOLDER."""
        return cls(**json.loads(Path(sys.argv[1]).read_text()))

    def measure(
        self, sample: Callable[[list[Ids], int], list[list[Ids]]], greedy: list[Ids], packages: tuple[str, ...] = ()
    ) -> None:
        """Draw for the prompts of every step, and write the record.

        Args:
            sample: (prompts, number of the step) → the group of each prompt.
            greedy: What the side wrote greedily for the first step's prompts, for the record.
            packages: Names of packages whose versions belong to it.
        """
        meter = Meter(self.device)
        meter.start()
        for step, prompts in enumerate(self.prompts):
            groups = sample(prompts, step)
            meter.end_step([[(p, ids)] for p, group in zip(prompts, groups, strict=True) for ids in group])
        write_record(Path(sys.argv[2]) / "record.json", meter.record(iter, packages) | {"greedy": greedy})
