"""What both sides of ``grade`` do alike: give verdicts on batches, by the clock. Needs no torch."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmark.process import facts, write_record

Pair = tuple[str, str]
"""A gold answer and the text of a completion."""


def measure(grade: Callable[[list[Pair]], list[bool]], packages: tuple[str, ...]) -> None:
    """Grade the batches that the command line names (BATCHES RUN_FOLDER), and write the record.

    Args:
        grade: Returns whether each completion is right.
        packages: Names of packages whose versions belong to the record.
    """
    batches = [[tuple(pair) for pair in json.loads(line)] for line in Path(sys.argv[1]).read_text().splitlines()]
    seconds, verdicts = [], []
    for batch in batches:
        begin = time.perf_counter()
        found = grade(batch)
        seconds.append(time.perf_counter() - begin)
        verdicts.append(found)
    counts = {"num_answers": list(map(len, verdicts)), "seconds": seconds, "verdicts": verdicts}
    write_record(Path(sys.argv[2]) / "record.json", facts(packages) | counts)
