"""What the metrics share: states of one fixed-size row a problem, merged so that each problem counts once.

A row starts as "not seen" (-1) and ranks are merged by the maximum. So a problem that was seen twice, or on two ranks
(a distributed sampler repeats rows), counts once; a rank without rows changes nothing; and no rank ever gathers tensors
of another length, which aborts `cat` states. Where two sightings differ, the larger entry stands.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

NOT_SEEN = -1


class PerProblem(Metric):
    """Base of the metrics: rows by problem index, and the mean over the problems seen.

    Args:
        num_problems: Size P of the benchmark.
        **kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: If ``num_problems < 1``.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, num_problems: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_problems < 1:
            raise ValueError(f"Expected `num_problems` to be at least 1, but got {num_problems}.")
        self.num_problems = num_problems

    def per_problem(self) -> Tensor:
        """Return the value of each problem, nan for one not seen on any rank; shape (P,) or (P, K), float64.

        A collective call like `compute`: the ranks' states are merged for it and separated again after it, so every
        rank must make it. By-level means (``values[levels == 3].nanmean(0)``) and bootstrap intervals start from here.
        """
        return self._merged(self._values)

    def compute(self) -> Tensor:
        """Return the mean over the problems seen, float64, shape () or (K,); nan if none was."""
        return self._values().nanmean(dim=0)

    def _values(self) -> Tensor:
        """Return each problem's value by the state as it is, shape (P,) or (P, K)."""
        raise NotImplementedError

    def _merged(self, function: Callable[[], Tensor]) -> Tensor:
        """Return what a function of the states gives with the ranks' states merged."""
        if self._is_synced:  # inside a caller's own `sync_context`
            return function()
        with self.sync_context():
            return function()

    def _add_rows(self, name: str, num_columns: int | None = None) -> None:
        size = (self.num_problems,) if num_columns is None else (self.num_problems, num_columns)
        self.add_state(name, torch.full(size, NOT_SEEN, dtype=torch.long), dist_reduce_fx="max")

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
        index, rows = index.to(state.device), rows.to(state.device)
        target = index if rows.ndim == 1 else index[:, None].expand_as(rows)
        setattr(self, name, state.scatter_reduce(0, target.long(), rows.long(), reduce="amax"))
