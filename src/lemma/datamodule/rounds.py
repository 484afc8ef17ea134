"""Decides in which order and in which rounds a module that draws trajectories is handed the training problems."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from lemma.rollouts import Round, RoundItem
from lemma.types import Problem

if TYPE_CHECKING:
    from lemma.datamodule.rollouts import Prompts


class Rounds:
    """The training problems in rounds: those of an epoch in its order, each once.

    Args:
        prompts: Knows the problems.
        size: Problems of a round; the last one may have fewer.

    Attributes:
        order: (n,) int64, indices of training examples.
    """

    def __init__(self, prompts: "Prompts", size: int) -> None:
        epoch = prompts.training.mixture.epoch_order(0)
        self.order = epoch[np.sort(np.unique(epoch, return_index=True)[1])]  # a weight may repeat a problem
        self._prompts = prompts
        self._size = size

    def __len__(self) -> int:
        """Return how many rounds there are."""
        return -(-len(self.order) // self._size)

    def __iter__(self) -> Iterator[Round]:
        """Yield the rounds."""
        for number, first in enumerate(range(0, len(self.order), self._size)):
            some = self.order[first : first + self._size].tolist()
            yield Round(number, [RoundItem(first + i, self._prompts.problem(index)) for i, index in enumerate(some)])

    def num_problems(self, num_rounds: int) -> int:
        """Return the problems of the first rounds."""
        return min(num_rounds * self._size, len(self.order))

    def longest(self, number: int) -> list[Problem]:
        """Return the problems with the longest prompts.

        Args:
            number: How many at most.
        """
        lengths = self._prompts.training.examples.lengths[self.order]
        some = self.order[np.argsort(-lengths, kind="stable")[:number]]
        return [self._prompts.problem(index) for index in some.tolist()]
