"""Measure the grader beside Math-Verify on labelled real data: python tools/check_grader.py --data ../shared/data

Takes the grading cases (`grading/cases.jsonl`) and real model outputs (`outputs/*.jsonl`, OpenAI's GSM8K solutions) in
a folder. Lemma extracts and grades; Math-Verify does as its README says, golds and bare predictions in dollar signs,
with its own time limits. Both take turns on one core, and each is timed on the whole of what it does.

Each set is judged in one mode (`strict` or `flexible`); every row on which label and verdict disagree there counts, and
is listed with the reason that check_grader.yaml gives for it, if any.
"""

import hashlib
import importlib
import json
import logging
import os
import pkgutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from tabulate import tabulate
from tqdm import tqdm

import lemma.answers
from lemma.answers import GRADER_VERSION, Graded, Grader, extract_answer
from lemma.files import write_json
from lemma.types import InputError, Verdict

REASONS = Path(__file__).with_suffix(".yaml")
_TURN = 256  # rows that one side grades before the other does
_SHOWN = 60  # characters of an answer
_HEADERS = [
    "set", "rows", "judged", "agree", "strict", "flexible", "FP", "FN", "timeouts",
    "M-V agree", "M-V FP", "answers/s", "M-V", "ratio", "median ms", "p99 ms", "M-V p99",
]  # fmt: skip


@dataclass
class Row:
    """What is to be graded, and what others say of it.

    Attributes:
        gold: The right answer.
        text: Model text, or the bare prediction.
        label: Whether it is right, or None where nobody says.
        bare: Whether ``text`` is the prediction itself, not to be extracted.
    """

    gold: str
    text: str
    label: bool | None
    bare: bool = False

    @cached_property
    def answer(self) -> str:
        """The gold answer: where the gold is a worked solution, what it marks as its answer."""
        found = extract_answer(self.gold)
        return found.answer if found and found.strict else self.gold.strip()


@dataclass
class Measured:
    """What came of one set.

    Attributes:
        name: Of the set.
        mode: ``strict`` or ``flexible``, by which it is judged.
        rows: What was graded.
        grades: Lemma's, in order.
        reference: Whether Math-Verify says correct, in order.
        seconds: Of Lemma in turns, of Lemma one by one, of Math-Verify one by one.
    """

    name: str
    mode: str
    rows: list[Row]
    grades: list[Graded] = field(default_factory=list)
    reference: list[bool] = field(default_factory=list)
    bulk_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list)
    reference_seconds: list[float] = field(default_factory=list)

    def correct(self, mode: str) -> list[bool]:
        """Return Lemma's decisions in a mode; a bare prediction needs no extraction and has one verdict only."""
        return [(g.flexible_verdict if mode == "flexible" else g.verdict) == Verdict.CORRECT for g in self.grades]


def check_grader(data: Path, json_file: Path | None, *, only: Sequence[str] = (), limit: int | None = None) -> None:
    """Print the table and the disagreements; write them.

    Raises:
        InputError: If there is no set to measure.
    """
    sets = [one for one in _read_sets(data) if not only or one.name in only]
    if not sets:
        raise InputError(f"--data: no grading cases and no outputs in {data}.")
    for one in sets:
        one.rows = one.rows[:limit]
    _use_one_core()
    correct = _math_verify()
    with Grader() as grader:
        grader.grade([(r"\int_0^1 x dx", "1/2")])  # starts the worker
        with tqdm(total=2 * sum(len(one.rows) for one in sets), unit="row") as bar:
            for one in sets:
                bar.set_description(one.name)
                _measure(one, grader, correct, bar.update)
    summaries = [summary(one) for one in [*sets, *_all_outputs(sets)]]
    print(
        f"Grader version {GRADER_VERSION}\n{tabulate([_cells(s) for s in summaries], _HEADERS, disable_numparse=True)}"
    )
    reasons = yaml.safe_load(REASONS.read_text("utf-8")) if REASONS.exists() else {}
    listed = [each for one in sets for each in disagreements(one, reasons or {})]
    print(f"\n{len(listed)} disagreements with labels:")
    for each in listed:
        print(
            f"- {each['id']}: gold {_short(each['gold'])}, prediction {_short(each['prediction'])} is "
            f"{each['verdict']}, labelled {'correct' if each['label'] else 'wrong'}: {each['reason']}"
        )
    if json_file is not None:
        write_json(json_file, {"grader_version": GRADER_VERSION, "sets": summaries, "disagreements": listed})


