"""Accuracy, pass@k and maj@k as torchmetrics, with states of one fixed-size row a problem.

A row starts as "not seen" (-1) and ranks are merged by the maximum. So a problem that was seen twice, or on two ranks
(a distributed sampler repeats rows), counts once; a rank without rows changes nothing; and no rank ever gathers tensors
of another length, which aborts `cat` states. Where two sightings differ, the larger entry stands.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lemma.metrics.functional import maj_at_k, pass_at_k

_NOT_SEEN = -1


class _PerProblem(Metric):
    """What the three share: rows by problem index, and the mean over the problems seen."""

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    def __init__(self, num_problems: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_problems < 1:
            raise ValueError(f"Expected `num_problems` to be at least 1, but got {num_problems}.")
        self.num_problems = num_problems

    def per_problem(self) -> Tensor:
        """Return the value of each problem, nan for one not seen on any rank; shape (P,), float64.

        A collective call like `compute`: the ranks' states are merged for it and separated again after it, so every
        rank must make it. By-level means (``values[levels == 3].nanmean()``) and bootstrap intervals start from here.
        """
        if self._is_synced:  # inside a caller's own `sync_context`
            return self._values()
        with self.sync_context():
            return self._values()

    def compute(self) -> Tensor:
        """Return the mean over the problems seen, a float64 scalar; nan if none was."""
        return self._values().nanmean()

    def _values(self) -> Tensor:
        """Return each problem's value by the state as it is, shape (P,)."""
        raise NotImplementedError

    def _add_rows(self, name: str, num_columns: int | None = None) -> None:
        size = (self.num_problems,) if num_columns is None else (self.num_problems, num_columns)
        self.add_state(name, torch.full(size, _NOT_SEEN, dtype=torch.long), dist_reduce_fx="max")

    def _merge(self, name: str, index: Tensor, rows: Tensor) -> None:
        """Take the maximum of the state's rows at ``index`` (B,) and ``rows`` (B,) or (B, n)."""
        state = getattr(self, name)
        if index.shape != rows.shape[:1] or rows.shape[1:] != state.shape[1:]:
            raise ValueError(
                f"Expected `index` (B,) and rows {('B', *state.shape[1:])}, but got {tuple(index.shape)} and "
                f"{tuple(rows.shape)}."
            )
        if index.numel() == 0:
            return
        if index.min() < 0 or index.max() >= self.num_problems:
            raise ValueError(
                f"Expected `index` between 0 and {self.num_problems - 1}, but got {int(index.min())} to "
                f"{int(index.max())}."
            )
        target = index if rows.ndim == 1 else index[:, None].expand_as(rows)
        setattr(self, name, state.scatter_reduce(0, target.long(), rows.long(), reduce="amax"))


class Accuracy(_PerProblem):
    """Share of the problems whose one completion is correct.

    Args:
        num_problems: Size P of the benchmark.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: If ``num_problems < 1``.
    """

    correct: Tensor

    def __init__(self, num_problems: int, **kwargs: Any) -> None:
        super().__init__(num_problems, **kwargs)
        self._add_rows("correct")

    def update(self, index: Tensor, correct: Tensor) -> None:
        """Record problems.

        Args:
            index: Indices of the problems, shape (B,), from 0.
            correct: Whether each is solved, shape (B,), bool.

        Raises:
            ValueError: If an index is out of range or the shapes do not agree.
        """
        self._merge("correct", index, correct)

    def _values(self) -> Tensor:
        return self.correct.double().masked_fill(self.correct == _NOT_SEEN, torch.nan)


class PassAtK(_PerProblem):
    """Mean over problems of the unbiased pass@k (`lemma.metrics.functional.pass_at_k`).

    Args:
        num_problems: Size P of the benchmark.
        num_samples: Samples n of each problem.
        k: Samples drawn, between 1 and n.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: If ``num_problems < 1`` or ``k`` is not between 1 and ``num_samples``.
    """

    correct: Tensor

    def __init__(self, num_problems: int, num_samples: int, k: int, **kwargs: Any) -> None:
        super().__init__(num_problems, **kwargs)
        self.num_samples, self.k = _checked(num_samples, k)
        self._add_rows("correct", num_samples)

    def update(self, index: Tensor, correct: Tensor) -> None:
        """Record problems with all their samples.

        Args:
            index: Indices of the problems, shape (B,), from 0.
            correct: Whether each sample is correct, shape (B, n), bool.

        Raises:
            ValueError: If an index is out of range or the shapes do not agree.
        """
        self._merge("correct", index, correct)

    def _values(self) -> Tensor:
        seen = self.correct[:, 0] != _NOT_SEEN
        num_correct = (self.correct == 1).sum(dim=1)
        values = pass_at_k(num_correct, torch.full_like(num_correct, self.num_samples), self.k)
        return values.masked_fill(~seen, torch.nan)


class MajAtK(_PerProblem):
    """Mean over problems of maj@k (`lemma.metrics.functional.maj_at_k`).

    Args:
        num_problems: Size P of the benchmark.
        num_samples: Samples n of each problem.
        k: Samples that vote, between 1 and n.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: If ``num_problems < 1`` or ``k`` is not between 1 and ``num_samples``.
    """

    votes: Tensor
    correct: Tensor

    def __init__(self, num_problems: int, num_samples: int, k: int, **kwargs: Any) -> None:
        super().__init__(num_problems, **kwargs)
        self.num_samples, self.k = _checked(num_samples, k)
        self._add_rows("votes", num_samples)
        self._add_rows("correct", num_samples)

    def update(self, index: Tensor, votes: Tensor, correct: Tensor) -> None:
        """Record problems with all their samples.

        Args:
            index: Indices of the problems, shape (B,), from 0.
            votes: Group of each sample's answer, shape (B, n), integer; -1 is no answer. Ids only need to agree within
                a problem, but must not depend on the rank.
            correct: Whether each sample is correct, shape (B, n), bool.

        Raises:
            ValueError: If an index is out of range or the shapes do not agree.
        """
        self._merge("correct", index, correct)
        self._merge("votes", index, votes)

    def _values(self) -> Tensor:
        seen = self.correct[:, 0] != _NOT_SEEN
        values = torch.full((self.num_problems,), torch.nan, dtype=torch.float64, device=self.correct.device)
        values[seen] = maj_at_k(self.votes[seen], self.correct[seen] == 1, self.k)
        return values


def _checked(num_samples: int, k: int) -> tuple[int, int]:
    if not 1 <= k <= num_samples:
        raise ValueError(f"Expected `k` between 1 and `num_samples` = {num_samples}, but got {k}.")
    return num_samples, k
