"""Decides how DeepSpeed's engine is driven, so that its steps are those of one process.

The strategy ``deepspeed_stage_2`` keeps a share of the gradients and of the optimiser's state on each rank (ZeRO,
Rajbhandari et al. 2019, arXiv:1910.02054), in float32 whatever the weights are in; ``deepspeed_stage_3`` keeps a share
of the weights too (``lemma.modules.partition``). Lightning's strategies of these names leave accumulation to the
engine, which divides by it once more and takes no step of a short window. Here Lightning counts the micro-batches of a
window, as under DDP, and the engine is told before each backward pass whether it is the window's last; it divides by
nothing but the number of ranks, and clips by itself. A checkpoint is one file, with the trained weights in float32 and
the optimiser's state as of one device.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
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

from lemma.modules.partition import Bits, keep_whole, partition, put_back, set_state, whole_shape
from lemma.modules.resume import OTHER_STRATEGY
from lemma.types import InputError

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


class DeepSpeedShards(DDPStrategy):
    """DeepSpeed's ZeRO in exact windows: ``--trainer.strategy deepspeed_stage_2``, or ``deepspeed_stage_3``.

    Args:
        stage: 2, or 3 to keep a share of the weights too.
        process_group_backend: ``nccl``, ``gloo``, or None for what suits the device.
        timeout: After which a collective call fails.
    """

    def __init__(
        self, stage: int = 2, process_group_backend: str | None = None, timeout: timedelta | None = default_pg_timeout
    ) -> None:
        super().__init__(process_group_backend=process_group_backend, timeout=timeout)
        self.stage = stage
        self._engine: DeepSpeedEngine | None = None
        self._trained: list[list[nn.Parameter]] = []  # by group; the engine takes them out
        self._bits: Bits = []
        self._linear = nn.functional.linear

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
            raise InputError(
                f"trainer.strategy: DeepSpeed cannot be imported ({error}); pip install -e '.[deepspeed]'."
            ) from error
        deepspeed.utils.logging.logger.setLevel("WARNING")
        deepspeed.init_distributed(self.process_group_backend, auto_mpi_discovery=False, verbose=False)

    @contextmanager
    def tensor_init_context(self, empty_init: bool | None = None) -> Iterator[None]:
        """Under stage 3 make weights in the host's memory; they may be more than a device holds."""
        if self.stage == 2:
            with super().tensor_init_context(empty_init):
                yield
        else:
            with self.precision_plugin.tensor_init_context():
                yield

    def model_to_device(self) -> None:
        """Move the weights; under stage 3 this rank's share of each."""
        if self.stage == 2:
            super().model_to_device()
        else:
            self._bits = partition(self.lightning_module, self._config(), self.root_device)

    def configure_ddp(self) -> None:
        """Wrap nothing: the engine needs the optimiser, which comes next."""

    def setup(self, trainer: Trainer) -> None:
        """Under stage 3 the engine is needed to gather weights, also where nothing is trained."""
        super().setup(trainer)
        if self.stage == 3 and self._engine is None:
            self._start(trainer, None)

    def setup_optimizers(self, trainer: Trainer) -> None:
        """Make the optimiser as for one device, and give it to the engine, which shards its state.

        Raises:
            InputError: If stage 3 is to train weights of several data types.
        """
        super().setup_optimizers(trainer)
        (optimizer,) = self.optimizers
        self._trained = [list(group["params"]) for group in optimizer.param_groups]
        dtypes = {str(p.dtype).removeprefix("torch.") for group in self._trained for p in group}
        if self.stage == 3 and len(dtypes) > 1:
            raise InputError(
                f"trainer.strategy: deepspeed_stage_3 trains weights of one data type, but they are in "
                f"{' and '.join(sorted(dtypes))}. Set --model.policy.dtype."
            )
        self._start(trainer, optimizer)

    def _start(self, trainer: Trainer, optimizer: Optimizer | None) -> None:
        import deepspeed

        self._engine, *_ = deepspeed.initialize(
            model=self.lightning_module,
            optimizer=optimizer,
            config=self._config(trainer.gradient_clip_val or 0.0),
            dist_init_required=False,
        )
        if self.stage == 3:
            keep_whole(self.lightning_module.policy, self._engine.optimizer)

    def _config(self, clip: float = 0.0) -> dict[str, Any]:
        persistence = {"stage3_param_persistence_threshold": 0} if self.stage == 3 else {}  # of what keep_whole leaves
        return {
            "train_micro_batch_size_per_gpu": 1,  # is logged, and else used for nothing
            "gradient_accumulation_steps": 1,
            "gradient_clipping": clip,
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {"stage": self.stage, **persistence},
        }

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
        if self.stage == 3:  # where else the last window's gradient of a weight that this one does not use would stay
            self._engine.optimizer.grad_partitions_flat_buffer.zero_()
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
        flats = self._flats(optimizer)
        for group, parameters in zip(optimizer.param_groups, self._trained, strict=True):
            start = len(result["state"])
            for parameter in parameters:
                flat = flats[parameter]
                result["state"][len(result["state"])] = {
                    name: safe_get_full_optimizer_state(parameter, name).cpu()
                    if _is_as(value, flat.shape)
                    else deepcopy(value)  # a count of steps shared in memory would be raised once for each parameter
                    for name, value in optimizer.state[flat].items()
                }
            numbers = list(range(start, start + len(parameters)))
            settings = {name: value for name, value in group.items() if name != "params"}
            result["param_groups"].append({**settings, "params": numbers})
        return result

    def _flats(self, optimizer: Optimizer) -> dict[nn.Parameter, Tensor]:
        """Return the flat tensor by which the optimiser knows this rank's share of each trained parameter."""
        zero = self._engine.optimizer
        if self.stage == 3:
            pairs = zip(zero.fp16_groups, zero.fp32_partitioned_groups_flat, strict=True)
        else:
            pairs = zip(self._trained, (group["params"][0] for group in optimizer.param_groups), strict=True)
        return {parameter: flat for parameters, flat in pairs for parameter in parameters}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this rank's share of the weights in float32 and of the optimiser's state."""
        (optimizer,), (saved,) = self.optimizers, checkpoint["optimizer_states"]
        flats = self._flats(optimizer)
        for group, old in zip(optimizer.param_groups, saved["param_groups"], strict=True):
            group |= {name: value for name, value in old.items() if name != "params"}
        trained = [parameter for parameters in self._trained for parameter in parameters]
        for number, parameter in enumerate(trained):
            flat = flats[parameter]
            if flat not in optimizer.state:
                optimizer.state[flat] = {
                    name: torch.zeros_like(flat) if _is_as(value, whole_shape(parameter)) else value
                    for name, value in saved["state"][number].items()
                }
        if self.stage == 2:
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()
        for name, parameter in self.lightning_module.named_parameters():
            if name in checkpoint["state_dict"]:
                set_state(parameter, checkpoint["state_dict"][name])
        for number, parameter in enumerate(trained):
            for name, value in saved["state"][number].items():
                if _is_as(value, whole_shape(parameter)):
                    set_state(parameter, value, name)

    def open_gradients(self) -> dict[str, Tensor]:
        """Return what this rank holds of the gradients accumulated so far, on the CPU."""
        if self.stage == 3:
            from deepspeed.utils import safe_get_local_grad

            named = self.lightning_module.named_parameters()
            return {f"zero3.{name}": safe_get_local_grad(p).cpu().clone() for name, p in named if p.requires_grad}
        groups = self._engine.optimizer.all_grad_tensors.items()
        return {f"zero.{group}.{number}": g.cpu() for group, some in groups for number, g in enumerate(some or ())}

    def set_open_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Put back what ``open_gradients`` returned.

        Raises:
            InputError: If another strategy returned them.
        """
        prefix = "zero3." if self.stage == 3 else "zero."
        if not all(name.startswith(prefix) for name in gradients):
            raise InputError(OTHER_STRATEGY)
        zero = self._engine.optimizer
        for name, gradient in gradients.items():
            name = name.removeprefix(prefix)
            if self.stage == 3:
                from deepspeed.utils import safe_set_local_grad

                safe_set_local_grad(self.lightning_module.get_parameter(name), gradient.to(self.root_device))
                zero.micro_step_id = 1  # what comes is added
            else:
                group = int(name.split(".")[0])
                zero.all_grad_tensors[group] = [
                    *(zero.all_grad_tensors.get(group) or ()),
                    gradient.to(self.root_device),
                ]

    def teardown(self) -> None:
        """Take the engine's hooks off, and what it has put in the place of torch's own."""
        if self._engine is not None:
            self._engine.destroy()
            self._engine = None
        nn.functional.linear = self._linear
        put_back(self._bits)
        self._bits = []
        super().teardown()


StrategyRegistry.register("deepspeed_stage_2", DeepSpeedShards, override=True)
StrategyRegistry.register("deepspeed_stage_3", DeepSpeedShards, override=True, stage=3)


def _is_as(value: Any, shape: torch.Size) -> bool:
    """Return whether an optimiser keeps this value for every element of a tensor of this shape."""
    return isinstance(value, Tensor) and value.shape == shape
