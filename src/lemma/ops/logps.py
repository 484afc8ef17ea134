"""Decides how hidden states become log-probabilities of completion tokens: shift, gather, head in chunks."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def completion_logps(
    hidden: Tensor,  # (B, L, H)
    input_ids: Tensor,  # (B, L) long
    completion_mask: Tensor,  # (B, L) bool
    *,
    head: Callable[[Tensor], Tensor],
    chunk_size: int = 2048,
) -> tuple[Tensor, Tensor]:  # (B, T) float32 (float64 for a float64 model), (B, T) bool
    """Return the log-probability of each completion token given all tokens before it.

    The hidden state at position j predicts the token at j + 1; this is the one place that knows it. Only the
    completion's positions pass through the head, ``chunk_size`` at a time, and each chunk's logits are computed again
    in the backward pass, so that no tensor of B x T x V values exists.

    Args:
        hidden: Final hidden states of the backbone.
        input_ids: Prompt and completion of each row.
        completion_mask: True on completion tokens. A row's first token cannot be one, for nothing precedes it.
        head: Maps (M, H) hidden states to (M, V) logits.
        chunk_size: Token positions for which logits exist at once.

    Returns:
        Log-probabilities in nats, left-aligned to the longest completion's length T, 0 where the mask is False; and
        the mask.

    Raises:
        ValueError: If a row's first token is marked as completion.
    """
    if completion_mask[:, 0].any():
        raise ValueError("Expected a completion to follow at least one token, but a row's first token is marked.")
    predicted = completion_mask[:, 1:]  # (B, L - 1): position j - 1 predicts token j
    states = hidden[:, :-1][predicted]  # (M, H)
    targets = input_ids[:, 1:][predicted]  # (M,)
    flat = torch.cat(
        [
            checkpoint(_chunk_logps, head, *chunk, use_reentrant=False)
            for chunk in zip(states.split(chunk_size), targets.split(chunk_size), strict=True)
        ]
    )
    lengths = completion_mask.sum(1)  # (B,)
    mask = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]  # (B, T)
    return flat.new_zeros(mask.shape).masked_scatter(mask, flat), mask


def _chunk_logps(head: Callable[[Tensor], Tensor], states: Tensor, targets: Tensor) -> Tensor:
    logits = head(states)  # (m, V)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.gather(-1, targets[:, None]).squeeze(-1) - logits.logsumexp(-1)
