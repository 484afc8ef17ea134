"""Decides what the LM head is to the log-probabilities: a frozen matrix to fuse with, or a module to call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class FrozenLinear(NamedTuple):
    """A linear map to logits that takes no gradient.

    Attributes:
        weight: (V, H).
        bias: (V,), or None.
        soft_cap: Bound of the logits in absolute value, or None.
    """

    weight: Tensor
    bias: Tensor | None
    soft_cap: float | None


class Scores(NamedTuple):
    """What a frozen head says of M tokens.

    Attributes:
        logps: (M,) log-probabilities in nats, float32 (float64 for a float64 model).
        jacobian: (M, H) gradient of each log-probability with respect to its hidden state, or None if not asked for.
        entropy: (M,) in nats, or None if not asked for.
    """

    logps: Tensor
    jacobian: Tensor | None
    entropy: Tensor | None


@dataclass(frozen=True)
class Head:
    """The last layer of a language model.

    Attributes:
        module: Maps (m, H) hidden states to (m, V) logits before the cap.
        vocab_size: V.
        soft_cap: Logits z become ``soft_cap * tanh(z / soft_cap)`` (Gemma 2, arXiv:2408.00118), or None.
    """

    module: Callable[[Tensor], Tensor]
    vocab_size: int
    soft_cap: float | None = None

    def __call__(self, states: Tensor) -> Tensor:
        """Return the (m, V) logits of (m, H) hidden states, capped, in float32 (float64 for a float64 model).

        transformers rounds the cap's result to the model's dtype; here it is float32 from the cap on.
        """
        logits = self.module(states)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits if self.soft_cap is None else self.soft_cap * torch.tanh(logits / self.soft_cap)

    def frozen_linear(self) -> FrozenLinear | None:
        """Return the head's matrix if it may be read past the module, else None.

        It may where a plain ``nn.Linear`` (no subclass: bitsandbytes, PEFT and FSDP2 bring their own) holds ordinary,
        whole tensors (no DTensor, no quantised class, no shard of FSDP or ZeRO-3, nothing on the meta device), none of
        which takes a gradient, and nothing is hooked to the call (offloading, statistics). Everything else has to go
        through the module, where such hooks gather, dequantise and synchronise.
        """
        linear = self.module
        if type(linear) is not nn.Linear or "forward" in vars(linear):
            return None
        if linear._forward_hooks or linear._forward_pre_hooks or linear._backward_hooks or linear._backward_pre_hooks:
            return None
        tensors = [linear.weight] if linear.bias is None else [linear.weight, linear.bias]
        if any(type(t) not in (nn.Parameter, Tensor) or t.requires_grad or t.is_meta for t in tensors):
            return None
        if linear.weight.shape != (linear.out_features, linear.in_features):
            return None
        return FrozenLinear(linear.weight, linear.bias, self.soft_cap)
