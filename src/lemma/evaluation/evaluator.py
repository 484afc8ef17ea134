"""Runs an evaluation: draw, grade, score, record; the same on one rank and on many, at once or resumed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from lemma.answers import Grader
from lemma.answers.conventions import Conventions
from lemma.encoding import ChatEncoder
from lemma.evaluation.asking import Asked, Progress
from lemma.evaluation.benchmarks import BenchmarkBatch, BenchmarkItem
from lemma.evaluation.journal import Journal, Kept
from lemma.evaluation.provenance import problems_sha256
from lemma.evaluation.records import Record, graded
from lemma.evaluation.results import Evaluation, evaluation_of
from lemma.evaluation.scores import BenchmarkScores
from lemma.generation import Engine, SamplingArgs, completion_of, drawing_of
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
        journal: Where completions are kept as they are drawn, and those of an interrupted run come from; or None.

    Attributes:
        progress: How far it is.
        listeners: Called with the progress whenever it has changed.
    """

    def __init__(
        self,
        args: EvaluationArgs,
        benchmarks: Mapping[str, Sequence[Problem]],
        encoder: ChatEncoder,
        device: torch.device,
        journal: Journal | None = None,
    ) -> None:
        self.args = args
        self.encoder = encoder
        self.journal = journal
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
        self.progress = Progress()
        self.listeners: list[Callable[[Progress], None]] = []
        self._data_hashes = {source: problems_sha256(problems) for source, problems in benchmarks.items()}
        self._conventions = Conventions(args.ordered_lists, args.units)
        self._grader = Grader(args.grader_workers, args.grader_timeout, self._conventions)
        self._started = time.monotonic()

    def step(self, engine: Engine, batch: BenchmarkBatch) -> None:
        """Draw, grade, score and record the completions of a batch; each problem when its last one is there.

        Args:
            engine: Draws from the model as it was last told.
            batch: May be empty; the engine is asked all the same, for it may need all ranks.
        """
        start = time.monotonic()
        kept = [self.journal.kept(item) if self.journal else {} for item in batch.items]
        asked = [self._ask(item, mine) for item, mine in zip(batch.items, kept, strict=True)]
        records = [self._grade(each) for each in asked if each.is_complete]
        records += self._drawn(engine, asked)
        earlier = sum(one.seconds for mine in kept for one in mine.values())
        seconds = time.monotonic() - start + earlier
        self.records += [replace(record, seconds=seconds / len(records)) for record in records]

    def _ask(self, item: BenchmarkItem, kept: Mapping[int, Kept]) -> Asked:
        known = {sample: one.completion for sample, one in kept.items()}
        asked = Asked(item, known, self.encoder, self.args.sampling)
        self.progress.begin(asked, len(self.args.sampling.samples))
        return asked

    def _drawn(self, engine: Engine, asked: Sequence[Asked]) -> Iterator[Record]:
        """Yield the graded record of each problem that is complete, as its last completion comes."""
        requests = [request for each in asked for request in each.requests]
        places = [(each, sample) for each in asked for sample in each.missing]
        last = time.monotonic()
        for number, sample in engine.draw(requests, drawing_of(self.encoder, self.args.sampling)):
            each, index = places[number]
            completion = completion_of(each.item.problem, index, sample, self.encoder)
            each.add(completion)
            self.progress.draw(completion)
            if self.journal is not None:
                self.journal.add(each.item, completion, time.monotonic() - last)
            last = time.monotonic()
            if each.is_complete:
                yield self._grade(each)
            else:
                self._tell()

    def _grade(self, asked: Asked) -> Record:
        [record] = graded([asked.record()], self._grader)
        self.scores[record.problem.source].update(record)
        self.progress.grade(record)
        self._tell()
        return record

    def _tell(self) -> None:
        for listener in self.listeners:
            listener(self.progress)

    def finish(self, gather: Callable[[Any], list[Any]]) -> Evaluation:
        """Merge the ranks and return the evaluation, the same on each; the grader's processes end.

        Args:
            gather: Maps this rank's object to the list of all ranks' objects.
        """
        self._grader.close()
        if self.journal is not None:
            self.journal.close()
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
