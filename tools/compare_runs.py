"""Compare evaluations of runs: python tools/compare_runs.py runs/base runs/sft

Prints every figure with its 95 % interval, and each run's gain over the first with a paired interval.
"""

import itertools
import sys
from pathlib import Path

from jsonargparse import ArgumentParser

from lemma.evaluation import comparison_table, load_run, paired_gain
from lemma.types import InputError


def compare_runs(folders: list[Path], *, by_level: bool) -> None:
    """Print a table of all runs, and the gain of each over the first.

    Args:
        folders: Run directories, or folders with records.jsonl and results.json.
        by_level: Show the figures of each level too.

    Raises:
        InputError: If an evaluation cannot be read, or was made on other problems than the first.
    """
    first, *others = runs = [load_run(folder) for folder in folders]
    print(comparison_table(runs, by_level=by_level))
    print("In per cent [95 % interval]; accuracy is of greedy decoding, pass@k and maj@k of k sampled completions.\n")
    for run in others:
        for source, metric in itertools.product(run.results["benchmarks"], ("accuracy", "pass@1")):
            if any(key[0] == source for key in run.values[metric]):
                gain = paired_gain(first, run, source, metric=metric)
                interval = f"paired 95 % interval [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
                print(
                    f"{run.name} over {first.name} on {source}: {metric} {100 * gain.value:+.1f} points, {interval}, "
                    f"{gain.num_problems} problems"
                )


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="run directories; the first is the one to improve on")
    parser.add_argument("--by_level", action="store_true", help="show the figures of each level too")
    arguments = parser.parse_args()
    try:
        compare_runs([Path(run) for run in arguments.runs], by_level=arguments.by_level)
    except InputError as error:
        sys.exit(f"compare_runs: error: {error}")
