"""Computes silu(gate) * up in one autograd function, which keeps two wide tensors for the backward pass, not three.

The inner layer of a Llama is the widest thing that a layer keeps. PyTorch keeps silu(gate) for the product's gradient;
here it is computed again, as in Liger kernels (arXiv:2410.10989).
"""

import types
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_SILU = ("silu", "swish")


def fuse_swiglu(model: nn.Module) -> None:
    """Let the MLPs of Llama, Mistral, Qwen 2 and Qwen 3 keep less; others, and other activations, stay as they are.

    Args:
        model: Of transformers, before anything is wrapped; its MLPs get another ``forward``.
    """
    for module in model.modules():
        if is_swiglu(module):
            module.forward = types.MethodType(_forward, module)


def is_swiglu(module: nn.Module) -> bool:
    """Return whether a module is an MLP that ``fuse_swiglu`` fuses."""
    from transformers.models.llama.modeling_llama import LlamaMLP
    from transformers.models.mistral.modeling_mistral import MistralMLP
    from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP
    from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

    return type(module) in (LlamaMLP, MistralMLP, Qwen2MLP, Qwen3MLP) and module.config.hidden_act in _SILU


def _forward(mlp: nn.Module, x: Tensor) -> Tensor:
    gate, up = mlp.gate_proj(x), mlp.up_proj(x)
    return mlp.down_proj(SwiGLU.apply(gate, up) if torch.is_grad_enabled() else F.silu(gate).mul_(up))


class SwiGLU(torch.autograd.Function):
    """silu(gate) * up (arXiv:2002.05202); both, and the result, have one shape and one floating type."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Return the product."""
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of gate and up."""
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad_output * up, gate), F.silu(gate).mul_(grad_output)
