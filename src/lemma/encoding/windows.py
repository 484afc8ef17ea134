"""Cuts an epoch into optimiser windows, and windows into the micro-batches of each rank.

1. An epoch is an order of examples, the same on every rank (``corpora.mixture`` makes it from seed and epoch).
2. A *window* is what one optimiser step sees: batch_size x accumulate x ranks consecutive examples, the last fewer.
3. Its normalisers, the sums of weight x completion tokens and of the examples' weights, are known before the first
   micro-batch, because lengths are.
4. Micro-batch m of rank r takes the examples [(m x ranks + r) x batch_size, + batch_size) of the window. In a short
   window every rank still takes the same number of micro-batches; one that finds no example left repeats the window's
   shortest with weight 0, so that collectives match and gradients do not change.
5. Where a row holds one sequence, a window's examples are sorted by length first: similar ones share a micro-batch,
   and the micro-batches that ranks compute at the same time are neighbours. By 3 this changes no gradient.
6. On demand (``LengthGrouping.span``) examples are sorted across many windows, too. That does change which examples
   share a window.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lemma.encoding.batch import Batch
from lemma.encoding.chat import Example
from lemma.encoding.examples import Examples
from lemma.types import InputError


@dataclass(frozen=True)
class Geometry:
    """How a window is cut.

    Attributes:
        batch_size: Examples a micro-batch and rank: sequences, or pairs.
        accumulate: Micro-batches a rank and optimiser step.
        num_ranks: Processes that share the window.
        rank: This process, from 0.
    """

    batch_size: int
    accumulate: int = 1
    num_ranks: int = 1
    rank: int = 0

    @property
    def window_size(self) -> int:
        """Return the examples of a full window."""
        return self.batch_size * self.accumulate * self.num_ranks

    def describe_epoch(self, num_examples: int, noun: str) -> str:
        """Return a line on how an epoch of ``num_examples`` is cut; ``noun`` is what they are."""
        return (
            f"An epoch is {num_examples} {noun} in windows of {self.window_size} (batch_size {self.batch_size} x "
            f"accumulate {self.accumulate} x ranks {self.num_ranks}): {math.ceil(num_examples / self.window_size)} "
            "optimiser steps."
        )

    def num_micro_batches(self, num_examples: int) -> int:
        """Return the micro-batches that one rank sees in an epoch of ``num_examples``."""
        full, rest = divmod(num_examples, self.window_size)
        return full * self.accumulate + math.ceil(rest / (self.batch_size * self.num_ranks))


@dataclass(frozen=True)
class LengthGrouping:
    """How examples of similar length come to share a micro-batch.

    Attributes:
        lengths: (num_examples,) tokens of each example's longest sequence.
        span: Windows across which examples are exchanged; 1 leaves every window the examples it has.
        seed: Of the order of windows within a span.
    """

    lengths: np.ndarray
    span: int = 1
    seed: int = 0

    def regroup(self, order: np.ndarray, epoch: int, window_size: int) -> np.ndarray:
        """Return an epoch's order with windows of similar lengths, the windows of a span in random order.

        The examples of a last, partial window stay where they are, for any rule would put the longest or the shortest
        into the one window in which an example weighs more.

        Args:
            order: (num_examples,) indices of examples.
            epoch: Counted from 0; with the seed it decides the order of windows.
            window_size: Examples of a window.
        """
        if self.span == 1:
            return order
        generator = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(_WINDOWS, epoch)))
        whole = len(order) // window_size * window_size
        regrouped = [order[:0]]
        for start in range(0, whole, self.span * window_size):
            span = self.by_length(order[start : min(start + self.span * window_size, whole)])
            regrouped.append(generator.permutation(span.reshape(-1, window_size)).ravel())
        return np.concatenate([*regrouped, order[whole:]])

    def by_length(self, indices: np.ndarray) -> np.ndarray:
        """Return indices of examples, the longest first: what does not fit into memory fails at once."""
        return indices[np.argsort(-self.lengths[indices], kind="stable")]


_WINDOWS = 2  # what a generator is for; corpora.mixture counts from 0


@dataclass(frozen=True)
class MicroBatch:
    """Indices of a micro-batch's examples (empty: a turn without work), and its window's indices."""

    indices: np.ndarray
    window: np.ndarray


def plan(order: np.ndarray, geometry: Geometry, grouping: LengthGrouping | None = None) -> Iterator[MicroBatch]:
    """Yield one rank's micro-batches of an epoch, in order.

    Args:
        order: (num_examples,) indices of examples.
        geometry: How windows are cut.
        grouping: Sorts each window by length; None keeps the order.
    """
    turn = geometry.batch_size * geometry.num_ranks
    for start in range(0, len(order), geometry.window_size):
        window = order[start : start + geometry.window_size]
        ordered = window if grouping is None else grouping.by_length(window)
        for first in range(0, len(window), turn):
            begin = first + geometry.rank * geometry.batch_size
            yield MicroBatch(ordered[begin : begin + geometry.batch_size], window)


class PlannedExamples(Dataset):
    """Maps a planned micro-batch to its tensors.

    Args:
        examples: All examples of the run.
        layout: Turns (examples, window_weight) into a batch.
    """

    def __init__(self, examples: Examples, layout: Callable[[list[Example], float], Batch]) -> None:
        self.examples = examples
        self.layout = layout

    def __getitem__(self, micro_batch: MicroBatch) -> Batch:
        """Return the batch of a micro-batch, with its window's normalisers and how many examples of each corpus."""
        window, indices = micro_batch.window, micro_batch.indices
        if len(indices):
            some = [self.examples[i] for i in indices]
        else:
            indices = window[[np.argmin(self.examples.lengths[window])]]
            some = [replace(self.examples[indices[0]], weight=0.0)]
        batch = self.layout(some, float(self.examples.completion_weights[window].sum()))
        batch.window_examples = torch.tensor(self.examples.weights[window].sum(), dtype=torch.float32)
        if self.examples.ref_logps is not None:
            batch.ref_logps = torch.from_numpy(self.examples.ref_logps[indices].ravel())  # (E, n) -> (N,)
        batch.window_sources = np.bincount(self.examples.corpus[window], minlength=len(self.examples.parts))
        return batch


