"""Grade existing model outputs again: python tools/regrade.py runs/sft/validate/records.jsonl --output runs/regraded

Takes an evaluation's records, or rows of any file (JSON Lines, JSON, CSV, Parquet) whose columns are named; a dotted
path leads into an object, and several completion columns are several models:

    python tools/regrade.py outputs.jsonl --completions response --answer gold --labels is_right --output runs/theirs

Writes records.jsonl and results.json as `lemma validate` does (tools/compare_runs.py reads them), and the completions
on which a label and a verdict disagree as disagreements.jsonl. Needs no GPU, and never changes its input.
"""

import json
import sys
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from tqdm import tqdm

from lemma.answers import Grader
from lemma.answers.conventions import Conventions
from lemma.evaluation.outputs import Columns, Outputs, cut_samples, read_outputs
from lemma.evaluation.regrading import regrade
from lemma.evaluation.tables import results_table
from lemma.files import keep_previous, write_json, write_jsonl
from lemma.types import InputError

FILES = ("records.jsonl", "results.json", "disagreements.jsonl")
CARRIED = ("sampling", "seed", "prompt", "template_hash")


def run(arguments: Namespace) -> None:
    """Grade and write.

    Raises:
        InputError: If something cannot be read, or the output would stand where the input does.
    """
    path, folder = Path(arguments.outputs), Path(arguments.output)
    columns = Columns(**{name: arguments[name] for name in Columns.__dataclass_fields__})
    found = read_outputs(path, columns, extract_gold=arguments.extract_gold, on_bad_row=arguments.on_bad_row)
    found = [cut_samples(outputs, arguments.num_samples) for outputs in found]
    conventions = Conventions(arguments.ordered_lists, arguments.units)
    with Grader(arguments.num_workers, arguments.timeout, conventions) as grader:
        for outputs in found:
            into = folder if len(found) == 1 else folder / outputs.name.replace("/", "_")
            if any((into / name).resolve() == path.resolve() for name in FILES):
                raise InputError(f"--output: {into} is where the input stands; choose another folder.")
            _regrade_into(into, outputs, grader, path, arguments.ks)


def _regrade_into(folder: Path, outputs: Outputs, grader: Grader, path: Path, ks: list[int]) -> None:
    for reason in outputs.bad_rows:
        print(f"skipped {reason}")
    settings = {**_known_settings(path), "regraded_from": str(path), "column": outputs.name}
    total = sum(len(record.completions) for record in outputs.records)
    with tqdm(total=total, desc=outputs.name, unit="completion") as bar:
        evaluation, disagreements = regrade(
            outputs, grader, ks=ks, seed=settings["seed"] or 0, settings=settings, progress=bar.update
        )
    for name in FILES:
        keep_previous(folder / name)
    write_jsonl(folder / "records.jsonl", (record.as_json() for record in evaluation.records))
    write_json(folder / "results.json", evaluation.results)
    if disagreements:
        write_jsonl(folder / "disagreements.jsonl", disagreements)
    print(f"\n{results_table(evaluation)}")
    if counts := evaluation.results["label_agreement"]:
        print(_agreement(counts))
    print(f"Records and results: {folder}")


def _agreement(counts: dict[str, int]) -> str:
    shares = [
        f"{name} {counts[name]} ({100 * counts[name] / counts['labels']:.2f} %)" for name in ("strict", "flexible")
    ]
    return (
        f"Agreement with {counts['labels']} labels: {', '.join(shares)}. Strict verdicts: "
        f"{counts['only_we_say_correct']} correct only here, {counts['only_label_says_correct']} only by the label."
    )


def _known_settings(path: Path) -> dict[str, Any]:
    """Return how a records file was made, from the results beside it; None for what nobody knows."""
    beside = path.with_name("results.json")
    results = json.loads(beside.read_text("utf-8")) if path.name == "records.jsonl" and beside.is_file() else {}
    return {name: results.get(name) for name in CARRIED}


def _parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("outputs", help="file of outputs, or a records.jsonl, whose columns need not be named")
    parser.add_argument(
        "--output", required=True, help="folder to write into; with several models, a folder in it each"
    )
    parser.add_argument("--completions", nargs="+", default=["completion"], help="columns: a text or a list of texts")
    parser.add_argument("--problem", default="problem", help="column of the question")
    parser.add_argument("--answer", default="answer", help="column of the gold answer")
    parser.add_argument("--extract_gold", action="store_true", help="the gold stands at the end of a worked solution")
    parser.add_argument(
        "--labels", nargs="*", default=[], help="columns of true, false or null, one a completion column"
    )
    parser.add_argument("--id", default=None, help="column that says which rows are of one problem")
    parser.add_argument("--source", default=None, help="column of the benchmark's name; by default the file's name")
    parser.add_argument("--level", default=None, help="column of the difficulty")
    parser.add_argument("--subject", default=None, help="column of the topic")
    parser.add_argument("--num_samples", type=int, default=None, help="take the first so many samples of each problem")
    parser.add_argument(
        "--ks", nargs="+", type=int, default=[1, 2, 4, 8], help="k of pass@k and maj@k, where they apply"
    )
    parser.add_argument("--on_bad_row", choices=["error", "skip"], default="error", help="what an unreadable row does")
    parser.add_argument("--num_workers", type=int, default=1, help="processes that compare answers symbolically")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds after which a comparison is stopped")
    parser.add_argument("--ordered_lists", action="store_true", help="a list of answers must have the gold's order")
    parser.add_argument("--units", choices=["optional", "required", "ignored"], default="optional")
    return parser


if __name__ == "__main__":
    try:
        run(_parser().parse_args())
    except InputError as error:
        sys.exit(f"regrade: error: {error}")
