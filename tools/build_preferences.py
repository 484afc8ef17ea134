"""Make preference pairs: python tools/build_preferences.py --trajectories trajectories.jsonl --output pairs.jsonl

Takes the trajectories of `lemma predict`, or the records of `lemma validate` and tools/regrade.py, whose coherence is
computed here. Pairs a right with a wrong completion, then, of the right ones, a coherent with a less coherent one, or
goes by reward alone (--pairs.order). Writes rows that the corpus `preferences` reads, and a report beside them
(pairs-report.json); prints counts and lengths. Needs no GPU.
"""

import sys
from pathlib import Path

from jsonargparse import ArgumentParser

from lemma.rewards.coherence import CoherenceArgs
from lemma.rollouts.preferences import PairingArgs, build_preferences, pairs_table
from lemma.types import InputError


def main() -> None:
    """Build, and say what was built."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", action="config", help="YAML file with any of these arguments")
    parser.add_argument("--trajectories", nargs="+", type=Path, required=True, help="files with a row a problem")
    parser.add_function_arguments(build_preferences, skip={"trajectories", "pairs", "coherence"}, as_group=False)
    parser.add_class_arguments(PairingArgs, "pairs")
    parser.add_class_arguments(CoherenceArgs, "coherence")
    arguments = parser.instantiate(parser.parse_args())
    del arguments["config"]
    report, warnings = build_preferences(**arguments)
    print("\n".join(["", *report.lines(), pairs_table(report)]))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"Pairs: {arguments['output']}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"build_preferences: error: {error}")