def summary(one: Measured) -> dict[str, Any]:
    """Return the figures of a set; shares are of the rows that have a label."""
    labelled = [i for i, row in enumerate(one.rows) if row.label is not None]
    labels = [one.rows[i].label for i in labelled]
    modes = {mode: [one.correct(mode)[i] for i in labelled] for mode in ("strict", "flexible")}
    ours, theirs = modes[one.mode], [one.reference[i] for i in labelled]
    num_rows, reference_seconds = len(one.rows), sum(one.reference_seconds)
    return {
        "set": one.name,
        "rows": num_rows,
        "labels": len(labels),
        "judged": one.mode,
        "agreement": _share(ours, labels),
        "strict_agreement": _share(modes["strict"], labels),
        "flexible_agreement": _share(modes["flexible"], labels),
        "false_positives": sum(o and not label for o, label in zip(ours, labels, strict=True)),
        "false_negatives": sum(label and not o for o, label in zip(ours, labels, strict=True)),
        "timeouts": sum(g.flexible_verdict == Verdict.TIMEOUT for g in one.grades),
        "reference_agreement": _share(theirs, labels),
        "reference_false_positives": sum(t and not label for t, label in zip(theirs, labels, strict=True)),
        "per_second": num_rows / one.bulk_seconds,
        "reference_per_second": num_rows / reference_seconds,
        "ratio": reference_seconds / one.bulk_seconds,
        "median_ms": 1e3 * statistics.median(one.seconds),
        "p99_ms": 1e3 * _p99(one.seconds),
        "reference_p99_ms": 1e3 * _p99(one.reference_seconds),
    }


