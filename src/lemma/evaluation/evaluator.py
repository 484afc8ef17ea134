"""Runs an evaluation: generate, grade, score, record; the same on one rank and on many."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from lemma.answers import Grader
from lemma.encoding import ChatEncoder
from lemma.evaluation.benchmarks import BenchmarkBatch, BenchmarkItem
from lemma.evaluation.records import Evaluation, Record, summarise
from lemma.evaluation.scores import BenchmarkScores
from lemma.generation import SamplingArgs, generate
from lemma.types import GREEDY, Completion, InputError, Problem


@dataclass(frozen=True)
class EvaluationArgs:
    """How benchmarks are measured in validation."""

    sampling: SamplingArgs = field(default_factory=SamplingArgs)
    """How completions are drawn."""
    ks: list[int] = field(default_factory=lambda: [1, 4])
    """Values of k for pass@k, and for maj@k where k > 1; each at most num_samples."""
    grader_workers: int = 1
    """Processes that compare answers symbolically; they start when the first answer needs it."""
    grader_timeout: float = 3.0
    """Seconds after which a comparison is stopped and counts as a timeout."""

    def __post_init__(self) -> None:
        """Refuse a k that the samples cannot give.

        Raises:
            InputError: If a k is below 1 or above ``sampling.num_samples``.
        """
        for k in self.ks if self.sampling.num_samples else []:
            if not 1 <= k <= self.sampling.num_samples:
                limit = f"[1, num_samples = {self.sampling.num_samples}]"
                raise InputError(f"model.evaluation.ks: expected values in {limit}, but got {k}.")


class Evaluator:
    """Measures a model on benchmarks.

    Args:
        args: Sampling, ks, grader.
        benchmarks: The problems of each source; the same on every rank.
        encoder: Renders and decodes.
        device: Where metric states live.
        in_step: Whether the model is sharded, so that its forward passes need all ranks.
    """

    def __init__(
        self,
        args: EvaluationArgs,
        benchmarks: Mapping[str, Sequence[Problem]],
        encoder: ChatEncoder,
        device: torch.device,
        *,
        in_step: bool = False,
    ) -> None:
        self.args = args
        self.in_step = in_step
        self.encoder = encoder
        num_samples = args.sampling.num_samples
        self.scores = {
            source: BenchmarkScores(
                problems,
                num_samples=num_samples,
                ks=args.ks if num_samples else [],
                greedy=args.sampling.greedy,
                seed=args.sampling.seed,
            ).to(device)
            for source, problems in benchmarks.items()
        }
        self.records: list[Record] = []
        self._grader = Grader(num_workers=args.grader_workers, timeout=args.grader_timeout)
        self._started = time.monotonic()

    def step(self, model: nn.Module, batch: BenchmarkBatch) -> None:
        """Generate for, grade, score and record the problems of a batch."""
        items, start = batch.items, time.monotonic()
        problems = [item.problem for item in items]
        completions = generate(model, problems, self.encoder, self.args.sampling, in_step=self.in_step)
        if not items:
            return
        golds = [item.problem.answer for item, row in zip(items, completions, strict=True) for _ in row]
        grades = iter(self._grader.grade_texts(golds, [completion.text for row in completions for completion in row]))
        seconds = (time.monotonic() - start) / len(items)
        for item, row in zip(items, completions, strict=True):
            self._add(item, row, [next(grades) for _ in row], seconds)

    def _add(self, item: BenchmarkItem, completions: list[Completion], grades: list, seconds: float) -> None:
        self.records.append(Record(item.index, item.problem, completions, grades, seconds))
        greedy = grades[0] if completions[0].sample == GREEDY else None
        sampled = [g for completion, g in zip(completions, grades, strict=True) if completion.sample != GREEDY]
        self.scores[item.problem.source].update(item.index, greedy, sampled)

    def finish(self, gather: Callable[[Any], list[Any]]) -> Evaluation:
        """Merge the ranks and return the evaluation, the same on each; the grader's processes end.

        Args:
            gather: Maps this rank's object to the list of all ranks' objects.
        """
        self._grader.close()
        gathered = [record for records in gather(self.records) for record in records]
        benchmarks, figures, ordered = {}, {}, []
        for source, scores in self.scores.items():
            estimates = scores.estimates()  # a collective: every rank takes part, with records or without
            records = sorted((r for r in gathered if r.problem.source == source), key=lambda record: record.index)
            if not records:
                continue
            summary = summarise(records)
            benchmarks[source] = {**summary, "metrics": {name: asdict(e) for name, e in estimates.items()}}
            figures |= {f"val/{source}/{name}": estimate.value for name, estimate in estimates.items()}
            figures |= {f"val/{source}/{name}": summary[name] for name in ("completion_length", "truncated")}
            for verdict in ("unparseable", "timeout"):
                figures[f"val/{source}/{verdict}"] = summary["verdicts"][verdict] / summary["num_completions"]
            ordered += records
        results = {
            "sampling": asdict(self.args.sampling),
            "prompt": asdict(self.encoder.prompt),
            "template_hash": self.encoder.template_hash,
            "seconds": round(time.monotonic() - self._started, 3),
            "benchmarks": benchmarks,
        }
        return Evaluation(results, ordered, figures)
