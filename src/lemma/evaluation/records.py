"""What is kept of an evaluation: one record a problem, and the results that were computed from them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lemma.answers import GRADER_VERSION, Graded
from lemma.types import GREEDY, Completion, Problem, Verdict


@dataclass(frozen=True)
class Record:
    """Everything that was generated for one problem, graded.

    Attributes:
        index: Of the problem in its benchmark.
        problem: The problem.
        completions: Its completions, greedy first.
        grades: One for each completion.
        seconds: Time spent on it: generation shared evenly among the problems of a batch, and grading.
    """

    index: int
    problem: Problem
    completions: list[Completion]
    grades: list[Graded]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the record as one JSON Lines row."""
        sampled = [grade for completion, grade in zip(self.completions, self.grades, strict=True)
                   if completion.sample != GREEDY]  # fmt: skip
        return {
            "problem_id": self.problem.id,
            "source": self.problem.source,
            "level": self.problem.level,
            "subject": self.problem.subject,
            "problem": self.problem.problem,
            "answer": self.problem.answer,
            "num_correct": sum(grade.verdict is Verdict.CORRECT for grade in sampled),
            "num_samples": len(sampled),
            "seconds": round(self.seconds, 4),
            "completions": [
                {
                    "sample": completion.sample,
                    "text": completion.text,
                    "prediction": grade.prediction,
                    "strategy": grade.strategy,
                    "verdict": grade.verdict.value,
                    "num_tokens": completion.num_tokens,
                    "stopped": completion.stopped,
                }
                for completion, grade in zip(self.completions, self.grades, strict=True)
            ],
        }


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


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Return counts of one benchmark's completions: verdicts, lengths, truncation, time.

    Args:
        records: At least one.
    """
    completions = [completion for record in records for completion in record.completions]
    verdicts = Counter(grade.verdict for record in records for grade in record.grades)
    seconds = sum(record.seconds for record in records)
    return {
        "num_problems": len(records),
        "num_completions": len(completions),
        "verdicts": {verdict.value: verdicts[verdict] for verdict in Verdict},
        "completion_length": sum(completion.num_tokens for completion in completions) / len(completions),
        "truncated": sum(not completion.stopped for completion in completions) / len(completions),
        "seconds": round(seconds, 3),
        "seconds_per_problem": round(seconds / len(records), 4),
        "grader_version": GRADER_VERSION,
    }
