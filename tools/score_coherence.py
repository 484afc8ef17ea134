"""Measure how well coherence tells right from wrong: python tools/score_coherence.py runs/sft/validate/records.jsonl

Takes an evaluation's records, or rows of any file (JSON Lines, JSON, CSV, Parquet) whose columns are named; rows of the
same problem are its trajectories, and several completion columns are several arms of the same problems:

    python tools/score_coherence.py outputs.jsonl --completions response --answer gold --labels recorded_correct

Prints, for s_end, s_path with its two parts, and their mean, for how many trajectories each is defined, and the area
under the ROC curve with its 95 % interval (bootstrap over problems): over all pairs of a right and a wrong one, and
over those of the same problem, which is what a preference pair is. With another model's outputs of the same problems,

    python tools/score_coherence.py runs/dpo/validate/records.jsonl --against runs/sft/validate/records.jsonl

the means of both, over problems, and the paired difference with its interval, too; problems are the same whose source,
id and text are. Needs no GPU.
"""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from tabulate import tabulate
from tqdm import tqdm

from lemma.answers import GRADER_VERSION, Graded, Grader
from lemma.answers.extract import FLEXIBLE_STRATEGIES
from lemma.evaluation.outputs import Columns, Outputs, read_outputs
from lemma.files import write_json
from lemma.metrics.paired import PairedMeans, paired_means
from lemma.metrics.separation import Separation, separation
from lemma.rewards.coherence import Coherence, CoherenceArgs, Trajectory, score_group
from lemma.types import GREEDY, InputError, Verdict

SCORES = {"s_end": "end", "s_path": "path", "  agreement": "agreement", "  truth": "truth", "s_wm": "mean"}
_COLUMNS = {
    "problem": ("problem", "column of the question"),
    "answer": ("answer", "column of the gold answer"),
    "id": (None, "column that says which rows are of one problem"),
    "source": (None, "column of the benchmark's name; by default the file's name"),
}
"""Name → default and help."""


@dataclass
class Sample:
    """A trajectory with what is known of it.

    Attributes:
        arm: Column that it comes from.
        text: The completion.
        label: Somebody else's judgement, or None.
        grade: Lemma's.
    """

    arm: str
    text: str
    label: bool | None
    grade: Graded

    def right(self, flexible: bool) -> bool | None:
        """Return the label or else the verdict; None where the grader ran out of time."""
        verdict = self.grade.flexible_verdict if flexible else self.grade.verdict
        if self.label is not None:
            return self.label
        return None if verdict is Verdict.TIMEOUT else verdict is Verdict.CORRECT

    def prediction(self, flexible: bool) -> str | None:
        """Return the answer that votes."""
        guessed = self.grade.strategy in FLEXIBLE_STRATEGIES
        return None if guessed and not flexible else self.grade.prediction


Key = tuple[str, ...]
"""Of a problem: source, id and text."""


@dataclass
class Scored:
    """The outputs of a file, graded and scored.

    Attributes:
        samples: Trajectories of each problem.
        scores: Their coherence.
        seconds: Time of grading and of scoring.
    """

    samples: dict[Key, list[Sample]]
    scores: dict[Key, list[Coherence]]
    seconds: dict[str, float]

    def means(self, attribute: str) -> dict[Key, float]:
        """Return the mean of a score over the trajectories of each problem; nan where none has it."""
        values = {key: [getattr(one, attribute) for one in group] for key, group in self.scores.items()}
        known = {key: [value for value in group if value is not None] for key, group in values.items()}
        return {key: math.fsum(group) / len(group) if group else math.nan for key, group in known.items()}


