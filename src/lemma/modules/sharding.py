"""Decides how weights are sharded over ranks, and that a checkpoint is the same file whether they are or not.

The strategies ``fsdp2`` and ``zero2`` (PyTorch's ``fully_shard``, Lightning's ``ModelParallelStrategy``) keep a share
of every weight, gradient and optimiser state on each rank. Each decoder layer is gathered when it runs and let go of
afterwards; embeddings, last norm and head are gathered while the policy runs. Bits of a quantised base stay whole on
each rank, for bitsandbytes cannot cut them; what is trained on them is sharded. Gradients are averaged over ranks, as
under DDP, and clipped by their norm over all ranks. ``lemma.modules.fsdp`` does the same by cuts of flat tensors.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from lemma.modules.partition import gathered, is_partitioned
from lemma.policy import Policy
from lemma.policy.quantization import is_quantized
from lemma.types import InputError


@dataclass(frozen=True)
class Cut:
    """Where a parameter of a flat tensor was cut; such a parameter has one as its ``cut``, and is one-dimensional.

    Attributes:
        shape: Of the whole parameter.
        sizes: Consecutive elements on each rank, in rank order.
    """

    shape: torch.Size
    sizes: tuple[int, ...]

    def share(self, whole: Tensor) -> Tensor:
        """Return this rank's elements of a whole tensor."""
        return whole.flatten().split(self.sizes)[dist.get_rank()]

    def whole(self, share: Tensor) -> Tensor:
        """Return the whole tensor of which each rank holds a share; a collective call."""
        width = max(self.sizes)  # of collectives; the shares may be of unequal size, or empty
        mine = torch.nn.functional.pad(share.detach().flatten(), (0, width - share.numel()))
        gathered = mine.new_empty(len(self.sizes) * width)
        dist.all_gather_into_tensor(gathered, mine)
        rows = zip(gathered.split(width), self.sizes, strict=True)
        return torch.cat([row[:size] for row, size in rows]).view(self.shape)


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 over all ranks, with checkpoints of one file that hold what is trained: ``--trainer.strategy fsdp2``.

    Lightning's own writes the frozen base too, and by default a folder of shards.

    Args:
        reshard_after_forward: Let go of a layer's weights until its backward pass, as ZeRO stage 3 does (Rajbhandari et
            al. 2019, arXiv:1910.02054). False keeps them, as stage 2 does: more memory and a third less to send;
            ``--trainer.strategy zero2``.
        process_group_backend: ``nccl``, ``gloo``, or None for what suits the device.
        timeout: After which a collective call fails.
    """

    def __init__(
        self,
        reshard_after_forward: bool = True,
        process_group_backend: str | None = None,
        timeout: timedelta | None = default_pg_timeout,
    ) -> None:
        super().__init__(
            tensor_parallel_size=1,  # batches are planned by rank
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )
        self.reshard_after_forward = reshard_after_forward

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Let Lightning restore before the schedule asks how long the run is, and thereby makes the loaders."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Let Lightning call ``load_optimizer_state_dict``."""
        return True

    def setup_environment(self) -> None:
        """Shard over all ranks of all nodes."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def shard(self, policy: Policy) -> nn.Module:
        """Return the policy with its weights sharded; may change it.

        Args:
            policy: As loaded; the same on every rank.
        """
        shard(policy, self.device_mesh["data_parallel"], reshard_after_forward=self.reshard_after_forward)
        return policy

    def lightning_module_state_dict(self) -> dict[str, Tensor]:
        """Return the trained weights, whole, on rank 0, and nothing on other ranks; a collective call."""
        named = self.lightning_module.named_parameters()
        return whole_tensors({name: p for name, p in named if p.requires_grad}, keep=self.is_global_zero)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return an optimiser's state as it would be on one device, on rank 0; a collective call."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        state = optimizer.state_dict()
        state["state"] = {key: whole_tensors(entry, keep=self.is_global_zero) for key, entry in state["state"].items()}
        return state

    def load_checkpoint(self, checkpoint_path: str, weights_only: bool | None = None) -> dict[str, Any]:
        """Return the file's content, on every rank."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take this rank's share of each weight; ``PolicyModule`` has checked the names."""
        parameters = dict(self.lightning_module.named_parameters())
        with torch.no_grad():
            for name, value in checkpoint["state_dict"].items():
                parameters[name].copy_(like(value, parameters[name]))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this rank's share of the optimisers' states."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            shares = {
                number: {
                    name: like(value, parameters[number]) if _is_as(value, parameters[number]) else value
                    for name, value in entry.items()
                }
                for number, entry in state["state"].items()
                if parameters[number].numel()  # an optimiser passes over an empty share, and would not count its steps
            }
            optimizer.load_state_dict({**state, "state": shares})


StrategyRegistry.register("fsdp2", ShardedStrategy, override=True)
StrategyRegistry.register("zero2", ShardedStrategy, override=True, reshard_after_forward=False)


def shard(policy: Policy, mesh: DeviceMesh, *, reshard_after_forward: bool) -> None:
    """Shard a policy in place: each decoder layer apart, and the rest together.

    Args:
        policy: As loaded; the same on every rank.
        mesh: One dimension, all ranks.
        reshard_after_forward: Whether a layer's weights are let go of until its backward pass.

    Raises:
        InputError: If the base does not say which modules are its layers.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    bits = quantized_bits(policy)
    for layer in layers_of(policy):
        fully_shard(layer, mesh=mesh, reshard_after_forward=reshard_after_forward, ignored_params=bits)
    fully_shard(policy, mesh=mesh, reshard_after_forward=False, ignored_params=bits)
    register_fsdp_forward_method(policy, "generate")


