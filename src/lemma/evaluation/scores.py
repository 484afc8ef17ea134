"""Decides which figures a benchmark gets, and their 95 % intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lemma.corpora.rows import subject
from lemma.evaluation.records import Record
from lemma.metrics import (
    Accuracy,
    Agreement,
    CompletionLength,
    MajAtK,
    PassAtK,
    TruncationRate,
    bootstrap_band,
    wilson_interval,
)
from lemma.types import Problem, Verdict

LENGTH = "completion_length"
"""The one figure that is no share, but a number of tokens."""

DIGITS = 9
"""Of a figure; below, ranks may differ by the order in which a library adds."""


@dataclass(frozen=True)
class Estimate:
    """A mean over problems with its 95 % interval."""

    value: float
    low: float
    high: float
    num_problems: int


class BenchmarkScores(nn.Module):
    """The figures of one benchmark, as a whole, by level and by subject.

    ``accuracy`` (greedy), ``pass@k``, ``maj@k`` and ``agreement`` take answers that strict extraction finds;
    ``flexible_accuracy`` and ``flexible_pass@1`` take the last number or formula where there is none.
    ``completion_length`` and ``truncated`` are of all completions.

    Args:
        problems: The benchmark; a problem's index here is its index in every metric.
        num_samples: Sampled completions per problem; 0 leaves pass@k, maj@k and agreement out.
        ks: Values of k, each <= num_samples; maj@k is given for k > 1.
        greedy: Whether greedy completions are scored.
        seed: Of the bootstrap.
        measured: Whether lengths are known.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        *,
        num_samples: int,
        ks: Sequence[int],
        greedy: bool,
        seed: int,
        measured: bool = True,
    ) -> None:
        super().__init__()
        size = len(problems)
        voting = [k for k in ks if k > 1]
        metrics: dict[str, nn.Module] = {}
        if greedy:
            metrics |= {"accuracy": Accuracy(size), "flexible_accuracy": Accuracy(size)}
        if num_samples:
            metrics |= {"pass": PassAtK(size, num_samples, ks), "flexible_pass": PassAtK(size, num_samples, 1)}
        if num_samples and voting:
            metrics["maj"] = MajAtK(size, num_samples, voting)
        if num_samples > 1:
            metrics["agreement"] = Agreement(size, num_samples)
        if measured:
            num_completions = num_samples + greedy
            metrics |= {
                LENGTH: CompletionLength(size, num_completions),
                "truncated": TruncationRate(size, num_completions),
            }
        self.metrics = nn.ModuleDict(metrics)
        self.seed = seed
        self._names = {
            "pass": [f"pass@{k}" for k in ks],
            "flexible_pass": ["flexible_pass@1"],
            "maj": [f"maj@{k}" for k in voting],
        }
        self._parts = {"": torch.ones(size, dtype=torch.bool)}
        parts = {
            "level": [problem.level for problem in problems],
            "subject": [None if problem.subject is None else subject(problem.subject) for problem in problems],
        }
        for name, values in parts.items():
            for value in sorted({value for value in values if value is not None}):
                self._parts[f"{name}_{value}/"] = torch.tensor([one == value for one in values])

    def update(self, record: Record) -> None:
        """Add one graded problem, with as many completions as were announced."""
        at = torch.tensor([record.index])
        strict, flexible = (
            torch.tensor([[getattr(grade, name) is Verdict.CORRECT for grade in record.sampled]])  # (1, n)
            for name in ("verdict", "flexible_verdict")
        )
        votes = torch.tensor([record.sampled_votes])  # (1, n)
        rows: dict[str, tuple[Tensor, ...]] = {
            "pass": (strict,),
            "flexible_pass": (flexible,),
            "maj": (votes, strict),
            "agreement": (votes,),
        }
        if record.greedy is not None:
            rows["accuracy"] = (torch.tensor([record.greedy.verdict is Verdict.CORRECT]),)
            rows["flexible_accuracy"] = (torch.tensor([record.greedy.flexible_verdict is Verdict.CORRECT]),)
        if LENGTH in self.metrics:
            rows[LENGTH] = (torch.tensor([record.tokens_out]),)
            rows["truncated"] = (~torch.tensor([record.stopped]),)
        for name, metric in self.metrics.items():
            metric.update(at, *rows[name])

    def estimates(self) -> dict[str, Estimate]:
        """Return the figures by name: ``pass@1``, ``level_3/pass@1``, …; problems that were not seen do not count.

        A collective call: the ranks' states are merged.
        """
        columns: dict[str, Tensor] = {}
        for name, metric in self.metrics.items():
            values = metric.per_problem().cpu()  # (P,) or (P, K), nan where not seen
            names = self._names.get(name, [name])
            columns |= dict(zip(names, values.reshape(len(values), -1).unbind(dim=1), strict=True))
        table = torch.stack(list(columns.values()), dim=1)  # (P, figures)
        seen = ~table.isnan().any(dim=1)
        figures: dict[str, Estimate] = {}
        for part, members in self._parts.items():
            if (members & seen).any():
                found = self._estimates(list(columns), table[members & seen])
                figures |= {f"{part}{name}": estimate for name, estimate in found.items()}
        return figures

    def _estimates(self, names: list[str], table: Tensor) -> dict[str, Estimate]:
        """Return the estimate of each column of (P, figures); all are resampled alike."""
        lows, highs = bootstrap_band(table, seed=self.seed)
        found = {}
        for name, values, low, high in zip(names, table.unbind(dim=1), lows.tolist(), highs.tolist(), strict=True):
            equal = bool(values.min() == values.max())  # a bootstrap of equal values would claim certainty
            if name != LENGTH and (equal or name.endswith("accuracy")):
                low, high = wilson_interval(float(values.sum()), len(values))
            ends = (round(float(number), DIGITS) for number in (values.mean(), low, high))
            found[name] = Estimate(*ends, len(values))
        return found
