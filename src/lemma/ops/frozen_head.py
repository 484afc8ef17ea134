r"""Log-probabilities under a frozen linear head: the gradient is made in the forward pass, while the logits exist.

With logits :math:`z = \mathrm{cap}(W h + b)` and :math:`p = \mathrm{softmax}(z)`, the gradient of one token's

.. math:: J = \frac{\partial \log p_y}{\partial h} = W^\top \big((e_y - p) \odot \mathrm{cap}'(W h + b)\big)

is (H,) and does not depend on what the loss makes of it, so the backward pass is one product by the loss's gradient:
two products with the head where recomputation takes three.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lemma.ops import liger
from lemma.ops.head import FrozenLinear, Scores


def frozen_logps(states: Tensor, targets: Tensor, linear: FrozenLinear, *, rows: int) -> Tensor:
    """Return the (M,) log-probabilities of the targets in nats, float32 (float64 for a float64 model).

    Under autocast the products with the head run in its dtype and the softmax in float32, as where a module is called.
    There is no second derivative.

    Args:
        states: (M, H) hidden states.
        targets: (M,) token ids.
        linear: The head.
        rows: Positions for which logits exist at once.
    """
    states, linear = _cast_as_autocast_would(states, linear)
    score = liger.score if liger.is_usable(states) else _score
    return _apply(score, states, targets, linear, rows).logps


def frozen_logps_and_entropy(
    states: Tensor, targets: Tensor, linear: FrozenLinear, *, rows: int
) -> tuple[Tensor, Tensor]:
    """Return ``frozen_logps`` and the (M,) entropies in nats, which take no gradient."""
    states, linear = _cast_as_autocast_would(states, linear)
    scores = _apply(_score_with_entropy, states, targets, linear, rows)
    return scores.logps, scores.entropy


def _cast_as_autocast_would(states: Tensor, linear: FrozenLinear) -> tuple[Tensor, FrozenLinear]:
    """Cast once what autocast would cast in every chunk's product."""
    device = states.device.type
    if not torch.is_autocast_enabled(device) or states.dtype == torch.float64:
        return states, linear
    dtype = torch.get_autocast_dtype(device)
    bias = None if linear.bias is None else linear.bias.to(dtype)
    return states.to(dtype), FrozenLinear(linear.weight.to(dtype), bias, linear.soft_cap)


def _apply(
    score: Callable[..., Scores], states: Tensor, targets: Tensor, linear: FrozenLinear, rows: int
) -> Scores:  # without the jacobian
    if torch.is_grad_enabled() and states.requires_grad:
        logps, entropy = _FrozenHead.apply(score, states, targets, linear, rows)
        return Scores(logps, None, entropy)
    with torch.autocast(states.device.type, enabled=False):
        return score(states, targets, linear, rows=rows, with_jacobian=False)


class _FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, score: Callable[..., Scores], states: Tensor, targets: Tensor, linear: FrozenLinear, rows: int
    ) -> tuple[Tensor, Tensor | None]:
        with torch.autocast(states.device.type, enabled=False):
            scores = score(states, targets, linear, rows=rows, with_jacobian=True)
        ctx.save_for_backward(scores.jacobian)
        if scores.entropy is not None:
            ctx.mark_non_differentiable(scores.entropy)
        return scores.logps, scores.entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        (jacobian,) = ctx.saved_tensors
        return None, (grad[:, None] * jacobian).to(jacobian.dtype), None, None, None


def _score(
    states: Tensor, targets: Tensor, linear: FrozenLinear, *, rows: int, with_jacobian: bool, with_entropy: bool = False
) -> Scores:
    """Score M tokens, ``rows`` at a time."""
    logps = torch.empty_like(targets, dtype=torch.promote_types(states.dtype, torch.float32))
    jacobian = torch.empty_like(states) if with_jacobian else None
    entropy = torch.empty_like(logps) if with_entropy else None
    for start in range(0, len(states), rows):
        chunk = slice(start, start + rows)
        scores = _score_chunk(states[chunk], targets[chunk], linear, with_jacobian, with_entropy)
        logps[chunk] = scores.logps
        if with_jacobian:
            jacobian[chunk] = scores.jacobian
        if with_entropy:
            entropy[chunk] = scores.entropy
    return Scores(logps, jacobian, entropy)


def _score_with_entropy(*args: Any, **kwargs: Any) -> Scores:
    return _score(*args, **kwargs, with_entropy=True)


def _score_chunk(
    states: Tensor, targets: Tensor, linear: FrozenLinear, with_jacobian: bool, with_entropy: bool
) -> Scores:
    target = targets[:, None]  # (m, 1)
    logits, slope = _logits(states, linear, with_slope=with_jacobian)  # (m, V)
    logit = logits.gather(-1, target)
    top = logits.amax(-1, keepdim=True)
    exp = logits.sub_(top).exp_()  # in place from here on: a second tensor of this size would be the peak
    total = exp.sum(-1, keepdim=True)
    logps = (logit - top - total.log()).squeeze(-1)
    entropy = torch.special.entr(exp / total).sum(-1) if with_entropy else None
    if not with_jacobian:
        return Scores(logps, None, entropy)
    exp.scatter_add_(-1, target, -total)  # (p - e_y) times total, before anything is rounded to bfloat16
    if slope is not None:
        exp.mul_(slope)
    coefficients = exp if exp.dtype == states.dtype else torch.empty_like(exp, dtype=states.dtype)
    return Scores(logps, torch.div(exp, -total, out=coefficients) @ linear.weight, entropy)


def _logits(states: Tensor, linear: FrozenLinear, *, with_slope: bool) -> tuple[Tensor, Tensor | None]:
    """Return (m, V) logits in at least float32, and the slope of the soft cap at them, None without a cap."""
    logits = torch.nn.functional.linear(states, linear.weight, linear.bias)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if linear.soft_cap is None:
        return logits, None
    tanh = logits.div_(linear.soft_cap).tanh_()
    slope = tanh.square().neg_().add_(1) if with_slope else None
    return tanh.mul_(linear.soft_cap), slope
