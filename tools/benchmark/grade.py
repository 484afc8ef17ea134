"""Verdicts on completions: Lemma's grader against Math-Verify as it ships, both from the text on.

Math-Verify is a dependency of Lemma, so the reference runs in Lemma's own environment, in a process of its own. A gold
is an answer, which Math-Verify gets in dollar signs as its README has it; Lemma's verdict is the flexible one, for
Math-Verify takes an answer wherever it finds one. Neither side sees the labels. Lemma's worker process is
started before the clock, as Math-Verify has loaded SymPy by then.
"""

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from benchmark.harness import Prepared, Run, Unit, Workload
from benchmark.options import BenchArgs, expect
from benchmark.problems import mistaken
from lemma.corpora import arithmetic
from lemma.evaluation.outputs import Columns, read_outputs
from lemma.files import write_jsonl, write_text
from lemma.prompts import PromptArgs, render_completion
from lemma.types import InputError


@dataclass(frozen=True)
class GradeBenchArgs(BenchArgs):
    """Grading of completions: answers per second and peak memory of Lemma and of Math-Verify."""

    against: Literal["math_verify", "none"] = "math_verify"
    """The reference; none runs Lemma alone."""
    steps: int = 8
    """Batches that are measured, at least 1."""
    warmup: int = 1
    """Batches before those, compared but not measured, at least 1."""
    batch_size: int = 500
    """Completions that are graded at a time, at least 1."""
    rows: str | None = None
    """File of outputs, as tools/regrade.py reads it; null is arithmetic that Lemma generates, half of it wrong."""
    completions: list[str] = field(default_factory=lambda: ["completion"])
    """Columns of the file: a text or a list of texts; a dotted path leads into an object."""
    problem: str = "problem"
    """Column of the question."""
    answer: str = "answer"
    """Column of the gold answer."""
    labels: list[str] = field(default_factory=list)
    """Columns that say whether a completion is right, none or one a completion column."""
    extract_gold: bool = False
    """Whether the gold stands at the end of a worked solution."""
    agreement: float = 0.99
    """Share of completions, in (0, 1], on which the sides have to agree, and each side with the labels if there are
    any."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names option, rule and value.
        """
        super().__post_init__()
        self.expect_at_least(batch_size=1)
        expect(0 < self.agreement <= 1, "agreement", "a value in (0, 1]", self.agreement)


class Answer(NamedTuple):
    """A completion to be graded, and whether it is right if somebody says so."""

    gold: str
    text: str
    label: bool | None


def prepare(args: GradeBenchArgs, folder: Path) -> Prepared:
    """Write the completions, a batch a line, and their labels.

    Raises:
        InputError: If the rows cannot be read or do not suffice.
    """
    num_rows = args.num_steps * args.batch_size
    answers = list(generated_answers(num_rows, seed=args.seed) if args.rows is None else _read_answers(args))
    if num_rows > len(answers):
        raise InputError(
            f"--steps: warmup + steps = {args.num_steps} batches take {num_rows} rows, but there are {len(answers)}."
        )
    random.Random(args.seed).shuffle(answers)
    batches = [answers[begin : begin + args.batch_size] for begin in range(0, num_rows, args.batch_size)]
    write_jsonl(folder / "batches.jsonl", ([[each.gold, each.text] for each in batch] for batch in batches))
    write_text(folder / "labels.json", json.dumps([[each.label for each in batch] for batch in batches]))
    return Prepared.of_modules(
        "grade_lemma",
        "grade_math_verify",
        folder / "batches.jsonl",
        facts={"rows": num_rows, "different_rows": len({(each.gold, each.text) for each in answers[:num_rows]})},
    )


def generated_answers(number: int, *, seed: int) -> Iterator[Answer]:
    """Yield completions of arithmetic, every second one wrong.

    Args:
        number: How many.
        seed: Of problems and mistakes.
    """
    rng = random.Random(seed)
    for place, problem in enumerate(arithmetic.generate("train", num_problems=number, seed=seed)):
        right = place % 2 == 0
        written = problem if right else mistaken(problem, rng)
        yield Answer(problem.answer, render_completion(written, PromptArgs()), right)


def _read_answers(args: GradeBenchArgs) -> Iterator[Answer]:
    columns = Columns(args.completions, args.problem, args.answer, args.labels)
    for outputs in read_outputs(Path(args.rows), columns, extract_gold=args.extract_gold):
        for record, labels in zip(outputs.records, outputs.labels, strict=True):
            for text, label in zip(record.completions, labels, strict=True):
                yield Answer(record.problem.answer, text, label)


def check(args: GradeBenchArgs, folder: Path, lemma: Run, reference: Run) -> dict[str, float]:
    """Return the shares on which the sides disagree, with each other and with the labels.

    Raises:
        InputError: If a side has not a verdict for every row, or the shares are too large.
    """
    labels = json.loads((folder / "labels.json").read_text())
    sides = {"Lemma": lemma.record["verdicts"], "the reference": reference.record["verdicts"]}
    for side, verdicts in sides.items():
        if (given := list(map(len, verdicts))) != (wanted := list(map(len, labels))):
            raise InputError(
                f"the sides did different work: {side} has {sum(given)} verdicts in {len(given)} batches, instead of "
                f"{sum(wanted)} in {len(wanted)}."
            )
    mine, theirs, truth = (list(itertools.chain(*each)) for each in (*sides.values(), labels))
    pairs = {"the sides": (mine, theirs), "Lemma and labels": (mine, truth), "reference and labels": (theirs, truth)}
    shares = {}
    for names, (ours, others) in pairs.items():
        known = [one == other for one, other in zip(ours, others, strict=True) if other is not None]
        if not known:
            continue
        agreement = sum(known) / len(known)
        if agreement < args.agreement:
            raise InputError(
                f"the sides did different work: {names} agree on {agreement:.2%} of {len(known)} completions, less "
                f"than --agreement {args.agreement:.2%}. (Where --answer is a whole solution, --extract_gold true "
                "takes the answer out of it.)"
            )
        shares[f"{names} disagree on"] = 1 - agreement
    return shares


WORKLOAD = Workload(GradeBenchArgs, prepare, check, {"answers": Unit("num_answers")})
