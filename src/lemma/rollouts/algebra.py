"""Decides which numbers of problems, completions, micro-batches and ranks go together, and how a rollout is cut.

1. A rollout is ``problems x group_size`` completions over all ranks, and each rank has as many problems.
2. A window, which is an optimiser step, is ``batch_size x accumulate x ranks`` completions; a rollout is whole windows.
3. A micro-batch is whole groups, or a whole part of one: ``batch_size`` is a multiple or a divisor of ``group_size``.
4. Problems are dealt to ranks a micro-batch at a time, so that a window of whole groups has the same problems on any
   number of ranks.
5. The rollout is gone through ``num_iterations`` times, in the same windows.
"""

from dataclasses import dataclass

import numpy as np

from lemma.types import InputError

_SHOWN = 6  # numbers that a message lists


@dataclass(frozen=True)
class RolloutSize:
    """The numbers of a rollout.

    Attributes:
        problems: Problems of a rollout, over all ranks.
        group_size: Completions of a problem.
        batch_size: Completions per device and micro-step.
        accumulate: Micro-batches a rank and optimiser step.
        ranks: Processes.
        num_iterations: Times that a rollout is trained on.
    """

    problems: int
    group_size: int
    batch_size: int
    accumulate: int = 1
    ranks: int = 1
    num_iterations: int = 1

    @property
    def completions(self) -> int:
        """Return the completions of a rollout, over all ranks."""
        return self.problems * self.group_size

    @property
    def window_size(self) -> int:
        """Return the completions of an optimiser step, over all ranks."""
        return self.batch_size * self.accumulate * self.ranks

    @property
    def micro_batches(self) -> int:
        """Return the micro-batches of a rank, each time that a rollout is trained on."""
        return self.completions // (self.batch_size * self.ranks)

    @property
    def windows(self) -> int:
        """Return the optimiser steps of a rollout, each time that it is trained on."""
        return self.completions // self.window_size

    @property
    def steps_per_rollout(self) -> int:
        """Return the optimiser steps of a rollout."""
        return self.windows * self.num_iterations

    def share(self, rank: int) -> np.ndarray:
        """Return which problems of a rollout are a rank's, (problems / ranks,) int64, in the order of its groups.

        Args:
            rank: A process, from 0.
        """
        problems = np.arange(self.problems)
        at_once = max(1, self.batch_size // self.group_size)
        return problems[problems // at_once % self.ranks == rank]

    def describe(self) -> str:
        """Return a line for the set-up report."""
        steps = "1 optimiser step" if self.windows == 1 else f"{self.windows} optimiser steps"
        passes = "1 pass" if self.num_iterations == 1 else f"{self.num_iterations} passes"
        return (
            f"{self.problems} problems x {self.group_size} completions = {self.completions} a rollout; {steps} of "
            f"{self.window_size} (batch_size {self.batch_size} x accumulate {self.accumulate} x ranks {self.ranks}), "
            f"{passes}"
        )

    def check(self) -> None:
        """Refuse numbers that cannot be cut as above.

        Raises:
            InputError: Names the keys and the values, and those that would do.
        """
        least = {"problems": 1, "group_size": 2, "batch_size": 1, "accumulate": 1, "ranks": 1, "num_iterations": 1}
        for name, lowest in least.items():
            if (value := getattr(self, name)) < lowest:
                raise InputError(f"{_KEYS[name]}: expected at least {lowest}, but got {value}.")
        if self.problems % self.ranks:
            below = self.problems // self.ranks * self.ranks
            nearest = " or ".join(str(number) for number in (below, below + self.ranks) if number)
            raise InputError(
                f"model.problems_per_rollout: expected a multiple of the {self.ranks} ranks (trainer.devices x "
                f"trainer.num_nodes), but got {self.problems}. Nearest: {nearest}."
            )
        if self.batch_size % self.group_size and self.group_size % self.batch_size:
            raise InputError(
                f"data.batch_size: expected a multiple or a divisor of model.group_size = {self.group_size}, but got "
                f"{self.batch_size}. {self._remedy()}"
            )
        if self.completions % self.window_size:
            raise InputError(
                f"model.problems_per_rollout x model.group_size: expected {self.problems} x {self.group_size} = "
                f"{self.completions} to be a multiple of the window, data.batch_size x trainer.accumulate_grad_batches "
                f"x ranks (trainer.devices x trainer.num_nodes) = {self.batch_size} x {self.accumulate} x {self.ranks} "
                f"= {self.window_size}. {self._remedy()}"
            )

    def valid_cuts(self) -> list[tuple[int, int]]:
        """Return every (batch_size, accumulate) that ``check`` takes for these problems, groups and ranks."""
        mine, rest = divmod(self.completions, self.ranks)
        if rest or self.problems % self.ranks:
            return []
        sizes = [size for size in _divisors(mine) if size % self.group_size == 0 or self.group_size % size == 0]
        return [(size, accumulate) for size in sizes for accumulate in _divisors(mine // size)]

    def _remedy(self) -> str:
        """Return what to set instead: batch sizes for this accumulation, accumulations for this batch size."""
        cuts = self.valid_cuts()
        sizes = [size for size, accumulate in cuts if accumulate == self.accumulate]
        accumulations = [accumulate for size, accumulate in cuts if size == self.batch_size]
        told = []
        if sizes:
            told.append(f"With this accumulation, batch_size may be {_nearest(sizes, self.batch_size)}.")
        if accumulations:
            nearest = _nearest(accumulations, self.accumulate)
            told.append(f"With this batch_size, accumulate_grad_batches may be {nearest}.")
        if not told:
            size, accumulate = min(cuts, key=self._distance_of)
            told.append(f"Nearest: batch_size {size} with accumulate_grad_batches {accumulate}.")
        return " ".join(told)

    def _distance_of(self, cut: tuple[int, int]) -> float:
        return _distance(cut[0], self.batch_size) + _distance(cut[1], self.accumulate)


_KEYS = {
    "problems": "model.problems_per_rollout",
    "group_size": "model.group_size",
    "batch_size": "data.batch_size",
    "accumulate": "trainer.accumulate_grad_batches",
    "ranks": "trainer.devices x trainer.num_nodes",
    "num_iterations": "model.num_iterations",
}


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _distance(one: int, other: int) -> float:
    """Return the larger by the smaller."""
    return max(one, other) / min(one, other)


def _nearest(numbers: list[int], wanted: int) -> str:
    chosen = sorted(sorted(numbers, key=lambda number: _distance(number, wanted))[:_SHOWN])
    return ", ".join(map(str, chosen))
