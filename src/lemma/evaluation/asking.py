"""Decides what is still to be drawn for a problem, and what is said of an evaluation under way."""

from collections.abc import Mapping
from dataclasses import dataclass

from lemma.encoding import ChatEncoder
from lemma.evaluation.benchmarks import BenchmarkItem
from lemma.evaluation.records import Record
from lemma.generation import Request, SamplingArgs, requests_of
from lemma.types import Completion, Verdict


class Asked:
    """A problem while its completions are drawn.

    Args:
        item: The problem.
        known: Completions that an interrupted run left, by their index among the problem's.
        encoder: Renders the prompt.
        sampling: Which completions are wanted.

    Attributes:
        item: The problem.
        missing: Indices of the completions that are to be drawn.
        requests: One for each of them.
    """

    def __init__(
        self, item: BenchmarkItem, known: Mapping[int, Completion], encoder: ChatEncoder, sampling: SamplingArgs
    ) -> None:
        self.item = item
        self.missing = [sample for sample in sampling.samples if sample not in known]
        self.requests: list[Request] = requests_of(item.problem, self.missing, encoder, sampling)
        self._samples = sampling.samples
        self._completions = {sample: known[sample] for sample in sampling.samples if sample in known}
        self._tokens_in = len(encoder.encode_prompt(item.problem.problem))

    @property
    def is_complete(self) -> bool:
        """Return whether every completion is there."""
        return len(self._completions) == len(self._samples)

    def add(self, completion: Completion) -> None:
        """Take one of the missing completions."""
        self._completions[completion.sample] = completion

    def record(self) -> Record:
        """Return the ungraded record of a problem that is complete."""
        completions = [self._completions[sample] for sample in self._samples]
        return Record.of(self.item.index, self.item.problem, completions, self._tokens_in)


@dataclass
class Progress:
    """How far a rank's evaluation is, for whoever shows it."""

    num_problems: int = 0
    """Problems that were begun."""
    num_completions: int = 0
    """Completions that they need."""
    num_resumed: int = 0
    """Of these, those that an interrupted run left."""
    problems_done: int = 0
    """Problems that are graded."""
    completions_done: int = 0
    """Completions that are there, those resumed included."""
    tokens: int = 0
    """Of the completions drawn in this run."""
    _correct: float = 0.0

    @property
    def accuracy(self) -> float | None:
        """Return pass@1 of the graded problems, of the greedy completion where none is sampled; None before any."""
        return self._correct / self.problems_done if self.problems_done else None

    def begin(self, asked: Asked, num_completions: int) -> None:
        """Count a problem that needs so many completions."""
        self.num_problems += 1
        self.num_completions += num_completions
        self.num_resumed += num_completions - len(asked.missing)
        self.completions_done += num_completions - len(asked.missing)

    def resume(self, num_completions: int, accuracy: float) -> None:
        """Count a graded problem that an interrupted run left, all of whose completions were announced."""
        self.num_resumed += num_completions
        self.completions_done += num_completions
        self.problems_done += 1
        self._correct += accuracy

    def draw(self, completion: Completion) -> None:
        """Count a completion that was drawn."""
        self.completions_done += 1
        self.tokens += completion.num_tokens

    def grade(self, record: Record) -> None:
        """Count a graded problem."""
        grades = record.sampled or record.grades
        self.problems_done += 1
        self._correct += sum(grade.verdict is Verdict.CORRECT for grade in grades) / len(grades)
