"""Benchmarks of Lemma against a reference that does the same work: python tools/bench.py sft --against trl

Each workload is one file under tools/benchmark/ and one line in WORKLOADS. The same rows, model, precision and steps go
through both sides in turn, each in a process of its own; sides that did not do the same work end the run with status 1.

`--against none` measures Lemma alone. `--sweep length` (or group_size, prompt_tokens, any option with a whole number)
runs a workload for several values, the reference for those up to `--reference_up_to`, and draws how the cost grows:

    python tools/bench.py grpo --against trl --sweep group_size --batch_size 64 --reference_up_to 16
"""

import logging
import sys
import warnings

from benchmark import data, dpo, generate, grade, grpo, sft
from benchmark.harness import Workload
from benchmark.runs import bench, sweep
from jsonargparse import ArgumentParser, set_parsing_settings

from lemma.types import InputError

WORKLOADS: dict[str, Workload] = {
    "sft": sft.WORKLOAD,
    "dpo": dpo.WORKLOAD,
    "grpo": grpo.WORKLOAD,
    "generate": generate.WORKLOAD,
    "grade": grade.WORKLOAD,
    "data": data.WORKLOAD,
}


def main() -> None:
    """Run the workload that the command line names; bad input and unequal work end it with one line and status 1."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(description=__doc__)
    subcommands = parser.add_subcommands()
    for name, workload in WORKLOADS.items():
        options = ArgumentParser(description=workload.args.__doc__)
        options.add_class_arguments(workload.args, as_group=False)
        subcommands.add_subcommand(name, options)
    chosen = parser.parse_args()
    workload = WORKLOADS[chosen.subcommand]
    _quieten()
    try:
        args = workload.args(**chosen[chosen.subcommand].as_dict())
        run = bench if args.sweep is None else sweep
        run(chosen.subcommand, workload, args)
    except InputError as error:
        sys.exit(f"bench: error: {error}")


def _quieten() -> None:
    """Drop bars and hints of libraries that would stand between the lines of progress."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing. is deprecated")


if __name__ == "__main__":
    main()
