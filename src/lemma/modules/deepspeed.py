"""Decides how DeepSpeed's engine is driven, so that its steps are those of one process.

The strategy ``deepspeed_stage_2`` keeps a share of the gradients and of the optimiser's state on each rank (ZeRO,
Rajbhandari et al. 2019, arXiv:1910.02054), in float32 whatever the weights are in. Lightning's strategy of that name
leaves accumulation to the engine, which divides by it once more and takes no step of a short window. Here Lightning
counts the micro-batches of a window, as under DDP, and the engine is told before each backward pass whether it is the
window's last; it divides by nothing but the number of ranks, and clips by itself. A checkpoint is one file, with the
trained weights in float32 and the optimiser's state as of one device.
"""

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.trainer import call
from torch import Tensor, nn
from torch.optim import Optimizer

from lemma.modules.resume import OTHER_STRATEGY
from lemma.types import InputError

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


class DeepSpeedShards(DDPStrategy):
    """DeepSpeed's ZeRO stage 2 in exact windows: ``--trainer.strategy deepspeed_stage_2``.

    Args:
        process_group_backend: ``nccl``, ``gloo``, or None for what suits the device.
        timeout: After which a collective call fails.
    """

    def __init__(
        self, process_group_backend: str | None = None, timeout: timedelta | None = default_pg_timeout
    ) -> None:
        super().__init__(process_group_backend=process_group_backend, timeout=timeout)
        self._engine: DeepSpeedEngine | None = None
        self._trained: list[list[nn.Parameter]] = []  # by group; the engine puts one flat tensor into each

    @property
    def grad_norm(self) -> Tensor:
        """Return the norm of the last step's gradient over all ranks, before clipping."""
        return torch.as_tensor(self._engine.get_global_grad_norm())

    def setup_distributed(self) -> None:
        """Make the process group, and say to DeepSpeed where it is.

        Raises:
            InputError: If DeepSpeed is not installed.
        """
        super().setup_distributed()
        os.environ.setdefault("DS_ACCELERATOR", self.root_device.type)
        os.environ |= {"LOCAL_RANK": str(self.local_rank), "RANK": str(self.global_rank)}
        os.environ["WORLD_SIZE"] = str(self.world_size)
        try:
            import deepspeed
        except ImportError as error:
            raise InputError(f"trainer.strategy: DeepSpeed cannot be imported ({error}); pip install it.") from error
        deepspeed.utils.logging.logger.setLevel("WARNING")
        deepspeed.init_distributed(self.process_group_backend, auto_mpi_discovery=False, verbose=False)

    def configure_ddp(self) -> None:
        """Wrap nothing: the engine needs the optimiser, which comes next."""

    def setup_optimizers(self, trainer: Trainer) -> None:
        """Make the optimiser as for one device, and give it to the engine, which shards its state."""
        import deepspeed

        super().setup_optimizers(trainer)
        (optimizer,) = self.optimizers
        self._trained = [list(group["params"]) for group in optimizer.param_groups]
        self._engine, *_ = deepspeed.initialize(
            model=self.lightning_module,
            optimizer=optimizer,
            config={
                "train_micro_batch_size_per_gpu": 1,  # is logged, and else used for nothing
                "gradient_accumulation_steps": 1,
                "gradient_clipping": trainer.gradient_clip_val or 0.0,
                "zero_allow_untested_optimizer": True,
                "zero_optimization": {"stage": 2},
            },
            dist_init_required=False,
        )

    # One micro-batch, one step

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's step inside the engine's forward; that turns autocast off, therefore it is entered there."""
        module = self.lightning_module
        own_forward = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            module.forward = own_forward
            with self.precision_plugin.train_step_context():
                return module.training_step(*args, **kwargs)

        module.forward = forward
        return self._engine(*args, **kwargs)

    def backward(self, closure_loss: Tensor, optimizer: Optimizer | None, *args: Any, **kwargs: Any) -> Tensor:
        """Add to this rank's share of the window's gradient."""
        self._engine.set_gradient_accumulation_boundary(not self.lightning_module.trainer.fit_loop._should_accumulate())
        closure_loss = self.precision_plugin.pre_backward(closure_loss, self.lightning_module)
        self._engine.backward(closure_loss, *args, **kwargs)
        return self.precision_plugin.post_backward(closure_loss, self.lightning_module)

    def optimizer_step(
        self,
        optimizer: Optimizer,
        closure: Callable[[], Any],
        model: LightningModule | nn.Module | None = None,
        **kwargs: Any,
    ) -> Any:
        """Compute the window's last micro-batch, and let the engine clip and step; hooks find no gradients."""
        result = closure()
        trainer = self.lightning_module.trainer
        call._call_callback_hooks(trainer, "on_before_optimizer_step", optimizer)
        call._call_lightning_module_hook(trainer, "on_before_optimizer_step", optimizer)
        self._engine.step()
        return result

    # Checkpoints

    def lightning_module_state_dict(self) -> dict[str, Tensor]:
        """Return the trained weights in float32, in which they are trained; a collective call."""
        if self._engine is None:
            return super().lightning_module_state_dict()
        from deepspeed.utils import safe_get_full_fp32_param

        named = self.lightning_module.named_parameters()
        return {name: safe_get_full_fp32_param(p).cpu() for name, p in named if p.requires_grad}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return an optimiser's state as it would be on one device; a collective call."""
        from deepspeed.utils import safe_get_full_optimizer_state

        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        result: dict[str, Any] = {"state": {}, "param_groups": []}
        for group, parameters in zip(optimizer.param_groups, self._trained, strict=True):
            start = len(result["state"])
            (flat,) = group["params"]
            for parameter in parameters:
                result["state"][len(result["state"])] = {
                    name: safe_get_full_optimizer_state(parameter, name).cpu() if _is_as(value, flat) else value
                    for name, value in optimizer.state[flat].items()
                }
            numbers = list(range(start, start + len(parameters)))
            settings = {name: value for name, value in group.items() if name != "params"}
            result["param_groups"].append({**settings, "params": numbers})
        return result

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this rank's share of the weights in float32 and of the optimiser's state."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        (optimizer,), (saved,) = self.optimizers, checkpoint["optimizer_states"]
        for name, parameter in self.lightning_module.named_parameters():
            if name in checkpoint["state_dict"]:
                safe_set_full_fp32_param(parameter, checkpoint["state_dict"][name].float())
        for group, old, parameters in zip(optimizer.param_groups, saved["param_groups"], self._trained, strict=True):
            (flat,) = group["params"]
            group |= {name: value for name, value in old.items() if name != "params"}
            entries = [saved["state"][number] for number in old["params"]]
            optimizer.state[flat] = {
                name: torch.zeros_like(flat) if _is_as(value, parameters[0]) else value
                for name, value in entries[0].items()
            }
        self._engine.optimizer._lazy_init_hp_params_optimizer_state()
        trained = [parameter for parameters in self._trained for parameter in parameters]
        for number, parameter in enumerate(trained):
            for name, value in saved["state"][number].items():
                if _is_as(value, parameter):
                    safe_set_full_optimizer_state(parameter, value, name)

    def open_gradients(self) -> dict[str, Tensor]:
        """Return what this rank holds of the gradients accumulated so far, on the CPU."""
        groups = self._engine.optimizer.all_grad_tensors.items()
        return {f"zero.{group}.{number}": g.cpu() for group, some in groups for number, g in enumerate(some or ())}

    def set_open_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Put back what ``open_gradients`` returned.

        Raises:
            InputError: If another strategy returned them.
        """
        groups = self._engine.optimizer.all_grad_tensors
        for name, gradient in gradients.items():
            if not name.startswith("zero."):
                raise InputError(OTHER_STRATEGY)
            group = int(name.split(".")[1])
            groups[group] = [*(groups.get(group) or ()), gradient.to(self.root_device)]

    def teardown(self) -> None:
        """Take the engine's hooks off."""
        if self._engine is not None:
            self._engine.destroy()
            self._engine = None
        super().teardown()


StrategyRegistry.register("deepspeed_stage_2", DeepSpeedShards, override=True)


def _is_as(value: Any, parameter: Tensor) -> bool:
    """Return whether an optimiser keeps this value for every element of the parameter."""
    return isinstance(value, Tensor) and value.shape == parameter.shape