def disagreements(one: Measured, reasons: dict[str, str]) -> list[dict[str, Any]]:
    """Return every row whose label and verdict disagree in the set's mode, with the reason on file or "unexplained"."""
    found = []
    for number, (row, grade, right) in enumerate(zip(one.rows, one.grades, one.correct(one.mode), strict=True), 1):
        if row.label is None or right == row.label:
            continue
        digest = hashlib.sha256(f"{row.gold}\0{row.text}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
        key = f"{one.name}:{number}:{digest}"
        verdict = grade.flexible_verdict if one.mode == "flexible" else grade.verdict
        found.append(
            {"id": key, "gold": row.gold, "prediction": grade.prediction, "verdict": str(verdict), "label": row.label,
             "reason": reasons.get(key, "unexplained")}
        )  # fmt: skip
    return found


def _read_sets(data: Path) -> list[Measured]:
    sets = []
    if (path := data / "grading" / "cases.jsonl").exists():
        rows = [Row(r["gold"], r["prediction"], r["expected"], r["kind"] == "equiv") for r in _jsonl(path)]
        sets.append(Measured("cases", "flexible", rows))
    for path in sorted((data / "outputs").glob("*.jsonl")):
        rows = [Row(r["gold"], r["response"], r["recorded_correct"]) for r in _jsonl(path)]
        sets.append(Measured(path.stem, "strict", rows))
    if (path := data / "gsm8k" / "example_model_solutions.jsonl").exists():
        rows = [
            Row(r["ground_truth"].split("A: ")[-1].strip(), solution["solution"], solution["is_correct"])
            for r in _jsonl(path)
            for solution in r.values()
            if isinstance(solution, dict)
        ]
        sets.append(Measured("openai_gsm8k", "flexible", rows))  # its texts mark no answer
    return sets


def _jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def _all_outputs(sets: list[Measured]) -> list[Measured]:
    """Return the real outputs as one set, for the speed; the agreement is flexible."""
    outputs = [one for one in sets if one.name != "cases"]
    if len(outputs) < 2:
        return []
    total = Measured("all outputs", "flexible", [])
    for one in outputs:
        for name in ("rows", "grades", "reference", "seconds", "reference_seconds"):
            getattr(total, name).extend(getattr(one, name))
        total.bulk_seconds += one.bulk_seconds
    return [total]


def _measure(one: Measured, grader: Grader, reference: Callable[[Row], bool], progress: Callable[[int], Any]) -> None:
    """Grade in turns, who begins changing; then once more one by one, with nothing remembered."""

    def ours(rows: list[Row]) -> None:
        start = time.perf_counter()
        one.grades += _graded(grader, rows)
        one.bulk_seconds += time.perf_counter() - start

    def theirs(rows: list[Row]) -> None:
        for row in rows:
            start = time.perf_counter()
            one.reference.append(reference(row))
            one.reference_seconds.append(time.perf_counter() - start)

    for row in one.rows:
        row.answer  # noqa: B018 (the golds are known before the clock starts)
    _forget(grader)
    for number, begin in enumerate(range(0, len(one.rows), _TURN)):
        rows = one.rows[begin : begin + _TURN]
        for grade in (ours, theirs) if number % 2 else (theirs, ours):
            grade(rows)
        progress(len(rows))
    _forget(grader)
    for row in one.rows:
        start = time.perf_counter()
        _graded(grader, [row])
        one.seconds.append(time.perf_counter() - start)
        progress(1)


def _graded(grader: Grader, rows: list[Row]) -> list[Graded]:
    """Grade; what has an empty gold is unparseable."""
    texts = [row for row in rows if row.answer and not row.bare]
    graded = iter(grader.grade_texts([row.answer for row in texts], [row.text for row in texts]))
    verdicts = iter(grader.grade([(row.answer, row.text) for row in rows if row.answer and row.bare]))
    nothing = Graded(Verdict.UNPARSEABLE, Verdict.UNPARSEABLE, None, None)
    grades = []
    for row in rows:
        if row.answer and row.bare:
            grades.append(Graded(verdict := next(verdicts), verdict, row.text, "bare"))
        else:
            grades.append(next(graded) if row.answer else nothing)
    return grades


def _forget(grader: Grader) -> None:
    """Drop what is remembered, so that nothing is timed that was graded before."""
    grader._memo.clear()
    for module in pkgutil.iter_modules(lemma.answers.__path__, "lemma.answers."):
        if module.name != "lemma.answers.worker":
            for value in vars(importlib.import_module(module.name)).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _math_verify() -> Callable[[Row], bool]:
    """Return Math-Verify's decision on a row, as it ships."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)

    def marked(answer: str) -> str:
        return answer if "$" in answer or "boxed" in answer else f"${answer}$"

    def correct(row: Row) -> bool:
        return verify(parse(marked(row.gold)), parse(marked(row.text) if row.bare else row.text))

    correct(Row("1", "$1$", None))  # imports what it needs
    return correct


def _use_one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _share(ours: list[bool], labels: list[bool]) -> float | None:
    return sum(map(bool.__eq__, ours, labels)) / len(labels) if labels else None


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[min(int(0.99 * len(seconds)), len(seconds) - 1)]


def _cells(figures: dict[str, Any]) -> list[str]:
    def percent(name: str) -> str:
        return "-" if figures[name] is None else f"{100 * figures[name]:.2f} %"

    labelled = figures["labels"] > 0
    return [
        figures["set"],
        str(figures["rows"]),
        figures["judged"],
        *(percent(name) for name in ("agreement", "strict_agreement", "flexible_agreement")),
        *(str(figures[name]) if labelled else "-" for name in ("false_positives", "false_negatives")),
        str(figures["timeouts"]),
        percent("reference_agreement"),
        str(figures["reference_false_positives"]) if labelled else "-",
        *(f"{figures[name]:,.0f}" for name in ("per_second", "reference_per_second")),
        f"{figures['ratio']:.1f}",
        *(f"{figures[name]:.2f}" for name in ("median_ms", "p99_ms", "reference_p99_ms")),
    ]


def _short(text: str | None) -> str:
    return "none" if text is None else repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data", help="folder that holds grading/, outputs/ and gsm8k/")
    parser.add_argument("--json", default=None, help="file to write the figures and the disagreements into")
    parser.add_argument("--only", nargs="+", default=[], help="names of sets; all by default")
    parser.add_argument("--limit", type=int, default=None, help="take the first so many rows of each set")
    arguments = parser.parse_args()
    try:
        check_grader(
            Path(arguments.data),
            Path(arguments.json) if arguments.json else None,
            only=arguments.only,
            limit=arguments.limit,
        )
    except InputError as error:
        sys.exit(f"check_grader: error: {error}")
