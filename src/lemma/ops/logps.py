"""Decides how hidden states become log-probabilities of completion tokens: shift, gather, head in chunks.

Two ways lead through the head. A head that is a frozen matrix (LoRA training) is fused with the softmax, and the
backward pass multiplies what the forward pass has kept (``lemma.ops.frozen_head``). Any other head is called as a
module, and each chunk's logits are computed again in the backward pass.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lemma.ops.frozen_head import frozen_logps, frozen_logps_and_entropy
from lemma.ops.head import Head


def completion_logps(
    hidden: Tensor,  # (B, L, H)
    input_ids: Tensor,  # (B, L) long
    completion_index: Tensor,  # (M,) long
    mask: Tensor,  # (N, T) bool
    *,
    head: Head,
    previous_index: Tensor | None = None,  # (M,) long
    max_logits: int | None = None,
) -> Tensor:  # (N, T) float32 (float64 for a float64 model)
    """Return the log-probability of each completion token given all tokens before it.

    The hidden state of a token predicts the next one; this file is the one place that knows it. Only the completions'
    positions pass through the head, and only so many at a time that at most ``max_logits`` logits exist,
    forward and backward, whatever the vocabulary's size.

    Args:
        hidden: Final hidden states of the backbone.
        input_ids: Prompts and completions, laid out in rows.
        completion_index: Positions of the M completion tokens in the flattened (B x L), completion after completion.
        mask: True on the tokens of each completion, left-aligned to the longest one's length T; M are True.
        head: Maps hidden states to logits.
        previous_index: Position of the token before each of these, in the same flattening; None where it is the
            position before, as wherever a sequence stands on one stretch of a row.
        max_logits: Logits that exist at once, at least one position's; None for 2**24 (64 MB in float32) on the CPU,
            2**26 elsewhere. A frozen head needs that memory once, a called one four times; a soft cap adds
            one, the entropy two.

    Returns:
        Log-probabilities in nats, 0 where the mask is False. They have a first derivative only where the head is
        frozen.
    """
    states, targets = _predictors(hidden, input_ids, completion_index, previous_index)
    rows = _rows(head, states, max_logits)
    if (linear := head.frozen_linear()) is not None:
        flat = frozen_logps(states, targets, linear, rows=rows)
    else:
        chunks = zip(states.split(rows), targets.split(rows), strict=True)
        flat = torch.cat([checkpoint(_chunk_logps, head, *chunk, use_reentrant=False) for chunk in chunks])
    return _left_aligned(flat, mask)


def completion_logps_and_entropy(
    hidden: Tensor,  # (B, L, H)
    input_ids: Tensor,  # (B, L) long
    completion_index: Tensor,  # (M,) long
    mask: Tensor,  # (N, T) bool
    *,
    head: Head,
    previous_index: Tensor | None = None,  # (M,) long
    entropy_gradient: bool = False,
    max_logits: int | None = None,
) -> tuple[Tensor, Tensor]:  # (N, T), (N, T)
    r"""Return ``completion_logps`` and the entropy of the distribution that each token was drawn from.

    .. math:: H = -\sum_v p_v \log p_v

    Args:
        hidden: This and all others but one as for ``completion_logps``.
        input_ids: Prompts and completions.
        completion_index: Positions of completion tokens.
        mask: True on the tokens of each completion.
        head: Maps hidden states to logits.
        previous_index: Position of the token before each.
        entropy_gradient: Whether the entropy is differentiated (an entropy bonus) or only looked at. In the first case
            a frozen head, too, is called as a module.
        max_logits: Logits that exist at once.

    Returns:
        Log-probabilities and entropies in nats, both 0 where the mask is False.
    """
    states, targets = _predictors(hidden, input_ids, completion_index, previous_index)
    rows = _rows(head, states, max_logits)
    linear = None if entropy_gradient else head.frozen_linear()
    if linear is not None:
        logps, entropy = frozen_logps_and_entropy(states, targets, linear, rows=rows)
    else:
        chunks = zip(states.split(rows), targets.split(rows), strict=True)
        pairs = [checkpoint(_chunk_logps_and_entropy, head, *chunk, use_reentrant=False) for chunk in chunks]
        logps, entropy = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        entropy = entropy if entropy_gradient else entropy.detach()
    return _left_aligned(logps, mask), _left_aligned(entropy, mask)


def _predictors(
    hidden: Tensor, input_ids: Tensor, completion_index: Tensor, previous_index: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the (M, H) hidden states before the completion tokens, and the (M,) tokens."""
    previous = completion_index - 1 if previous_index is None else previous_index
    return hidden.flatten(0, 1)[previous], input_ids.flatten()[completion_index]


def _rows(head: Head, states: Tensor, max_logits: int | None) -> int:
    """Return the positions of one chunk."""
    if max_logits is None:
        max_logits = 2**24 if states.device.type == "cpu" else 2**26
    return max(1, max_logits // head.vocab_size)


def _left_aligned(flat: Tensor, mask: Tensor) -> Tensor:
    return flat.new_zeros(mask.shape).masked_scatter(mask, flat)  # (M,) -> (N, T)


def _chunk_logps(head: Head, states: Tensor, targets: Tensor) -> Tensor:
    logits = head(states)  # (m, V)
    return logits.gather(-1, targets[:, None]).squeeze(-1) - logits.logsumexp(-1)


def _chunk_logps_and_entropy(head: Head, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logprobs = head(states).log_softmax(-1)  # (m, V)
    return logprobs.gather(-1, targets[:, None]).squeeze(-1), -(logprobs.exp() * logprobs).sum(-1)
