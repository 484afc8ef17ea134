"""What a rank holds of a rollout while it trains on it: groups, advantages, log-probabilities, and the place of each.

Completions are numbered group after group; these numbers are the rows. Each micro-batch is a run of rows, and
consecutive micro-batches make the windows.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Self

import torch
from torch import Tensor

from lemma.encoding import Batch, Example
from lemma.generation import Sample
from lemma.objectives import Window
from lemma.rollouts.batch import RolloutBatch
from lemma.rollouts.groups import Group

_LOGPS = ("old_logps", "ref_logps")


class Rollout:
    """The groups of one rank, all of one size, with what training needs of each of their N completions.

    Args:
        groups: At least one.
        advantages: (N,) float.
        counted: (N,) bool, False for completions that the loss is not to see.
        max_length: Tokens that a completion may have.

    Attributes:
        windows: (W, 2 + C) long, what ``window_counts`` says of each window, summed over all ranks; whoever sums it
            sets it, before the first batch is made.

    Raises:
        ValueError: If the sizes do not fit.
    """

    def __init__(self, groups: Sequence[Group], advantages: Tensor, counted: Tensor, *, max_length: int) -> None:
        self.groups = list(groups)
        self.group_size = len(self.groups[0].samples)
        size = len(self.groups) * self.group_size
        if {len(group.samples) for group in self.groups} != {self.group_size}:
            raise ValueError(f"Expected groups of {self.group_size} completions each, but got others.")
        if advantages.shape != (size,) or counted.shape != (size,):
            shapes = f"{tuple(advantages.shape)} and {tuple(counted.shape)}"
            raise ValueError(f"Expected `advantages` and `counted` of shape ({size},), but got {shapes}.")
        self.advantages = advantages.detach().float().cpu()
        self.counted = counted.cpu()
        self.max_length = max_length
        self.windows: Tensor | None = None
        self._logps: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Return the number N of completions."""
        return len(self.groups) * self.group_size

    @property
    def lengths(self) -> Tensor:
        """Return (N,) long, the tokens of each completion."""
        return torch.tensor([len(sample.ids) for group in self.groups for sample in group.samples])

    @property
    def stopped(self) -> Tensor:
        """Return (N,) bool, whether a stop token ended each completion."""
        return torch.tensor([sample.stopped for group in self.groups for sample in group.samples])

    def micro_batches(self, size: int) -> list[list[int]]:
        """Return the rows of each micro-batch, every row once.

        Args:
            size: Completions of a micro-batch.

        Raises:
            ValueError: If the completions cannot be cut so.
        """
        if len(self) % size:
            raise ValueError(f"Expected `size` to divide {len(self)} completions, but got {size}.")
        return [list(range(first, first + size)) for first in range(0, len(self), size)]

    def window_counts(self, size: int, accumulate: int, num_corpora: int = 0) -> Tensor:
        """Return this rank's part of what each window holds, (W, 2 + C) long.

        Columns are the completions that count, their tokens, and the completions of each of the corpora.

        Args:
            size: Completions of a micro-batch.
            accumulate: Micro-batches of a window.
            num_corpora: C.
        """
        corpora = torch.tensor([group.corpus for group in self.groups]).repeat_interleave(self.group_size)
        of_corpus = corpora[:, None] == torch.arange(num_corpora)  # (N, C)
        counts = torch.cat([torch.stack([self.counted, self.counted * self.lengths], -1), of_corpus], -1).long()
        return counts.view(-1, size * accumulate, 2 + num_corpora).sum(1)

    def keep(self, name: str, rows: Sequence[int], logps: Tensor) -> None:
        """Keep log-probabilities of some completions for the batches to come.

        Args:
            name: ``old_logps`` or ``ref_logps``.
            rows: n completions.
            logps: (n, T) of their tokens, left-aligned.

        Raises:
            ValueError: If there is no such name.
        """
        if name not in _LOGPS:
            raise ValueError(f"Expected `name` among {', '.join(_LOGPS)}, but got {name!r}.")
        if name not in self._logps:
            self._logps[name] = torch.full((len(self), int(self.lengths.max())), torch.nan, dtype=logps.dtype)
        self._logps[name][torch.tensor(rows), : logps.shape[1]] = logps.detach().cpu()

    def sampled_logps(self, rows: Sequence[int]) -> Tensor:
        """Return (n, T) float32, the sampler's log-probabilities of some completions, left-aligned, then 0.

        Args:
            rows: n completions.
        """
        samples = [self._sample(row) for row in rows]
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(sample.logps) for sample in samples], batch_first=True)

    def batch(self, rows: Sequence[int], layout: Callable[[list[Example]], Batch], window: int) -> RolloutBatch:
        """Return the batch of some completions, in their order.

        Args:
            rows: n completions, in increasing order.
            layout: From examples to a batch, such as ``RolloutLayout.layout``.
            window: Number of the window that they are in.

        Raises:
            ValueError: If ``windows`` is not set yet.
        """
        if self.windows is None:
            raise ValueError("Expected `windows` to be set before a batch is made, but got None.")
        batch, place = layout(self._examples(rows)), torch.tensor(rows)
        sequences, tokens, *corpora = self.windows[window]
        rollout_batch = RolloutBatch.of(
            batch,
            old_logps=self._kept("old_logps", place, batch.mask),
            ref_logps=self._kept("ref_logps", place, batch.mask),
            advantages=self.advantages[place],
            counted=self.counted[place],
            sampler_logps=self.sampled_logps(rows),
            window=Window(sequences, tokens, self.max_length),
        )
        rollout_batch.window_sources = torch.stack(corpora).numpy() if corpora else None
        return rollout_batch

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as tensors and primitives, which ``torch.load`` reads with ``weights_only``."""
        return {
            "groups": [group.state_dict() for group in self.groups],
            "advantages": self.advantages,
            "counted": self.counted,
            "max_length": self.max_length,
            "windows": self.windows,
            "logps": dict(self._logps),
        }

    @classmethod
    def load_state_dict(cls, state: dict[str, Any]) -> Self:
        """Return the rollout that ``state_dict`` was taken of."""
        groups = [Group.load_state_dict(group) for group in state["groups"]]
        rollout = cls(groups, state["advantages"], state["counted"], max_length=state["max_length"])
        rollout.windows = state["windows"]
        rollout._logps = dict(state["logps"])
        return rollout

    def _sample(self, row: int) -> Sample:
        return self.groups[row // self.group_size].samples[row % self.group_size]

    def _examples(self, rows: Sequence[int]) -> list[Example]:
        """Return an example for each group that some completions are of, with these completions."""
        examples = []
        for number, members in groupby(rows, key=lambda row: row // self.group_size):
            group = self.groups[number]
            completions = [self._sample(row).ids for row in members]
            examples.append(Example(group.problem.id, group.problem.source, group.prompt_ids, completions))
        return examples

    def _kept(self, name: str, rows: Tensor, mask: Tensor) -> Tensor | None:
        """Return (n, T) what is kept, 0 beyond each completion's end; None if anything is missing."""
        if name not in self._logps:
            return None
        logps = self._logps[name][rows, : mask.shape[1]].masked_fill(~mask, 0.0)
        return None if logps.isnan().any() else logps
