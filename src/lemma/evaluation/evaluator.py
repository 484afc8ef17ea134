"""Runs an evaluation: generate, grade, score, record; the same on one rank and on many."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn

from lemma.answers import Grader
from lemma.answers.conventions import Conventions
from lemma.encoding import ChatEncoder
from lemma.evaluation.benchmarks import BenchmarkBatch
from lemma.evaluation.provenance import problems_sha256
from lemma.evaluation.records import Record, graded
from lemma.evaluation.results import Evaluation, evaluation_of
from lemma.evaluation.scores import BenchmarkScores
from lemma.generation import SamplingArgs, generate
from lemma.types import InputError, Problem


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
    ordered_lists: bool = False
    """Whether a list of answers must have the gold's order."""
    units: str = "optional"
    """optional: units are compared where both answers have one; required: they must be there; ignored."""

    def __post_init__(self) -> None:
        """Refuse a k that the samples cannot give, and a convention that there is not.

        Raises:
            InputError: If a k is below 1 or above ``sampling.num_samples``, a k stands there twice, or ``units`` is
                unknown.
        """
        try:
            Conventions(self.ordered_lists, self.units)
        except ValueError as error:
            raise InputError(f"model.evaluation: {error}") from error
        if len(set(self.ks)) < len(self.ks):
            raise InputError(f"model.evaluation.ks: expected each k once, but got {self.ks}.")
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
        self._data_hashes = {source: problems_sha256(problems) for source, problems in benchmarks.items()}
        self._conventions = Conventions(args.ordered_lists, args.units)
        self._grader = Grader(args.grader_workers, args.grader_timeout, self._conventions)
        self._started = time.monotonic()

    def step(self, model: nn.Module, batch: BenchmarkBatch) -> None:
        """Generate for, grade, score and record the problems of a batch."""
        items, start = batch.items, time.monotonic()
        problems = [item.problem for item in items]
        completions = generate(model, problems, self.encoder, self.args.sampling, in_step=self.in_step)
        if not items:
            return
        records = [
            Record.of(item.index, item.problem, row, len(self.encoder.encode_prompt(item.problem.problem)))
            for item, row in zip(items, completions, strict=True)
        ]
        records = graded(records, self._grader)
        seconds = (time.monotonic() - start) / len(items)
        for record in records:
            self.records.append(replace(record, seconds=seconds))
            self.scores[record.problem.source].update(record)

    def finish(self, gather: Callable[[Any], list[Any]]) -> Evaluation:
        """Merge the ranks and return the evaluation, the same on each; the grader's processes end.

        Args:
            gather: Maps this rank's object to the list of all ranks' objects.
        """
        self._grader.close()
        records = [record for records in gather(self.records) for record in records]
        # a collective: every rank takes part, with records or without
        estimates = {source: scores.estimates() for source, scores in self.scores.items()}
        settings = {
            "sampling": asdict(self.args.sampling),
            "seed": self.args.sampling.seed,
            "prompt": asdict(self.encoder.prompt),
            "template_hash": self.encoder.template_hash,
            "conventions": asdict(self._conventions),
            "data_hashes": self._data_hashes,
            "seconds": round(time.monotonic() - self._started, 3),
        }
        return evaluation_of(records, estimates, settings)
