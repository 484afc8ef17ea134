"""Decides what stands in ``results.json``: figures of all benchmarks and of each, and what they depend on."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from lemma.answers import GRADER_VERSION
from lemma.corpora.rows import subject
from lemma.evaluation.provenance import git_commit
from lemma.evaluation.records import Record
from lemma.evaluation.scores import DIGITS, Estimate
from lemma.types import Problem, Verdict

TIERS = (
    (0.50, "exceptional"),
    (0.30, "excellent"),
    (0.20, "very good"),
    (0.10, "good"),
    (0.05, "fair"),
    (0.0, "needs improvement"),
)
"""Least pass@1 of each tier, best first."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a policy on one or more benchmarks.

    Attributes:
        results: What goes into ``results.json``: settings, and figures with intervals by benchmark.
        records: One per problem, in benchmark order.
        figures: The figures as a flat mapping of log tags, ``val/<source>/pass@1`` and so on.
    """

    results: dict[str, Any]
    records: list[Record]
    figures: dict[str, float]


def evaluation_of(
    records: Sequence[Record], estimates: Mapping[str, Mapping[str, Estimate]], settings: Mapping[str, Any]
) -> Evaluation:
    """Return the evaluation that graded records and their figures make.

    Args:
        records: Of all benchmarks; a problem that stands in it twice counts once.
        estimates: The figures of each source, whole and by part (`BenchmarkScores.estimates`).
        settings: What the figures depend on: sampling, prompt, data hashes and so on.
    """
    once = {(*record.key, record.index): record for record in records}
    benchmarks, figures, ordered = {}, {}, []
    for source, found in estimates.items():
        mine = sorted((r for r in once.values() if r.problem.source == source), key=lambda record: record.index)
        if not mine:
            continue
        summary = summarise(mine)
        benchmarks[source] = {**summary, "metrics": {name: asdict(estimate) for name, estimate in found.items()}}
        figures |= {f"val/{source}/{name}": estimate.value for name, estimate in found.items()}
        figures[f"val/{source}/unparseable"] = summary["verdicts"]["unparseable"] / summary["num_completions"]
        figures[f"val/{source}/grade_timeouts"] = float(summary["verdicts"]["timeout"])
        ordered += mine
    results = {
        **overall(ordered, {source: estimates[source] for source in benchmarks}),
        **settings,
        "grader_version": GRADER_VERSION,
        "git_commit": git_commit(),
        "benchmarks": benchmarks,
    }
    return Evaluation(results, ordered, figures)


def overall(records: Sequence[Record], estimates: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
    """Return the figures over the problems of all benchmarks together; None for what was not measured.

    Args:
        records: Of all benchmarks, graded.
        estimates: The figures of each source that has records.
    """
    sizes = {source: found[next(iter(found))].num_problems for source, found in estimates.items()}
    names = next(iter(estimates.values()), {})
    means = {
        name: round(sum(sizes[s] * found[name].value for s, found in estimates.items()) / sum(sizes.values()), DIGITS)
        for name in names
        if "/" not in name
    }
    at_k = {kind: {n.removeprefix(f"{kind}@"): means[n] for n in means if n.startswith(f"{kind}@")}
            for kind in ("pass", "maj")}  # fmt: skip
    pass_at_1 = _mean([r.num_correct / len(r.sampled) for r in records if r.sampled])
    return {
        "accuracy": means.get("accuracy"),
        "flexible_accuracy": means.get("flexible_accuracy"),
        "pass_at_k": at_k["pass"] or None,
        "maj_at_k": at_k["maj"] or None,
        "pass_at_n": _mean([float(r.num_correct > 0) for r in records if r.sampled]),
        "tier": None if pass_at_1 is None else tier(pass_at_1),
        "source_accuracies": _accuracies(records, lambda problem: problem.source),
        "level_accuracies": _accuracies(records, lambda problem: problem.level),
        "subject_accuracies": _accuracies(records, lambda problem: problem.subject and subject(problem.subject)),
        "num_problems": len(records),
        "num_completions": sum(len(record.completions) for record in records),
        **_averages(records),
    }


def tier(pass_at_1: float) -> str:
    """Return the name of the tier that a pass@1 in [0, 1] reaches.

    Raises:
        ValueError: If it is not in [0, 1].
    """
    if not 0 <= pass_at_1 <= 1:
        raise ValueError(f"Expected `pass_at_1` between 0 and 1, but got {pass_at_1}.")
    return next(name for least, name in TIERS if pass_at_1 >= least)


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Return counts of one benchmark's completions: verdicts, tokens, time.

    Args:
        records: At least one.
    """
    verdicts, flexible = (
        Counter(getattr(grade, name) for record in records for grade in record.grades)
        for name in ("verdict", "flexible_verdict")
    )
    seconds = [record.seconds for record in records if record.seconds is not None]
    return {
        "num_problems": len(records),
        "num_completions": sum(len(record.completions) for record in records),
        "verdicts": {verdict.value: verdicts[verdict] for verdict in Verdict},
        "flexible_verdicts": {verdict.value: flexible[verdict] for verdict in Verdict},
        "strategies": dict(Counter(str(grade.strategy or "none") for r in records for grade in r.grades).most_common()),
        **_averages(records),
        "seconds": round(sum(seconds), 3) if seconds else None,
    }


def _averages(records: Sequence[Record]) -> dict[str, float | None]:
    """Return tokens a prompt and a completion, and seconds a problem."""
    return {
        "average_tokens_in": _mean([float(r.tokens_in) for r in records if r.tokens_in is not None]),
        "average_tokens_out": _mean([float(tokens) for r in records for tokens in r.tokens_out or ()]),
        "average_seconds": _mean([r.seconds for r in records if r.seconds is not None], digits=4),
    }


def _accuracies(records: Sequence[Record], part: Callable[[Problem], Any]) -> dict[str, float] | None:
    """Return the greedy accuracy of each part of the problems, or None without greedy completions."""
    parts: dict[Any, list[float]] = {}
    for record in records:
        value = part(record.problem)
        if value is not None and record.greedy is not None:
            parts.setdefault(value, []).append(float(record.greedy.verdict is Verdict.CORRECT))
    return {str(value): _mean(parts[value]) for value in sorted(parts)} or None


def _mean(values: Sequence[float], digits: int = DIGITS) -> float | None:
    return round(mean(values), digits) if values else None
