"""Compare evaluations of runs: python tools/compare_runs.py runs/base runs/sft

Prints every figure with its 95 % interval, and each run's gain in pass@1 over the first with a paired interval.
"""

import sys
from pathlib import Path

from jsonargparse import auto_cli

from lemma.evaluation import comparison_table, load_run, paired_gain
from lemma.types import InputError


def compare_runs(runs: list[Path], by_level: bool = False) -> None:
    """Compare evaluations.

    Args:
        runs: Run directories, or folders with records.jsonl and results.json; the first is the one to improve on.
        by_level: Show the figures of each level too.
    """
    loaded = [load_run(folder) for folder in runs]
    print(comparison_table(loaded, by_level=by_level))
    first, *others = loaded
    for run in others:
        for source in run.results["benchmarks"]:
            gain = paired_gain(first, run, source)
            print(
                f"{run.name} over {first.name} on {source}: pass@1 {100 * gain.value:+.1f} points, "
                f"paired 95 % interval [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}], {gain.num_problems} problems"
            )


if __name__ == "__main__":
    try:
        auto_cli(compare_runs, as_positional=True)
    except InputError as error:
        sys.exit(f"compare_runs: error: {error}")
