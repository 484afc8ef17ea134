"""What a model is given at once: the tensors of some examples in any layout, and what their sums are divided by."""

import copy
from typing import Self

import numpy as np
import torch
from torch import Tensor


class Batch:
    """One micro-batch of N completions, in any layout.

    No dataclass on purpose: Lightning's precision plugins convert the floating-point tensors of any collection or
    dataclass, and under ``bf16-true`` a normaliser of three digits would be a wrong loss.

    Attributes:
        input_ids: (B, L) long.
        attention_mask: (B, L) bool, True on real tokens; None where ``position_ids`` alone say who attends to whom.
        position_ids: (B, L) long, from 0 in each sequence of a row; None for one sequence a row.
        completion_index: (M,) long, positions of completion tokens in (B x L) flattened, completion after completion.
        previous_index: (M,) long, position of the token before each; None where it is the position before.
        groups: (B, L) long, number of each token's example in the batch, -1 on padding. None where no two completions
            share a prompt.
        branches: (B, L) long, 0 on prompts, 1..n on the completions of an example; None where ``groups`` is.
        mask: (N, T) bool, True on the tokens of each completion, left-aligned.
        weights: (N,) float32, weight of each completion's tokens in the loss; 0 for one that only fills a turn.
        num_completions: Completions of each example; they stand one after the other.
        labels: (source, kind) of each example.
        window_weight: () float32, sum of weight x completion tokens over the whole window, all ranks included.
        window_examples: () float32, sum of the examples' weights over the window.
        ref_logps: (N,) float64, the reference's log-probability of each completion where it was computed beforehand.
        num_tokens: Real tokens that are computed for the examples that count: a prompt counts as often as it stands.
        window_sources: (corpora,) examples of each corpus in the window, all ranks included; None outside a window.
    """

    def __init__(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        completion_index: Tensor,
        mask: Tensor,
        weights: Tensor,
        window_weight: Tensor,
        num_tokens: int,
        num_completions: list[int],
        labels: list[tuple[str, str]],
        previous_index: Tensor | None = None,
        groups: Tensor | None = None,
        branches: Tensor | None = None,
        window_examples: Tensor | None = None,
        ref_logps: Tensor | None = None,
        window_sources: np.ndarray | None = None,
    ) -> None:
        self.input_ids = input_ids
        self.attention_mask = attention_mask
        self.position_ids = position_ids
        self.completion_index = completion_index
        self.mask = mask
        self.weights = weights
        self.window_weight = window_weight
        self.num_tokens = num_tokens
        self.num_completions = num_completions
        self.labels = labels
        self.previous_index = previous_index
        self.groups = groups
        self.branches = branches
        self.window_examples = window_examples
        self.ref_logps = ref_logps
        self.window_sources = window_sources

    @property
    def num_positions(self) -> int:
        """Return the positions that are computed, padding included."""
        return self.input_ids.numel()

    @property
    def completion_mask(self) -> Tensor:
        """Return (B, L) bool, True on completion tokens."""
        flat = torch.zeros(self.input_ids.numel(), dtype=torch.bool, device=self.input_ids.device)
        return flat.index_fill(0, self.completion_index, True).view_as(self.input_ids)

    def to(self, device: torch.device) -> Self:
        """Return the batch, of the same type, with its tensors on a device."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved
