"""Computes base and adapter of a linear layer in one autograd function, which passes over the wide tensors once.

PEFT's layer makes the base's output, the adapter's, a scaled copy of that and their sum, and as many gradients in the
backward pass, which are as wide as the layer while the work between them is r wide. Here the adapter's product is added
to the base's where that stands, forward and backward.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class FusedLoraLinear(Linear):
    """PEFT's LoRA layer, fused where it is one plain adapter on a plain linear layer; PEFT's own forward elsewhere."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return (..., out) of the input (..., in)."""
        if args or kwargs or self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return super().forward(x, *args, **kwargs)
        name, base = self.active_adapters[0], self.base_layer
        if name not in self.lora_A or name in self.lora_variant or not _is_identity(self.lora_dropout[name]):
            return super().forward(x)
        down, up = self.lora_A[name], self.lora_B[name]
        if up.bias is not None or not _is_frozen_and_whole(base):
            return super().forward(x)
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        elif any(weight.dtype != dtype for weight in (base.weight, down.weight, up.weight)):
            return super().forward(x)  # PEFT computes a float32 adapter on a bfloat16 base in float32
        return FusedLora.apply(x, base.weight, base.bias, down.weight, up.weight, self.scaling[name], dtype)


def fuse(model: nn.Module) -> None:
    """Let a PEFT model's adapted linear layers compute as ``FusedLoraLinear``, quantised and other ones excepted.

    Args:
        model: Its layers become another class; names and weights stay.
    """
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is nn.Linear:
            module.__class__ = FusedLoraLinear


def _is_identity(dropout: nn.Module) -> bool:
    return isinstance(dropout, nn.Identity) or not dropout.training or dropout.p == 0


def _is_frozen_and_whole(base: nn.Linear) -> bool:
    """Return whether a base's layer takes no gradient, and has its weight outside its own call, too.

    DeepSpeed's ZeRO stage 3 gathers it for that call, and has a dictionary of its own that would gather at a look.
    """
    if type(base._parameters) is not dict or any(weight.requires_grad for weight in base.parameters(recurse=False)):
        return False
    return base.weight.shape == (base.out_features, base.in_features)


class FusedLora(torch.autograd.Function):
    """x Wᵀ + bias + scaling · (x Aᵀ) Bᵀ, with W and bias frozen (LoRA, arXiv:2106.09685)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,  # (..., in)
        weight: Tensor,  # (out, in)
        bias: Tensor | None,  # (out)
        down: Tensor,  # (r, in)
        up: Tensor,  # (out, r)
        scaling: float,
        dtype: torch.dtype,
    ) -> Tensor:  # (..., out)
        """Return base and adapter together, computed in ``dtype``; inputs are kept as they came."""
        rows = x.reshape(-1, x.shape[-1]).to(dtype)
        hidden = rows @ down.to(dtype).T
        output = F.linear(rows, weight.to(dtype), None if bias is None else bias.to(dtype))
        output.addmm_(hidden, up.to(dtype).T, alpha=scaling)
        ctx.save_for_backward(x, weight, down, up, hidden)
        ctx.scaling = scaling
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, A and B."""
        x, weight, down, up, hidden = ctx.saved_tensors
        grad_x = grad_down = grad_up = None
        dtype = hidden.dtype
        grad = grad_output.reshape(-1, grad_output.shape[-1])
        grad_hidden = (grad @ up.to(dtype)).mul_(ctx.scaling)
        if ctx.needs_input_grad[0]:
            rows = grad @ weight.to(dtype)
            grad_x = rows.addmm_(grad_hidden, down.to(dtype)).view_as(x).to(x.dtype)
        if ctx.needs_input_grad[3]:
            grad_down = (grad_hidden.T @ x.reshape(-1, x.shape[-1]).to(dtype)).to(down.dtype)
        if ctx.needs_input_grad[4]:
            grad_up = (grad.T @ hidden).mul_(ctx.scaling).to(up.dtype)
        return grad_x, None, None, grad_down, grad_up, None, None
