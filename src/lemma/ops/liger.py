"""Scores tokens under a frozen head by Liger's fused kernel, where it is installed and the device is CUDA.

``pip install -e ".[liger]"``. Liger Kernel (Hsu et al. 2024, arXiv:2410.10989) overwrites each chunk of logits by its
softmax's gradient in one Triton kernel. Its autograd function is not used: with ``reduction="none"`` it computes all
logits a second time in the backward pass, and up to version 0.8.1 it multiplied every row by the first token's
gradient. The forward function below it returns each row's own gradient, unscaled, which is what is wanted here.
"""

import functools
import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from lemma.ops.head import FrozenLinear, Scores


def is_usable(states: Tensor) -> bool:
    """Return whether ``score`` can be called for these (M, H) states: on CUDA, in at most float32, not empty."""
    return states.is_cuda and states.dtype != torch.float64 and len(states) > 0 and _forward() is not None


def score(states: Tensor, targets: Tensor, linear: FrozenLinear, *, rows: int, with_jacobian: bool) -> Scores:
    """Score M tokens; as ``lemma.ops.frozen_head`` does, without entropy.

    Args:
        states: (M, H).
        targets: (M,) token ids.
        linear: The head.
        rows: Positions for which logits exist at once, about.
        with_jacobian: Whether the gradient is wanted.
    """
    vocab, hidden = linear.weight.shape
    loss, *_, gradient, _, _ = _forward()(
        states,
        linear.weight,
        targets,
        bias=linear.bias,
        reduction="none",
        softcap=linear.soft_cap,
        compute_gradients=with_jacobian,
        weight_requires_grad=False,
        chunk_mem_const=max(1, rows * vocab // (len(states) * hidden)),  # Liger counts logits in M x H
    )
    return Scores(-loss, gradient.neg_() if with_jacobian else None, None)


@functools.cache
def _forward() -> Callable[..., tuple[Tensor | None, ...]] | None:
    """Return Liger's forward function, or None where it is not installed or too old to leave gradients unscaled."""
    try:
        from liger_kernel.ops.fused_linear_cross_entropy import fused_linear_cross_entropy_forward as forward
    except ImportError:
        return None
    wanted = {"compute_gradients", "weight_requires_grad", "chunk_mem_const"}
    return forward if wanted <= inspect.signature(forward).parameters.keys() else None
