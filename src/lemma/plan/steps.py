"""The algebra of a batch: how many examples, tokens and optimiser steps the flags amount to."""

import math
from dataclasses import dataclass
from typing import NamedTuple


class SampledBatch(NamedTuple):
    """The most that is sampled at once on one device.

    Attributes:
        rows: Completions.
        length: Tokens of each, its prompt included.
    """

    rows: int
    length: int


class Work(NamedTuple):
    """What a run computes on one device.

    Attributes:
        text: Batches, lengths and steps, in lines.
        positions: Tokens of the largest micro-batch, padding included.
        sampled: What is sampled for training; None where nothing is.
    """

    text: str
    positions: int
    sampled: SampledBatch | None = None


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
        return total_steps(self.per_epoch, max_steps=self.max_steps, max_epochs=self.max_epochs)


def total_steps(per_epoch: int | None, *, max_steps: int | None, max_epochs: int | None) -> int | None:
    """Return the optimiser steps of a run, or None if they depend on data that has not been read.

    Args:
        per_epoch: Optimiser steps of an epoch, or None where the data has not been read.
        max_steps: Optimiser steps after which training ends, or None.
        max_epochs: Epochs after which it ends, or None.
    """
    if max_epochs is not None and per_epoch is None:
        return None
    by_epochs = None if max_epochs is None else max_epochs * per_epoch
    return min((bound for bound in (max_steps, by_epochs) if bound is not None), default=None)


def run_text(total: int | None, *, max_steps: int | None, max_epochs: int | None) -> str:
    """Return a line on when the run ends.

    Args:
        total: Of ``total_steps``.
        max_steps: As there.
        max_epochs: As there.
    """
    bounds = [f"{max_epochs} epochs"] if max_epochs is not None else []
    bounds += [f"at most {max_steps:,} optimiser steps"] if max_steps is not None else []
    end = f"{total:,} optimiser steps" if total is not None else ", ".join(bounds) or "without end"
    return f"The run: {end}."