class PlannedSampler(Sampler[MicroBatch]):
    """Yields the micro-batches of one epoch from a position on.

    Args:
        epoch_order: Maps an epoch to its order of example indices; every epoch has the same length.
        geometry: How windows are cut.
        grouping: Brings similar lengths together; None keeps the order.
    """

    def __init__(
        self,
        epoch_order: Callable[[int], np.ndarray],
        geometry: Geometry,
        grouping: LengthGrouping | None = None,
    ) -> None:
        self.epoch_order = epoch_order
        self.geometry = geometry
        self.grouping = grouping
        self.epoch = 0
        self.position = 0
        self._length = geometry.num_micro_batches(len(epoch_order(0)))

    def __len__(self) -> int:
        """Return the micro-batches of a whole epoch, whatever the position."""
        return self._length

    def __iter__(self) -> Iterator[MicroBatch]:
        """Yield the rest of the current epoch."""
        order = self.epoch_order(self.epoch)
        if self.grouping is not None:
            order = self.grouping.regroup(order, self.epoch, self.geometry.window_size)
        for number, micro_batch in enumerate(plan(order, self.geometry, self.grouping)):
            if number >= self.position:
                yield micro_batch


class PlannedLoader(DataLoader):
    """A loader whose position is part of the checkpoint: the next batch after a resume is the next batch.

    The position counts batches handed out, not batches fetched ahead by workers. The base class would draw its
    workers' seed from the global generator, and thereby change dropout after a resume; this one brings its own.

    Args:
        dataset: Maps micro-batches to tensors.
        sampler: Plans them.
        **options: Passed on to ``DataLoader`` (``num_workers``, ``pin_memory``).
    """

    def __init__(self, dataset: PlannedExamples, sampler: PlannedSampler, **options) -> None:
        super().__init__(dataset, sampler=sampler, batch_size=None, generator=torch.Generator(), **options)
        self._started = False

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of a resumed epoch, or the next epoch."""
        if self._started:
            self.sampler.epoch, self.sampler.position = self.sampler.epoch + 1, 0
        self._started = True
        for batch in super().__iter__():
            self.sampler.position += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return epoch, position in micro-batches, and what gives the position its meaning.

        ``grouped_windows`` is the number of windows across which examples are sorted by length, 0 if they are not.
        """
        geometry, grouping = self.sampler.geometry, self.sampler.grouping
        return {
            "epoch": self.sampler.epoch,
            "position": self.sampler.position,
            "num_micro_batches": len(self.sampler),
            "accumulate": geometry.accumulate,
            "window_size": geometry.window_size,
            "grouped_windows": 0 if grouping is None else grouping.span,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a saved position.

        Raises:
            InputError: If the data or the window differ from the checkpoint's, so that the position means nothing.
        """
        here = self.state_dict()
        for key in ("num_micro_batches", "accumulate", "window_size", "grouped_windows"):
            if state[key] != here[key]:
                raise InputError(
                    f"ckpt_path: the checkpoint was written with {key} = {state[key]}, this run has {here[key]}. A run "
                    "resumes with the data, layout, batch size, accumulation and devices it had; to go on from the "
                    "adapter alone, use --model.policy.adapter."
                )
        finished = state["position"] >= len(self.sampler)
        self.sampler.epoch = state["epoch"] + finished
        self.sampler.position = 0 if finished else state["position"]
        self._started = False
