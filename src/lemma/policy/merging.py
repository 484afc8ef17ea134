"""Decides when an adapter is added to the base's weights for a while, and that they come back bit for bit.

A merged layer costs what the base's does. It gives what the two give apart, but for rounding, if its weights are wide
enough to hold the update: float32 or wider, computed as such. Weights of 8 or 4 bits, or of bfloat16, would round it
away, so there the adapter stays apart. The base's own tensors are kept beside the merged ones, and are put back as they
are: subtracting the update would round once more. This costs the memory of the adapted weights once more.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from peft.tuners.lora import Linear

_WIDE = (torch.float32, torch.float64)


@contextlib.contextmanager
def merged(model: nn.Module) -> Iterator[bool]:
    """Merge the active adapter for the time of the context, and yield whether it is merged.

    To be used without gradient: nothing is to be trained, saved or sharded inside.

    Args:
        model: A policy, or a PEFT model. It computes the same with and without, where no merge is exact enough:
            weights that are not all in float32 or wider, quantised, sharded, shared with another layer, under autocast,
            or adapters that are off, or of another kind than LoRA (DoRA and rsLoRA among it) of linear layers.
    """
    layers = _lora_layers(model)
    if not layers or _autocasts(layers) or not _mergeable(model, layers):
        yield False
        return
    parameters = _base_parameters(layers)
    before = [parameter.data for parameter in parameters]
    caches = [dict(layer._caches) for layer in layers]  # DoRA keeps there what its own way back would need
    try:
        with torch.no_grad():
            for parameter in parameters:
                parameter.data = parameter.data.clone()
            for layer in layers:
                layer.merge()
        yield True
    finally:
        for parameter, data in zip(parameters, before, strict=True):
            parameter.data = data
        for layer, cache in zip(layers, caches, strict=True):
            layer.merged_adapters.clear()
            layer._caches = cache


def merged_bytes(model: nn.Module) -> int:
    """Return the bytes of what ``merged`` copies outside autocast; 0 where it would not merge.

    Args:
        model: A policy, or a PEFT model; may be on the meta device.
    """
    layers = _lora_layers(model)
    return sum(p.nbytes for p in _base_parameters(layers)) if layers and _mergeable(model, layers) else 0


def _base_parameters(layers: "list[Linear]") -> list[nn.Parameter]:
    return [parameter for layer in layers for parameter in layer.get_base_layer().parameters(recurse=False)]


def _lora_layers(model: nn.Module) -> "list[Linear]":
    """Return the adapted layers of a model; none where one of them is of a kind that is not merged here."""
    from peft.tuners.lora import Linear
    from peft.tuners.tuners_utils import BaseTunerLayer

    from lemma.policy.fused_lora import FusedLoraLinear  # imports PEFT

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    return layers if all(type(layer) in (Linear, FusedLoraLinear) for layer in layers) else []


def _autocasts(layers: "list[Linear]") -> bool:
    return torch.is_autocast_enabled(layers[0].get_base_layer().weight.device.type)


def _mergeable(model: nn.Module, layers: "list[Linear]") -> bool:
    owners: dict[nn.Parameter, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners[parameter] = owners.get(parameter, 0) + 1
    weights = [layer.get_base_layer().weight for layer in layers]
    return all(
        type(weight) is nn.Parameter
        and weight.dtype in _WIDE
        and weight.ndim == 2  # a share of a sharded one is flat
        and weight.numel() == layer.in_features * layer.out_features
        and owners[weight] == 1
        and not layer.disable_adapters
        and not layer.merged
        for layer, weight in zip(layers, weights, strict=True)
    )
