"""Decides how hidden states become log-probabilities of completion tokens: shift, gather, head in chunks."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def completion_logps(
    hidden: Tensor,  # (B, L, H)
    input_ids: Tensor,  # (B, L) long
    completion_index: Tensor,  # (M,) long
    mask: Tensor,  # (N, T) bool
    *,
    head: Callable[[Tensor], Tensor],
    chunk_size: int = 2048,
) -> Tensor:  # (N, T) float32 (float64 for a float64 model)
    """Return the log-probability of each completion token given all tokens before it.

    The hidden state at position j predicts the token at j + 1; this is the one place that knows it. Only the
    completions' positions pass through the head, ``chunk_size`` at a time, and each chunk's logits are computed again
    in the backward pass, so that no tensor of B x T x V values exists.

    Args:
        hidden: Final hidden states of the backbone.
        input_ids: Prompts and completions, laid out in rows.
        completion_index: Positions of the M completion tokens in the flattened (B x L), completion after completion.
        mask: True on the tokens of each completion, left-aligned to the longest one's length T; M are True.
        head: Maps (m, H) hidden states to (m, V) logits.
        chunk_size: Token positions for which logits exist at once.

    Returns:
        Log-probabilities in nats, 0 where the mask is False.
    """
    states = hidden.flatten(0, 1)[completion_index - 1]  # (M, H)
    targets = input_ids.flatten()[completion_index]  # (M,)
    flat = torch.cat(
        [
            checkpoint(_chunk_logps, head, *chunk, use_reentrant=False)
            for chunk in zip(states.split(chunk_size), targets.split(chunk_size), strict=True)
        ]
    )
    return flat.new_zeros(mask.shape).masked_scatter(mask, flat)


def _chunk_logps(head: Callable[[Tensor], Tensor], states: Tensor, targets: Tensor) -> Tensor:
    logits = head(states)  # (m, V)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.gather(-1, targets[:, None]).squeeze(-1) - logits.logsumexp(-1)
