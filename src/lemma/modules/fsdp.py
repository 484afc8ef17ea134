"""Decides how PyTorch's first FSDP shards a policy, so that its steps and files are those of one process.

The strategy ``fsdp`` puts the weights of a layer that are trained, and those that are frozen, into a flat tensor each
and cuts it into equal shares (Zhao et al. 2023, arXiv:2304.11277). Lightning's strategy of that name clips no norms and
writes the frozen base into every checkpoint; here all that is Lemma's is ``fsdp2``'s. Parameters keep their names, and
know where they were cut; a rank may hold nothing of one, and then has no gradient and no optimiser state of it.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch import Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import FSDPStrategy, StrategyRegistry
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.optim import Optimizer

from lemma.modules.resume import gather_objects
from lemma.modules.sharding import Cut, ShardedStrategy, layers_of, quantized_bits
from lemma.policy import Policy


class FlatShards(ShardedStrategy):
    """FSDP1 over all ranks, with checkpoints as of one process: ``--trainer.strategy fsdp``.

    Args:
        process_group_backend: ``nccl``, ``gloo``, or None for what suits the device.
        timeout: After which a collective call fails.
    """

    def __init__(
        self, process_group_backend: str | None = None, timeout: timedelta | None = default_pg_timeout
    ) -> None:
        super().__init__(process_group_backend=process_group_backend, timeout=timeout)

    def setup(self, trainer: Trainer) -> None:
        """Set up as for FSDP2, but neither cast what is cut nor refuse it."""
        self.accelerator.setup(trainer)
        self.model_to_device()
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    def shard(self, policy: Policy) -> nn.Module:
        """Return the policy wrapped, unless one rank holds all of it."""
        return policy if self.world_size == 1 else shard_flat(policy, self.root_device)

    def optimizer_step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """Take a step, and drop the gradients now: after the next forward pass FSDP would add to them still."""
        result = super().optimizer_step(optimizer, *args, **kwargs)
        optimizer.zero_grad()
        return result

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return an optimiser's state as it would be on one device, on rank 0; a collective call."""
        if self.world_size == 1:
            return super().optimizer_state(optimizer)
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        state = optimizer.state_dict()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        single: dict[int, dict[str, Any]] = {}  # what there is one of for a whole parameter, and None for each other
        for entries in gather_objects(_single(state["state"], parameters)):
            single |= entries
        whole = {}
        for number, entry in sorted(single.items()):
            parameter, shares = parameters[number], state["state"].get(number, {})
            nothing = torch.empty_like(parameter)  # where this rank holds nothing of the parameter
            tensors = {
                name: parameter.cut.whole(shares.get(name, nothing)).cpu()
                for name, value in entry.items()
                if value is None
            }
            if self.is_global_zero:
                whole[number] = entry | tensors
        return {**state, "state": whole}


FSDPStrategy.get_registered_strategies().remove("fsdp")  # Lightning lets no name of this list run on a CPU
StrategyRegistry.register("fsdp", FlatShards, override=True)


class FlatModule(FullyShardedDataParallel):
    """A module some of whose parameters are cut; their names are those that they had before."""

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield this module, and the one in it under the same name."""
        yield prefix, self
        yield from self.module.named_modules(memo, prefix, remove_duplicate)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the shares."""
        return self.module.state_dict(*args, **kwargs)

    def generate(self, **inputs: Any) -> Tensor:
        """Return what ``Policy.generate`` does, run as a forward pass, around which weights are gathered."""
        policy = self.module
        while isinstance(policy, FlatModule):
            policy = policy.module

        def forward() -> Tensor:
            del policy.forward
            return policy.generate(**inputs)

        policy.forward = forward
        return self()


def shard_flat(policy: Policy, device: torch.device) -> nn.Module:
    """Return a policy with each decoder layer wrapped apart, and the rest together.

    Args:
        policy: As loaded; the same on every rank. Its layers are replaced.
        device: Where the shares are put.

    Raises:
        InputError: If the base does not say which modules are its layers.
    """
    layers, bits = layers_of(policy), quantized_bits(policy)
    shapes = {parameter: parameter.shape for parameter in policy.parameters() if parameter not in bits}
    places = {child: (parent, name) for parent in policy.modules() for name, child in parent.named_children()}
    done = set(bits)
    for layer in reversed(layers):
        parent, name = places[layer]
        setattr(parent, name, _wrap(layer, device, bits, done))
    wrapped = _wrap(policy, device, bits, done)
    sizes = gather_objects([parameter.numel() for parameter in shapes])
    for parameter, shape, *cut in zip(shapes, shapes.values(), *sizes, strict=True):
        parameter.cut = Cut(shape, tuple(cut))
    return wrapped


def _wrap(module: nn.Module, device: torch.device, bits: set[nn.Parameter], done: set[nn.Parameter]) -> nn.Module:
    """Return the module wrapped once for each kind of parameter, for a flat tensor has one data type.

    It is trained as a whole or not at all, too, else frozen weights would get gradients.
    """
    kinds: dict[tuple[torch.dtype, bool], set[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter not in done:
            kinds.setdefault((parameter.dtype, parameter.requires_grad), set()).add(parameter)
    left = set().union(*kinds.values())
    for kind in kinds.values():
        left -= kind
        done |= kind
        module = FlatModule(module, device_id=device, use_orig_params=True, ignored_states=bits | left)
        module._ignored_params = set(bits)  # a wrapper ignores what any wrapper inside does
    return module


def _single(state: dict[int, dict[str, Any]], parameters: list[nn.Parameter]) -> dict[int, dict[str, Any]]:
    """Return each state with None for tensors that are cut as the parameter is."""
    result: dict[int, dict[str, Any]] = {}
    for number, entry in state.items():
        result[number] = {}
        for name, value in entry.items():
            is_tensor = isinstance(value, Tensor)
            is_cut = is_tensor and value.shape == parameters[number].shape
            result[number][name] = None if is_cut else value.cpu() if is_tensor else value
    return result
