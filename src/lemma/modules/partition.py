"""Decides which weights DeepSpeed's ZeRO stage 3 gathers when they are used, and which stay whole on every rank.

Of a partitioned weight each rank keeps a share (Rajbhandari et al. 2019, arXiv:1910.02054). Hooks around each module
gather its weights when it runs, a collective call, so that all ranks have to run the same modules in the same order.
The head does not: it is called once for so many tokens of the completions, which each rank has its own number of. So
its weights stay whole, and so do an adapter's, for they are small, many, and read past their modules by PEFT. Their
gradients and optimiser states are sharded all the same. Bits of a quantised base are left out, for they cannot be cut
without their scales.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lemma.policy import Policy
from lemma.policy.quantization import is_quantized
from lemma.types import InputError

DORA_ON_STAGE_3 = (
    "model.policy.lora.use_dora: DoRA reads weights of the base past their modules, where DeepSpeed's stage 3 has not "
    "gathered them; use --trainer.strategy deepspeed_stage_2 or fsdp2, or LoRA without DoRA."
)
Bits = list[tuple[nn.Module, str, nn.Parameter]]


def partition(module: nn.Module, config: dict[str, Any], device: torch.device) -> Bits:
    """Partition a module's weights in place, each as it comes to the device; a collective call.

    Args:
        module: The same on every rank.
        config: DeepSpeed's.
        device: Of this rank.

    Returns:
        Quantised weights, which are no longer parameters of their modules, for ``put_back``.

    Raises:
        InputError: If the adapter is a DoRA.
    """
    import deepspeed

    if any("lora_magnitude_vector" in name for name, _ in module.named_parameters()):
        raise InputError(DORA_ON_STAGE_3)
    bits = [
        (owner, name, parameter)
        for owner in module.modules()
        for name, parameter in owner.named_parameters(recurse=False)
        if is_quantized(parameter)
    ]
    for owner, name, parameter in bits:
        del owner._parameters[name]
        object.__setattr__(owner, name, parameter)
    deepspeed.zero.Init(module=module, config_dict_or_path=config)
    module.to(device)  # buffers
    return bits


def put_back(bits: Bits) -> None:
    """Make quantised weights parameters again."""
    for owner, name, parameter in bits:
        delattr(owner, name)
        owner.register_parameter(name, parameter)


def keep_whole(policy: Policy, zero: Any) -> None:
    """Keep the weights of the head and of an adapter whole on every rank, and let no hook gather or release them.

    Args:
        policy: Partitioned, with the engine's hooks.
        zero: The engine's optimiser; without an optimiser, what the engine has in its place.
    """
    head = policy.causal_lm.get_output_embeddings()
    adapter = [p for p in policy.parameters() if p.requires_grad] if policy.has_adapter else []
    weights = list(dict.fromkeys([*head.parameters(), *adapter]))  # the head's may be the embedding's too
    whole = set(weights)
    for parameter in weights:
        parameter.ds_persist = True
    for owner in policy.modules():
        if owner in set(head.modules()) or whole.intersection(owner.parameters(recurse=False)):
            owner._forward_pre_hooks.clear()
            owner._forward_hooks.clear()
    zero.persistent_parameters.extend(weights)  # which the engine gathers again after each step
    weights[0].all_gather(weights)


def is_partitioned(parameter: Tensor) -> bool:
    """Return whether a parameter is one that ZeRO's stage 3 partitions, gathered now or not."""
    return hasattr(parameter, "ds_id")


def gathered(parameter: nn.Parameter) -> Tensor:
    """Return a copy of a partitioned parameter, whole; a collective call unless it is gathered now."""
    import deepspeed

    if parameter.ds_status.name == "AVAILABLE":
        return parameter.detach().clone()
    with deepspeed.zero.GatheredParameters(parameter):
        return parameter.detach().clone()


def set_state(parameter: nn.Parameter, value: Tensor, state: str | None = None) -> None:
    """Give this rank its share of a trained weight in float32, or of what the optimiser keeps for it.

    Args:
        parameter: Trained by an engine of stage 2 or 3.
        value: Whole; the same on every rank.
        state: The optimiser's name of it, ``exp_avg`` for example; None for the weight itself.
    """
    from deepspeed import utils

    if is_partitioned(parameter) and state is None:
        utils.safe_set_local_fp32_param(parameter, _share_of(value, parameter))
    elif is_partitioned(parameter):
        utils.safe_set_local_optimizer_state(parameter, _share_of(value, parameter), state)
    elif state is None:
        utils.safe_set_full_fp32_param(parameter, value.float())
    else:
        utils.safe_set_full_optimizer_state(parameter, value, state)


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """Return the shape of a parameter when it is whole."""
    return parameter.ds_shape if is_partitioned(parameter) else parameter.shape


def _share_of(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return this rank's share of a whole tensor, flat and filled up with zeros, as the parameter is partitioned.

    Args:
        value: Of the parameter's shape when whole.
        parameter: Partitioned.
    """
    size, rank = parameter.ds_tensor.numel(), torch.distributed.get_rank()
    mine = value.flatten()[rank * size : (rank + 1) * size].to(parameter.device, torch.float32)
    return nn.functional.pad(mine, (0, size - mine.numel()))
