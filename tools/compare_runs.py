"""Compare evaluations of runs: python tools/compare_runs.py runs/base runs/sft

Prints every figure with its 95 % interval and its gain over the first run, paired tests of the gains (McNemar's for
accuracy, bootstrap over problems for pass@k, Holm's correction for their number), and the problems that flipped. Writes
the same, with levels and subjects, as comparison.md, comparison.json and comparison.png.
"""

import sys
from pathlib import Path

from jsonargparse import ArgumentParser

from lemma.evaluation import differences, flips, load_run, paired_gains
from lemma.evaluation.comparison_report import (
    CAPTION,
    comparison_figure,
    comparison_json,
    comparison_markdown,
    comparison_table,
    flips_list,
    gains_table,
)
from lemma.files import keep_previous, write_atomic, write_json, write_text
from lemma.types import InputError

FILES = ("comparison.md", "comparison.json", "comparison.png")


def compare_runs(folders: list[Path], output: Path, *, by_part: bool, flexible: bool, max_flips: int) -> None:
    """Print and write a comparison of all runs with the first.

    Args:
        folders: Run directories, or folders with records.jsonl and results.json.
        output: Folder to write into.
        by_part: Print the figures of each level and subject too.
        flexible: Test and list by what flexible extraction finds.
        max_flips: Flipped problems shown in each direction.

    Raises:
        InputError: If an evaluation cannot be read.
    """
    runs = [load_run(folder) for folder in folders]
    warned, gains, flipped = differences(runs), paired_gains(runs, flexible=flexible), flips(runs, flexible=flexible)
    for warning in warned:
        print(f"Warning: {warning}")
    print(f"{comparison_table(runs, by_part=by_part)}\n{CAPTION}\n")
    if gains:
        print(f"{gains_table(gains)}\n")
    if flipped and max_flips:
        print(f"{flips_list(flipped, max_shown=max_flips)}\n")
    for name in FILES:
        keep_previous(output / name)
    markdown = comparison_markdown(runs, gains, flipped, warned, max_shown=max_flips)
    write_text(output / "comparison.md", markdown)
    write_json(output / "comparison.json", comparison_json(runs, gains, flipped, warned))
    figure = comparison_figure(runs, flexible=flexible)
    write_atomic(output / "comparison.png", lambda stream: figure.savefig(stream, format="png", dpi=150))
    print(f"Written: {', '.join(str(output / name) for name in FILES)}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="run directories; the first is the one to improve on")
    parser.add_argument("--output", default="runs/comparison", help="folder to write into")
    parser.add_argument("--by_part", action="store_true", help="print the figures of each level and subject too")
    parser.add_argument("--flexible", action="store_true", help="test and list by what flexible extraction finds")
    parser.add_argument("--max_flips", type=int, default=5, help="flipped problems shown in each direction")
    arguments = parser.parse_args()
    try:
        compare_runs(
            [Path(run) for run in arguments.runs],
            Path(arguments.output),
            by_part=arguments.by_part,
            flexible=arguments.flexible,
            max_flips=arguments.max_flips,
        )
    except InputError as error:
        sys.exit(f"compare_runs: error: {error}")
