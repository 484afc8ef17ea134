"""Compares evaluations of several runs on the same problems: is a gain real, and which problems flipped?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lemma.evaluation.records import Record
from lemma.evaluation.runs import Run
from lemma.metrics import holm, mcnemar_exact, paired_bootstrap_interval, paired_bootstrap_test
from lemma.types import InputError, Verdict

SETTINGS = {
    "grader_version": "grader version",
    "conventions": "answer conventions",
    "template_hash": "prompt template",
    "sampling": "sampling",
    "data_hashes": "benchmark data",
}
"""Key of the results → what it is called in a warning; figures are comparable where these agree."""


@dataclass(frozen=True)
class Gain:
    """Difference of a figure between two runs on the problems that both measured.

    Attributes:
        run: The run that may be better.
        base: The run to improve on.
        source: The benchmark.
        metric: ``accuracy`` or ``pass@k``, or either with ``flexible_`` before it.
        value: Mean difference over problems.
        low: Lower end of the paired 95 % bootstrap interval.
        high: Upper end.
        p_value: Two-sided, of one test alone: McNemar's exact test for accuracy, the paired bootstrap for pass@k.
        p_adjusted: After Holm's correction for all tests of the comparison.
        num_problems: Problems that both measured.
        num_gained: Problems on which the run is better.
        num_lost: Problems on which it is worse.
    """

    run: str
    base: str
    source: str
    metric: str
    value: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    num_problems: int
    num_gained: int
    num_lost: int


@dataclass(frozen=True)
class Flips:
    """Problems of a benchmark that one of two runs solves and the other does not, as pairs (base's, run's).

    A problem is solved if the greedy completion is correct; where a run has none, if at least half of the samples are.
    """

    run: str
    base: str
    source: str
    gained: list[tuple[Record, Record]]
    lost: list[tuple[Record, Record]]


def paired_gain(base: Run, run: Run, source: str, *, metric: str = "pass@1", seed: int = 0) -> Gain:
    """Return how much a run gains over another on a benchmark, with the test of that alone.

    Args:
        base: The run to improve on.
        run: The run that may.
        source: The benchmark.
        metric: As in `Gain`.
        seed: Of the bootstrap.

    Raises:
        InputError: If the two have no problem in common.
    """
    before, after = base.values(source, metric), run.values(source, metric)
    shared = [record.problem.id for record, _ in _shared(base, run, source)]
    shared = [problem_id for problem_id in shared if problem_id in before and problem_id in after]
    if not shared:
        raise InputError(f"{base.name} and {run.name} have no problem of {source} with {metric} in common.")
    a, b = (torch.tensor([side[name] for name in shared], dtype=torch.float64) for side in (before, after))
    low, high = paired_bootstrap_interval(a, b, seed=seed)
    num_gained, num_lost = int((b > a).sum()), int((b < a).sum())
    p_value = (
        mcnemar_exact(num_gained, num_lost) if metric.endswith("accuracy") else paired_bootstrap_test(a, b, seed=seed)
    )
    names = (run.name, base.name, source, metric)
    return Gain(*names, float((b - a).mean()), low, high, p_value, p_value, len(a), num_gained, num_lost)


def paired_gains(runs: Sequence[Run], *, flexible: bool = False, seed: int = 0) -> list[Gain]:
    """Return the gains of every run over the first in accuracy and pass@k, corrected for their number.

    Args:
        runs: The first is the one to improve on. A figure that either has not, and a benchmark without a shared
            problem, are left out.
        flexible: Take the figures of flexible extraction.
        seed: Of the bootstrap.
    """
    first, *others = runs
    tested = ("flexible_accuracy", "flexible_pass@") if flexible else ("accuracy", "pass@")
    gains = []
    for run in others:
        for source in first.benchmarks:
            if _shared(first, run, source):
                for metric in first.metrics(source):
                    if metric.startswith(tested) and metric in run.metrics(source):
                        gains.append(paired_gain(first, run, source, metric=metric, seed=seed))
    adjusted = holm([gain.p_value for gain in gains])
    return [replace(gain, p_adjusted=p) for gain, p in zip(gains, adjusted, strict=True)]


def flips(runs: Sequence[Run], *, flexible: bool = False) -> list[Flips]:
    """Return the problems that flipped between the first run and each other, by benchmark.

    Args:
        runs: The first is the one to improve on.
        flexible: Take the verdicts of flexible extraction.
    """
    verdict = "flexible_verdict" if flexible else "verdict"
    first, *others = runs
    found = []
    for run in others:
        for source in first.benchmarks:
            pairs = _shared(first, run, source)
            by_greedy = all(record.greedy is not None for pair in pairs for record in pair)
            solved = [(_solved(a, by_greedy, verdict), _solved(b, by_greedy, verdict)) for a, b in pairs]
            gained, lost = ([pair for pair, way in zip(pairs, solved, strict=True) if way == kind]
                            for kind in ((False, True), (True, False)))  # fmt: skip
            if pairs:
                found.append(Flips(run.name, first.name, source, gained, lost))
    return found


def differences(runs: Sequence[Run]) -> list[str]:
    """Return what makes figures of the runs hard to compare with the first's, a sentence each."""
    first, *others = runs
    found = []
    for run in others:
        for key, name in SETTINGS.items():
            ours, theirs = (_comparable(key, side, first, run) for side in (first, run))
            if ours != theirs:
                found.append(f"{run.name} and {first.name} differ in {name}: {_difference(theirs, ours)}.")
        for source in sorted(first.benchmarks.keys() | run.benchmarks.keys()):
            sizes = [sum(key[0] == source for key in side.records) for side in (first, run)]
            num_shared = len(_shared(first, run, source))
            if min(sizes) == 0:
                lacking = first if sizes[0] == 0 else run
                found.append(f"{lacking.name} was not measured on {source}.")
            elif sizes != [num_shared, num_shared]:
                found.append(
                    f"{run.name} and {first.name} share {num_shared} problems of {source}, of {sizes[1]} and "
                    f"{sizes[0]}; only those are paired."
                )
    return found


def _shared(base: Run, run: Run, source: str) -> list[tuple[Record, Record]]:
    """Return the records of the problems that both runs measured: same id, question and answer."""
    pairs = [(mine, run.records[key]) for key, mine in base.records.items() if key[0] == source and key in run.records]
    return [(a, b) for a, b in pairs if (a.problem.problem, a.problem.answer) == (b.problem.problem, b.problem.answer)]


def _solved(record: Record, by_greedy: bool, verdict: str) -> bool:
    grades = [record.greedy] if by_greedy else record.sampled or record.grades
    return 2 * sum(getattr(grade, verdict) is Verdict.CORRECT for grade in grades) >= len(grades)


def _comparable(key: str, run: Run, *both: Run) -> Any:
    """Return a setting; of the data only the benchmarks that both runs have."""
    value = run.results.get(key)
    if key == "data_hashes" and isinstance(value, dict):
        return {source: value[source] for source in value if all(source in side.benchmarks for side in both)}
    return value


def _difference(ours: Any, theirs: Any) -> str:
    """Return the entries in which two settings differ."""
    if ours is None or theirs is None:
        return "one of them does not say"
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        return ", ".join(f"{name} {_shown(ours.get(name))} against {_shown(theirs.get(name))}" for name in names)
    return f"{_shown(ours)} against {_shown(theirs)}"


def _shown(value: Any) -> str:
    text = "unknown" if value is None else str(value)
    return text if len(text) <= 16 else f"{text[:12]}…"