def run(arguments: Namespace) -> None:
    """Read, score and report.

    Raises:
        InputError: If something cannot be read, no problem has two trajectories, or the files share no problem.
    """
    with Grader(arguments.num_workers) as grader:
        scored = score_file(arguments.outputs, arguments, grader)
        other = score_file(arguments.against, arguments, grader) if arguments.against else None
    figures = report(scored, flexible=arguments.flexible, seed=arguments.seed)
    counts = {"problems": len(scored.samples), "trajectories": sum(map(len, scored.samples.values()))}
    for_many = 8000 * scored.seconds["score"] / counts["trajectories"]
    print(f"\n{table(figures)}")
    print(
        f"{counts['problems']} problems, {counts['trajectories']} trajectories. Graded in "
        f"{scored.seconds['grade']:.1f} s, scored in {scored.seconds['score']:.1f} s ({for_many:.1f} s for 1,000 "
        "problems x 8)."
    )
    differences = {} if other is None else compare(other, scored, seed=arguments.seed)
    if differences:
        print(f"\n{differences_table(differences)}")
    if arguments.json is not None:
        names = ("outputs", "against", "flexible")
        settings = {name: arguments[name] for name in names} | {"coherence": asdict(arguments.coherence)}
        compared = {name: one and asdict(one) for name, one in differences.items()}
        found = {"seconds": scored.seconds, "scores": figures, "differences": compared}
        write_json(Path(arguments.json), {"grader_version": GRADER_VERSION, **settings, **counts, **found})


def score_file(path: str, arguments: Namespace, grader: Grader) -> Scored:
    """Return the outputs of a file, graded and scored.

    Raises:
        InputError: If it cannot be read, or no problem has two trajectories.
    """
    columns = Columns(**{name: arguments[name] for name in ("completions", "labels", *_COLUMNS)})
    found = read_outputs(Path(path), columns, extract_gold=arguments.extract_gold, on_bad_row=arguments.on_bad_row)
    start = time.perf_counter()
    problems = graded_problems(found, grader)
    graded = time.perf_counter()
    scores = {
        key: score_problem(samples, grader, arguments.coherence, flexible=arguments.flexible)
        for key, samples in tqdm(problems.items(), desc="score", unit="problem")
    }
    return Scored(problems, scores, {"grade": graded - start, "score": time.perf_counter() - graded})


def graded_problems(found: Sequence[Outputs], grader: Grader) -> dict[Key, list[Sample]]:
    """Return the trajectories of each problem, those of several columns together; a greedy one beside samples is none.

    Raises:
        InputError: If no problem has two.
    """
    problems: dict[Key, list[Sample]] = {}
    total = sum(len(record.completions) for outputs in found for record in outputs.records)
    with tqdm(total=total, desc="grade", unit="completion") as bar:
        for outputs in found:
            for record, labels in zip(outputs.records, outputs.labels, strict=True):
                golds = [record.problem.answer] * len(record.completions)
                grades = grader.grade_texts(golds, record.completions)
                only_greedy = set(record.samples) == {GREEDY}
                rows = zip(record.samples, record.completions, labels, grades, strict=True)
                drawn = [Sample(outputs.name, *row) for number, *row in rows if only_greedy or number != GREEDY]
                problems.setdefault((*record.key, record.problem.problem), []).extend(drawn)
                bar.update(len(grades))
    if all(len(samples) < 2 for samples in problems.values()):
        raise InputError("no problem has two trajectories: nothing can be coherent with another.")
    return problems


def score_problem(samples: Sequence[Sample], grader: Grader, args: CoherenceArgs, *, flexible: bool) -> list[Coherence]:
    """Return the coherence of the trajectories of one problem; the gold answer has no part in it."""
    classes = grader.group([sample.prediction(flexible) for sample in samples])
    return score_group(
        [Trajectory(sample.text, label, sample.arm) for sample, label in zip(samples, classes, strict=True)], args
    )


