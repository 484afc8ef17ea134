"""The algebra of a batch: how many examples, tokens and optimiser steps the flags amount to."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Steps:
    """What one optimiser step sees, and how many there are.

    Attributes:
        batch_size: Examples a device and micro-step.
        accumulate: Micro-steps an optimiser step.
        ranks: Devices of all nodes.
        examples: Training examples of an epoch, or None where the data has not been read.
        max_steps: Optimiser steps after which training ends, or None.
        max_epochs: Epochs after which it ends, or None.
    """

    batch_size: int
    accumulate: int
    ranks: int
    examples: int | None
    max_steps: int | None
    max_epochs: int | None

    @property
    def window(self) -> int:
        """Return the examples of an optimiser step, all ranks together."""
        return self.batch_size * self.accumulate * self.ranks

    @property
    def per_epoch(self) -> int | None:
        """Return the optimiser steps of an epoch, the last of which may see fewer examples."""
        return None if self.examples is None else math.ceil(self.examples / self.window)

    @property
    def total(self) -> int | None:
        """Return the optimiser steps of the run, or None if they depend on data that has not been read."""
        by_epochs = None
        if self.max_epochs is not None and self.per_epoch is not None:
            by_epochs = self.max_epochs * self.per_epoch
        if self.max_epochs is not None and by_epochs is None:
            return None
        return min((bound for bound in (self.max_steps, by_epochs) if bound is not None), default=None)
