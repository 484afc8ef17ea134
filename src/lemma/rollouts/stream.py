"""Decides which problem comes next: those of each epoch's order, epoch after epoch."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lemma.types import InputError


class Draws(NamedTuple):
    """Some problems of the stream.

    Attributes:
        indices: (n,) int64, of examples.
        places: (n,) int64, how many came before each since the stream began, over all epochs; no two are the same.
    """

    indices: np.ndarray
    places: np.ndarray


class PromptStream:
    """The problems in the order in which they are asked; the same on every rank.

    Args:
        epoch_order: Maps an epoch to its order of example indices; every epoch has the same length, at least 1.
    """

    def __init__(self, epoch_order: Callable[[int], np.ndarray]) -> None:
        self._epoch_order = epoch_order
        self._epoch, self._position = 0, 0
        self._order = epoch_order(0)

    @property
    def epoch_length(self) -> int:
        """Return the problems of an epoch."""
        return len(self._order)

    def take(self, number: int) -> np.ndarray:
        """Return the indices of the next examples, (number,) int64; after an epoch's last comes the next one's first.

        Args:
            number: How many.
        """
        return self.draw(number).indices

    def draw(self, number: int) -> Draws:
        """Return the next examples with their places in the stream.

        Args:
            number: How many.
        """
        first = self._epoch * self.epoch_length + self._position
        taken: list[np.ndarray] = [self._order[:0]]
        while number > 0:
            if self._position == self.epoch_length:
                self._go_to(self._epoch + 1, 0)
            taken.append(self._order[self._position : self._position + number])
            self._position += len(taken[-1])
            number -= len(taken[-1])
        indices = np.concatenate(taken)
        return Draws(indices, np.arange(first, first + len(indices)))

    def state_dict(self) -> dict[str, int]:
        """Return epoch and position, and the length that gives the position its meaning."""
        return {"epoch": self._epoch, "position": self._position, "epoch_length": self.epoch_length}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a saved position.

        Raises:
            InputError: If an epoch had another length.
        """
        if state["epoch_length"] != self.epoch_length:
            raise InputError(
                f"ckpt_path: the checkpoint was written with {state['epoch_length']} problems an epoch, this run has "
                f"{self.epoch_length}. A run resumes with the data it had; to go on from the adapter alone, use "
                "--model.policy.adapter."
            )
        self._go_to(state["epoch"], state["position"])

    def _go_to(self, epoch: int, position: int) -> None:
        if epoch != self._epoch:
            self._order = self._epoch_order(epoch)
        self._epoch, self._position = epoch, position