def layers_of(policy: Policy) -> list[nn.Module]:
    """Return the modules that are sharded apart, outer ones first.

    Raises:
        InputError: If the base does not say which modules are its layers.
    """
    names = set(policy.causal_lm._no_split_modules or ())
    layers = [module for module in policy.modules() if type(module).__name__ in names]
    if not layers:
        raise InputError(
            f"trainer.strategy: {type(policy.causal_lm).__name__} cannot be sharded, for it names no layers in "
            "_no_split_modules; use ddp."
        )
    return layers


def quantized_bits(policy: Policy) -> set[nn.Parameter]:
    """Return the parameters that stay whole on each rank."""
    return {parameter for parameter in policy.parameters() if is_quantized(parameter)}


def reshard(policy: Policy) -> None:
    """Let go of whole weights that validation has left behind, so that parameters are shards again."""
    from torch.distributed.fsdp import FSDPModule

    for module in policy.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def is_sharded(policy: Policy) -> bool:
    """Return whether every forward pass needs all ranks."""
    return any(
        isinstance(parameter, DTensor) or hasattr(parameter, "cut") or is_partitioned(parameter)
        for parameter in policy.parameters()
    )


def whole_tensors(values: Mapping[str, Any], *, keep: bool = True) -> dict[str, Any]:
    """Return the values with sharded tensors put together, on the CPU; a collective call.

    Args:
        values: Tensors, sharded or not, and anything else.
        keep: False on ranks that only take part; they get an empty dictionary, and hold one whole tensor at a time.
    """
    result = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            value = _whole(value).detach().cpu()
        if keep:
            result[name] = value
    return result


def whole_weights(policy: Policy, *, keep: bool = True) -> dict[str, Tensor] | None:
    """Return what ``Policy.save`` is to write of a sharded policy, and None of another, which can say for itself.

    A collective call.

    Args:
        policy: Sharded or not.
        keep: As for ``whole_tensors``.
    """
    if not is_sharded(policy):
        return None
    if policy.has_adapter:
        weights = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
    else:
        named = policy.model.named_parameters
        tied = dict(named(remove_duplicate=False)).keys() - dict(named()).keys()
        weights = {name: value for name, value in policy.model.state_dict(keep_vars=True).items() if name not in tied}
    return whole_tensors(weights, keep=keep)


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return () Euclidean norm of the gradients of all ranks' shares; a collective call where they are sharded.

    Args:
        parameters: With their gradients; all sharded in the same way, or none.
    """
    parameters = list(parameters)
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not any(hasattr(parameter, "cut") for parameter in parameters):
        return _whole(norm)
    square = norm.to(parameters[0].device, torch.float64) ** 2
    dist.all_reduce(square)
    return square.sqrt()


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return this rank's share of a whole tensor if the parameter is sharded, else the tensor; on its device.

    Args:
        value: Whole; the same on every rank.
        parameter: Of the same shape.
    """
    value = value.to(parameter.device)
    if hasattr(parameter, "cut"):
        return parameter.cut.share(value)
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def share(tensor: Tensor) -> Tensor:
    """Return what this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def from_share(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return the tensor of which this rank holds ``tensor``, sharded as the parameter is; undoes ``share``."""
    tensor = tensor.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return tensor
    return DTensor.from_local(
        tensor,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def _whole(tensor: Tensor) -> Tensor:
    if hasattr(tensor, "cut"):
        return tensor.cut.whole(tensor)
    if is_partitioned(tensor):
        return gathered(tensor)
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _is_as(value: Any, parameter: Tensor) -> bool:
    """Return whether an optimiser keeps this value, of its whole state, for every element of the parameter."""
    shape = parameter.cut.shape if hasattr(parameter, "cut") else parameter.shape
    return isinstance(value, Tensor) and value.shape == shape
