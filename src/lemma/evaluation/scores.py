"""Decides which figures a benchmark gets, and their 95 % intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lemma.answers import Graded, normalize
from lemma.metrics import Accuracy, MajAtK, PassAtK, bootstrap_interval, wilson_interval
from lemma.types import Problem, Verdict


@dataclass(frozen=True)
class Estimate:
    """A mean over problems with its 95 % interval."""

    value: float
    low: float
    high: float
    num_problems: int


class BenchmarkScores(nn.Module):
    """Accuracy, pass@k and maj@k of one benchmark, as a whole and by level.

    Args:
        problems: The benchmark; a problem's index here is its index in every metric.
        num_samples: Sampled completions per problem; 0 leaves pass@k and maj@k out.
        ks: Values of k, each <= num_samples; maj@k is given for k > 1.
        greedy: Whether greedy completions are scored as ``accuracy``.
        seed: Of the bootstrap.
    """

    def __init__(
        self, problems: Sequence[Problem], *, num_samples: int, ks: Sequence[int], greedy: bool, seed: int
    ) -> None:
        super().__init__()
        size = len(problems)
        metrics: dict[str, nn.Module] = {"accuracy": Accuracy(size)} if greedy else {}
        metrics |= {f"pass@{k}": PassAtK(size, num_samples, k) for k in ks}
        metrics |= {f"maj@{k}": MajAtK(size, num_samples, k) for k in ks if k > 1}
        self.metrics = nn.ModuleDict(metrics)
        self.seed = seed
        self._levels = {
            level: torch.tensor([p.level == level for p in problems])
            for level in sorted({p.level for p in problems if p.level is not None})
        }

    def update(self, index: int, greedy: Graded | None, sampled: Sequence[Graded]) -> None:
        """Add one problem.

        Args:
            index: Its index in the benchmark.
            greedy: Grade of the greedy completion, if there is one.
            sampled: Grades of the sampled completions, ``num_samples`` of them.
        """
        at = torch.tensor([index])
        correct = torch.tensor([[graded.verdict is Verdict.CORRECT for graded in sampled]])  # (1, n)
        votes = torch.tensor([_votes(sampled)])  # (1, n)
        for name, metric in self.metrics.items():
            if name == "accuracy":
                metric.update(at, torch.tensor([greedy.verdict is Verdict.CORRECT]))
            elif name.startswith("pass@"):
                metric.update(at, correct)
            else:
                metric.update(at, votes, correct)

    def estimates(self) -> dict[str, Estimate]:
        """Return the figures by name: ``pass@1``, ``level_3/pass@1``, …; problems that were not seen do not count."""
        figures: dict[str, Estimate] = {}
        for name, metric in self.metrics.items():
            values = metric.per_problem().cpu()  # (P,), NaN where not seen; merges the ranks
            groups = {name: values} | {f"level_{level}/{name}": values[at] for level, at in self._levels.items()}
            figures |= {tag: self._estimate(name, v) for tag, v in groups.items() if not v.isnan().all()}
        return figures

    def _estimate(self, name: str, values: Tensor) -> Estimate:
        values = values[~values.isnan()].double()
        if name == "accuracy" or values.min() == values.max():  # a bootstrap of equal values would claim certainty
            low, high = wilson_interval(float(values.sum()), len(values))
        else:
            low, high = bootstrap_interval(values, seed=self.seed)
        return Estimate(float(values.mean()), float(low), float(high), len(values))


def _votes(graded: Sequence[Graded]) -> list[int]:
    """Group answers: correct ones together, others by normal form; -1 where there is no answer to vote for."""
    groups: dict[str | None, int] = {}
    votes = []
    for one in graded:
        if one.prediction is None or one.verdict is Verdict.UNPARSEABLE:
            votes.append(-1)
            continue
        key = None if one.verdict is Verdict.CORRECT else normalize(one.prediction)
        votes.append(groups.setdefault(key, len(groups)))
    return votes
