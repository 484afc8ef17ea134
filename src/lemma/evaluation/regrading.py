"""Decides what grading existing outputs gives: records and results as an evaluation's, and agreement with labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lemma.answers import Grader
from lemma.evaluation.outputs import Outputs, label_pairs
from lemma.evaluation.provenance import problems_sha256
from lemma.evaluation.records import Record, graded
from lemma.evaluation.results import Evaluation, evaluation_of
from lemma.evaluation.scores import BenchmarkScores
from lemma.types import GREEDY, InputError, Verdict

_BATCH = 64  # completions graded at a time, so that progress shows


def regrade(
    outputs: Outputs, grader: Grader, *, ks: Sequence[int], seed: int, settings: Mapping[str, Any],
    progress: Callable[[int], object],
) -> tuple[Evaluation, list[dict[str, Any]]]:  # fmt: skip
    """Grade outputs.

    Args:
        outputs: Of one model, with as many completions of each problem.
        grader: The grader.
        ks: Values of k for pass@k and maj@k; those above the number of samples are left out.
        seed: Of the bootstrap.
        settings: What is known of how the outputs were made, for the results.
        progress: Called with the number of completions just graded.

    Returns:
        The evaluation, and a row for each completion on which a label and a verdict disagree, strict or flexible.

    Raises:
        InputError: If a gold cannot be read; names its place.
    """
    golds = [record.problem.answer for record in outputs.records]
    if unreadable := grader.unreadable(golds):
        first = unreadable[0]
        raise InputError(
            f"{outputs.places[first]}: the grader can make nothing of the gold answer {golds[first]!r}; "
            f"{len(unreadable)} such problems in all."
        )
    records = []
    for batch in _batches(outputs.records):
        records += graded(batch, grader)
        progress(sum(len(record.completions) for record in batch))
    estimates = {}
    for source in dict.fromkeys(record.problem.source for record in records):
        mine = [record for record in records if record.problem.source == source]
        estimates[source] = _scores(mine, ks, seed).estimates()
    hashes = {
        source: problems_sha256([record.problem for record in records if record.problem.source == source])
        for source in estimates
    }
    settings = {**settings, "conventions": asdict(grader.conventions), "data_hashes": hashes}
    disagreements = [_disagreement(*pair) for pair in label_pairs(outputs, records) if not _agrees(*pair)]
    counts = {"label_agreement": label_agreement(outputs, records)}
    return evaluation_of(records, estimates, {**settings, **counts}), disagreements


def label_agreement(outputs: Outputs, records: Sequence[Record]) -> dict[str, Any] | None:
    """Return how many labels strict and flexible verdicts agree with, and in which way the strict ones do not.

    Args:
        outputs: With labels, or without.
        records: The same, graded.

    Returns:
        Counts, or None where there is no label.
    """
    pairs = list(label_pairs(outputs, records))
    if not pairs:
        return None
    strict = [(record.grades[i].verdict is Verdict.CORRECT, label) for record, i, label in pairs]
    flexible = [(record.grades[i].flexible_verdict is Verdict.CORRECT, label) for record, i, label in pairs]
    return {
        "labels": len(pairs),
        "strict": sum(ours == label for ours, label in strict),
        "flexible": sum(ours == label for ours, label in flexible),
        "only_we_say_correct": sum(ours and not label for ours, label in strict),
        "only_label_says_correct": sum(label and not ours for ours, label in strict),
    }


def _scores(records: Sequence[Record], ks: Sequence[int], seed: int) -> BenchmarkScores:
    """Return the scores of one benchmark's graded records."""
    samples = records[0].samples
    num_samples = sum(sample != GREEDY for sample in samples)
    scores = BenchmarkScores(
        [record.problem for record in records],
        num_samples=num_samples,
        ks=[k for k in ks if k <= num_samples] or [1],
        greedy=GREEDY in samples,
        seed=seed,
        measured=all(record.tokens_out is not None and record.stopped is not None for record in records),
    )
    for record in records:
        scores.update(record)
    return scores


def _batches(records: Sequence[Record]) -> list[list[Record]]:
    batches: list[list[Record]] = [[]]
    for record in records:
        if sum(len(one.completions) for one in batches[-1]) >= _BATCH:
            batches.append([])
        batches[-1].append(record)
    return batches


def _agrees(record: Record, position: int, label: bool) -> bool:
    grade = record.grades[position]
    return all((verdict is Verdict.CORRECT) == label for verdict in (grade.verdict, grade.flexible_verdict))


def _disagreement(record: Record, position: int, label: bool) -> dict[str, Any]:
    grade = record.grades[position]
    return {
        "source": record.problem.source,
        "problem_id": record.problem.id,
        "sample": record.samples[position],
        "label": label,
        "verdict": grade.verdict.value,
        "flexible_verdict": grade.flexible_verdict.value,
        "answer": record.problem.answer,
        "prediction": grade.prediction,
        "strategy": grade.strategy,
        "completion": record.completions[position],
    }
