"""Layouts turn examples into tensors. ``padded`` is one completion a row, right-padded."""

import torch
from torch import Tensor

from lemma.encoding.chat import Example


class Batch:
    """One micro-batch of N completions.

    No dataclass on purpose: Lightning's precision plugins convert the floating-point tensors of any collection or
    dataclass, and under ``bf16-true`` a normaliser of three digits would be a wrong loss.

    Attributes:
        input_ids: (B, L) long.
        attention_mask: (B, L) bool, True on real tokens.
        completion_mask: (B, L) bool, True on completion tokens.
        weights: (N,) float32, weight of each completion's tokens in the loss; 0 for a row that only fills a turn.
        window_weight: () float32, sum of weight x completion tokens over the whole window, all ranks included.
        num_tokens: Real tokens of the rows that count, prompts included.
    """

    def __init__(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        completion_mask: Tensor,
        weights: Tensor,
        window_weight: Tensor,
        num_tokens: int,
    ) -> None:
        self.input_ids = input_ids
        self.attention_mask = attention_mask
        self.completion_mask = completion_mask
        self.weights = weights
        self.window_weight = window_weight
        self.num_tokens = num_tokens

    @property
    def num_positions(self) -> int:
        """Return the positions that are computed, padding included."""
        return self.input_ids.numel()

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on a device."""
        return Batch(**{n: value.to(device) if isinstance(value, Tensor) else value for n, value in vars(self).items()})


def padded(examples: list[Example], *, pad_id: int, window_weight: float) -> Batch:
    """Lay out each completion with its prompt on a row of its own, padded on the right.

    Args:
        examples: At least one.
        pad_id: Id to fill with; masks never depend on it.
        window_weight: The window's normaliser.
    """
    rows = [(e.prompt_ids, completion, e.weight) for e in examples for completion in e.completions]
    length = max(len(prompt) + len(completion) for prompt, completion, _ in rows)
    input_ids = torch.full((len(rows), length), pad_id)
    attention_mask = torch.zeros(len(rows), length, dtype=torch.bool)
    completion_mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, (prompt, completion, _) in enumerate(rows):
        end = len(prompt) + len(completion)
        input_ids[i, :end] = torch.tensor(prompt + completion)
        attention_mask[i, :end] = True
        completion_mask[i, len(prompt) : end] = True
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        completion_mask=completion_mask,
        weights=torch.tensor([weight for *_, weight in rows], dtype=torch.float32),
        window_weight=torch.tensor(window_weight, dtype=torch.float32),
        num_tokens=sum(len(prompt) + len(completion) for prompt, completion, weight in rows if weight > 0),
    )
