"""What both sides of ``data`` do alike: start, cold and then warm, and go through an epoch by the clock."""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmark.meter import Sequence, counts
from benchmark.process import facts, write_record


def read_job() -> dict[str, Any]:
    """Return the job that the command line names: JOB RUN_FOLDER."""
    return json.loads(Path(sys.argv[1]).read_text())


def measure(
    num_steps: int,
    start: Callable[[Path], Iterator[Any]],
    sequences: Callable[[Any], Iterable[Sequence]],
    packages: tuple[str, ...],
) -> None:
    """Start as often as asked, each time cold and then warm, and write the record.

    Only the making of batches is timed, not what is counted and compared of them.

    Args:
        num_steps: How often.
        start: Takes a folder for the cache, makes ready, and yields the batches of an epoch.
        sequences: Takes a batch apart.
        packages: Names of packages whose versions belong to the record.
    """
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    found: dict[str, list[Any]] = {"cold": [], "warm": []}
    for _ in range(num_steps):
        with tempfile.TemporaryDirectory(dir=sys.argv[2]) as cache:
            for name in seconds:
                elapsed: list[float] = []
                batches = _timed(start(Path(cache)), elapsed)
                found[name].append(counts([[[each] for batch in batches for each in sequences(batch)]]))
                seconds[name].append(sum(elapsed))
    starts = {
        name: {key: [step[key][0] for step in steps] for key in steps[0]} | {"seconds": seconds[name]}
        for name, steps in found.items()
    }
    warm = {"warm_seconds": seconds["warm"]}
    write_record(Path(sys.argv[2]) / "record.json", facts(packages) | starts["cold"] | warm | starts)


def _timed(batches: Iterator[Any], elapsed: list[float]) -> Iterator[Any]:
    """Yield batches, and note how long each took."""
    while True:
        begin = time.perf_counter()
        batch = next(batches, None)
        elapsed.append(time.perf_counter() - begin)
        if batch is None:
            return
        yield batch