def report(scored: Scored, *, flexible: bool, seed: int) -> dict[str, dict[str, Any]]:
    """Return for each score where it is defined, and how it separates."""
    rows = [
        (number, sample.right(flexible), coherence)
        for number, (key, samples) in enumerate(scored.samples.items())
        for sample, coherence in zip(samples, scored.scores[key], strict=True)
        if sample.right(flexible) is not None
    ]
    figures = {}
    for name, attribute in tqdm(SCORES.items(), desc="bootstrap", unit="score"):
        values = [(number, right, getattr(one, attribute)) for number, right, one in rows]
        known = [row for row in values if row[2] is not None]
        numbers, labels, defined = zip(*known, strict=True) if known else ((), (), ())
        figures[name.strip()] = {
            "defined": len(known),
            "of": len(rows),
            "right": sum(labels),
            "auroc": asdict(separation(defined, labels, numbers, within=False, seed=seed)),
            "auroc_within": asdict(separation(defined, labels, numbers, within=True, seed=seed)),
        }
    return figures


def compare(base: Scored, new: Scored, *, seed: int) -> dict[str, PairedMeans | None]:
    """Return the means of each score in two files, and their difference.

    Raises:
        InputError: If they share no problem.
    """
    if not base.scores.keys() & new.scores.keys():
        raise InputError("--against: the two files have no problem in common.")
    return {
        name.strip(): paired_means(base.means(attribute), new.means(attribute), seed=seed)
        for name, attribute in SCORES.items()
    }


def differences_table(differences: Mapping[str, PairedMeans | None]) -> str:
    """Return a comparison as a table for a terminal."""
    rows = []
    for name in SCORES:
        one = differences[name.strip()]
        cells = ["0", "-", "-", "-"]
        if one is not None:
            gain = f"{one.difference:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
            cells = [f"{one.num_problems:,}", f"{one.before:.4f}", f"{one.after:.4f}", gain]
        rows.append([name, *cells])
    headers = ["score", "problems", "mean against", "mean here", "difference [95 %]"]
    return tabulate(rows, headers, disable_numparse=True, preserve_whitespace=True)


def table(figures: dict[str, dict[str, Any]]) -> str:
    """Return the report as a table for a terminal."""
    rows = []
    for name in SCORES:
        one = figures[name.strip()]
        areas = [_interval(one[key]) for key in ("auroc", "auroc_within")]
        rows.append([name, f"{one['defined']:,} of {one['of']:,}", f"{one['right']:,}", *areas])
    headers = ["score", "defined for", "right", "AUROC [95 %]", "within a problem [95 %]"]
    return tabulate(rows, headers, disable_numparse=True, preserve_whitespace=True)


def _interval(area: dict[str, float | None]) -> str:
    one = Separation(**area)
    if one.value is None:
        return "-"
    return f"{one.value:.3f}" + ("" if one.low is None else f" [{one.low:.3f}, {one.high:.3f}]")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("outputs", help="file of outputs, or a records.jsonl, whose columns need not be named")
    parser.add_argument("--against", default=None, help="another such file of the same problems, to compare with")
    parser.add_argument("--completions", nargs="+", default=["completion"], help="columns: a text or a list of texts")
    parser.add_argument(
        "--labels", nargs="*", default=[], help="columns of true, false or null, one a completion column"
    )
    for name, (default, text) in _COLUMNS.items():
        parser.add_argument(f"--{name}", default=default, help=text)
    parser.add_argument("--extract_gold", action="store_true", help="the gold stands at the end of a worked solution")
    parser.add_argument("--on_bad_row", choices=["error", "skip"], default="error", help="what an unreadable row does")
    parser.add_argument("--flexible", action="store_true", help="the last number or formula is an answer, too")
    parser.add_class_arguments(CoherenceArgs, "coherence")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--num_workers", type=int, default=1, help="processes that compare answers symbolically")
    parser.add_argument("--json", default=None, help="file to write the figures into")
    return parser


if __name__ == "__main__":
    try:
        run((parser := _parser()).instantiate_classes(parser.parse_args()))
    except InputError as error:
        sys.exit(f"score_coherence: error: {error}")
