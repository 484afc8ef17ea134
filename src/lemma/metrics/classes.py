"""Accuracy, pass@k, maj@k, agreement, completion length and truncation rate as torchmetrics (see `per_problem`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lemma.metrics.functional import as_list, pass_at_k
from lemma.metrics.per_problem import NOT_SEEN, PerProblem
from lemma.metrics.plots import plot_over_k
from lemma.metrics.voting import agreement, maj_at_k

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Accuracy(PerProblem):
    """Share of the problems whose one completion is correct.

    Args:
        num_problems: Size P of the benchmark.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: If ``num_problems < 1``.
    """

    higher_is_better = True
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
        return self.correct.double().masked_fill(self.correct == NOT_SEEN, torch.nan)


class _OverK(PerProblem):
    """What pass@k and maj@k share: several k of one set of samples, and the curve over all of them."""

    higher_is_better = True
    name: str

    def __init__(self, num_problems: int, num_samples: int, ks: int | Sequence[int], **kwargs: Any) -> None:
        super().__init__(num_problems, **kwargs)
        self.num_samples, self.ks = num_samples, tuple(as_list(ks))
        if max(self.ks) > num_samples:
            raise ValueError(f"Expected `ks` between 1 and `num_samples` = {num_samples}, but got {max(self.ks)}.")
        self._add_rows("correct", num_samples)

    def plot(self, val: Tensor | None = None, ax: "Axes | None" = None) -> "tuple[Figure, Axes]":
        """Draw the figure over k = 1..n with its 95 % bootstrap band; every rank must call it, as `per_problem`.

        Args:
            val: Values of the problems, shape (P, n), column k - 1 for k; None takes what was recorded.
            ax: Axes to draw into; None makes a figure.

        Returns:
            Figure and axes.

        Raises:
            ValueError: If no problem was seen.
        """
        if val is None:
            val = self._merged(lambda: self._values_at(range(1, self.num_samples + 1)))
        return plot_over_k(val, name=self.name, ax=ax)

    def _values(self) -> Tensor:
        return self._values_at(self.ks)

    def _values_at(self, ks: Sequence[int]) -> Tensor:
        """Return each problem's value at each k, shape (P, K), nan where it was not seen."""
        seen = self.correct[:, 0] != NOT_SEEN
        values = torch.full((self.num_problems, len(ks)), torch.nan, dtype=torch.float64, device=self.correct.device)
        values[seen] = self._values_of(seen, ks)
        return values

    def _values_of(self, seen: Tensor, ks: Sequence[int]) -> Tensor:
        raise NotImplementedError


class PassAtK(_OverK):
    """Mean over problems of the unbiased pass@k (`lemma.metrics.pass_at_k`), for one or several k.

    Args:
        num_problems: Size P of the benchmark.
        num_samples: Samples n of each problem.
        ks: Samples drawn, each between 1 and n; ``compute`` gives as many values, in this order.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: If ``num_problems < 1`` or a k is not between 1 and ``num_samples``.
    """

    name = "pass@k"
    correct: Tensor

    def update(self, index: Tensor, correct: Tensor) -> None:
        """Record problems with all their samples.

        Args:
            index: Indices of the problems, shape (B,), from 0.
            correct: Whether each sample is correct, shape (B, n), bool.

        Raises:
            ValueError: If an index is out of range or the shapes do not agree.
        """
        self._merge("correct", index, correct)

    def _values_of(self, seen: Tensor, ks: Sequence[int]) -> Tensor:
        num_correct = (self.correct[seen] == 1).sum(dim=1)
        return pass_at_k(num_correct, torch.full_like(num_correct, self.num_samples), ks)


class MajAtK(_OverK):
    """Mean over problems of maj@k (`lemma.metrics.maj_at_k`), for one or several k.

    Args:
        num_problems: Size P of the benchmark.
        num_samples: Samples n of each problem.
        ks: Samples that vote, each between 1 and n; ``compute`` gives as many values, in this order.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: If ``num_problems < 1`` or a k is not between 1 and ``num_samples``.
    """

    name = "maj@k"
    votes: Tensor
    correct: Tensor

    def __init__(self, num_problems: int, num_samples: int, ks: int | Sequence[int], **kwargs: Any) -> None:
        super().__init__(num_problems, num_samples, ks, **kwargs)
        self._add_rows("votes", num_samples)

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

    def _values_of(self, seen: Tensor, ks: Sequence[int]) -> Tensor:
        return maj_at_k(self.votes[seen], self.correct[seen] == 1, ks)


class _OfSamples(PerProblem):
    """What the remaining ones share: a state of one number a sample."""

    rows: Tensor

    def __init__(self, num_problems: int, num_samples: int, **kwargs: Any) -> None:
        super().__init__(num_problems, **kwargs)
        if num_samples < 1:
            raise ValueError(f"Expected `num_samples` to be at least 1, but got {num_samples}.")
        self._add_rows("rows", num_samples)

    def _values(self) -> Tensor:
        return self.rows.double().mean(dim=1).masked_fill(self.rows[:, 0] == NOT_SEEN, torch.nan)


class CompletionLength(_OfSamples):
    """Mean over problems of the mean length of their completions, in tokens.

    Args:
        num_problems: Size P of the benchmark.
        num_samples: Completions n of each problem.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: If ``num_problems < 1`` or ``num_samples < 1``.
    """

    def update(self, index: Tensor, num_tokens: Tensor) -> None:
        """Record problems with all their completions.

        Args:
            index: Indices of the problems, shape (B,), from 0.
            num_tokens: Tokens of each completion, shape (B, n), integer.

        Raises:
            ValueError: If an index is out of range or the shapes do not agree.
        """
        self._merge("rows", index, num_tokens)


class TruncationRate(_OfSamples):
    """Mean over problems of the share of their completions that the length limit cut.

    Args:
        num_problems: Size P of the benchmark.
        num_samples: Completions n of each problem.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: If ``num_problems < 1`` or ``num_samples < 1``.
    """

    higher_is_better = False

    def update(self, index: Tensor, truncated: Tensor) -> None:
        """Record problems with all their completions.

        Args:
            index: Indices of the problems, shape (B,), from 0.
            truncated: Whether each completion was cut, shape (B, n), bool.

        Raises:
            ValueError: If an index is out of range or the shapes do not agree.
        """
        self._merge("rows", index, truncated)


class Agreement(_OfSamples):
    """Mean over problems of the chance that two samples agree (`lemma.metrics.agreement`).

    Args:
        num_problems: Size P of the benchmark.
        num_samples: Samples n of each problem, at least 2.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: If ``num_problems < 1`` or ``num_samples < 2``.
    """

    def __init__(self, num_problems: int, num_samples: int, **kwargs: Any) -> None:
        super().__init__(num_problems, num_samples, **kwargs)
        if num_samples < 2:
            raise ValueError(f"Expected `num_samples` to be at least 2, but got {num_samples}.")
        self._add_rows("seen")

    def update(self, index: Tensor, votes: Tensor) -> None:
        """Record problems with all their samples.

        Args:
            index: Indices of the problems, shape (B,), from 0.
            votes: As in `MajAtK.update`, shape (B, n).

        Raises:
            ValueError: If an index is out of range or the shapes do not agree.
        """
        self._merge("rows", index, votes)
        self._merge("seen", index, torch.ones_like(index))

    def _values(self) -> Tensor:
        return agreement(self.rows).masked_fill(self.seen == NOT_SEEN, torch.nan)
