"""What every objective shares: the policy, its optimiser, adapter-only checkpoints, the loss on held-out data."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from lemma.encoding import Batch
from lemma.evaluation import EvaluationArgs
from lemma.generation import ServedArgs
from lemma.modules.context import check_benchmarks, check_examples, check_noun, context_length
from lemma.modules.deepspeed import DeepSpeedShards
from lemma.modules.fsdp import FlatShards
from lemma.modules.measured import MeasuredModule
from lemma.modules.optim import OptimizerArgs, build_optimizer
from lemma.modules.resume import gather_objects, open_gradients, rng_state, set_open_gradients, set_rng_state
from lemma.modules.serving import adapter_weights, check_servable, check_served
from lemma.modules.sharding import ShardedStrategy, gradient_norm, reshard
from lemma.objectives import sft_loss
from lemma.policy import Policy, PolicyArgs
from lemma.policy.fingerprint import file_sha256, weights_sha256
from lemma.policy.packing import check_packing
from lemma.types import InputError

if TYPE_CHECKING:
    from lemma.generation.served.adapters import AdapterWeights

_STATE_KEY = "lemma"


class PolicyModule(MeasuredModule):
    """Base of the objectives; a subclass names its ``objective`` and implements ``training_step``.

    One that needs more than the likelihood says what is measured on held-out data (``held_out_step`` and
    ``held_out_means``), and what is done to the policy before it is sharded (``prepare_policy``).

    Args:
        policy: Base model and adapter.
        optimizer: Optimiser and schedule.
        evaluation: How benchmarks are measured in validation.
        engine: What draws completions: local, the model at hand; or served, servers that have the base, to which the
            adapter is brought.
        served: Which servers, under served.

    Raises:
        InputError: If what is trained could not be brought to servers.
    """

    objective: str
    strict_loading = False  # checkpoints hold trained weights only; on_load_checkpoint checks that none is missing

    def __init__(
        self,
        policy: PolicyArgs = PolicyArgs(),  # noqa: B008 (frozen)
        optimizer: OptimizerArgs = OptimizerArgs(),  # noqa: B008
        evaluation: EvaluationArgs = EvaluationArgs(),  # noqa: B008
        engine: str = "local",
        served: ServedArgs = ServedArgs(),  # noqa: B008
    ) -> None:
        super().__init__(policy, evaluation, engine, served)
        if engine == "served":
            check_servable(policy)
        self.optimizer_args = optimizer
        self.held_out_loss = MeanMetric()
        self._window_loss = 0.0
        self._resume: dict[str, Any] | None = None
        self._adapter_weights: AdapterWeights | None = None

    def configure_model(self) -> None:
        """Load base and adapter; Lightning calls this once the strategy is set up, and again for each verb."""
        if self.policy is None:
            strategy = self.trainer.strategy
            check_noun(self.trainer.datamodule.corpora, pairs=self.trains_on_pairs, module=type(self).__name__)
            policy = Policy(self.policy_args, strategy.root_device)
            self.prepare_policy(policy)
            self.policy = strategy.precision_plugin.convert_module(policy)  # before a checkpoint would be rounded
            if isinstance(strategy, ShardedStrategy):
                self.policy = strategy.shard(self.policy)
            self._check_context()

    def served_weights(self) -> "AdapterWeights | None":
        """Return how the adapter is brought to the servers."""
        if self.engine_name != "served":
            return None
        self._adapter_weights = adapter_weights(self.trainer, self.served_args)
        return self._adapter_weights

    def engine_figures(self) -> dict[str, float]:
        """Return what there is to log of the engine's last refresh."""
        weights = self._adapter_weights
        return {} if weights is None else {"served/probe_difference": weights.difference}

    def prepare_policy(self, policy: Policy) -> None:
        """Change a policy that was just loaded; nothing by default."""

    def _check_context(self) -> None:
        data, context = self.trainer.datamodule, context_length(self.policy.causal_lm)
        if data.training is not None:
            check_examples(data.training.examples, data.training.held_out, context=context)
        max_new_tokens = self.evaluation_args.sampling.max_new_tokens
        check_benchmarks(data.benchmarks, data.encoder, max_new_tokens=max_new_tokens, context=context)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimiser of the trained parameters, with its schedule."""
        trainer = self.trainer
        return build_optimizer(
            self.policy,
            self.optimizer_args,
            num_steps=trainer.estimated_stepping_batches,
            may_fuse=not (trainer.gradient_clip_val and "mixed" in trainer.precision),  # Lightning refuses both at once
        )

    def on_fit_start(self) -> None:
        """Try packing out, before anything is trained with it."""
        self._check_start()

    def on_validate_start(self) -> None:
        """Try packing out, before the held-out loss is computed with it."""
        self._check_start()

    def _check_start(self) -> None:
        if self.engine_name == "served":
            check_served(self.trainer, self.served_args)
        arrangement = self.trainer.datamodule.arrangement
        if arrangement is not None and arrangement.name != "padded":
            vocab_size = self.policy.causal_lm.config.get_text_config().vocab_size
            check_packing(self.policy, vocab_size, arrangement.name)
            reshard(self.policy)

    # Training

    def scale_for_backward(self, loss: Tensor) -> Tensor:
        """Return this micro-batch's share of the window's loss, times what Lightning and DDP divide by.

        Lightning divides every micro-batch by ``accumulate_grad_batches`` (short windows too) and DDP averages over
        ranks; the share is already normalised by the whole window.

        Args:
            loss: () share of the window's loss.
        """
        self._window_loss += loss.detach()
        return loss * (self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def on_train_start(self) -> None:
        """Put back random generators and the open window, after everything that could have drawn from them."""
        if self._resume is None:
            return
        mine = self._resume["ranks"][self.global_rank]
        set_rng_state(mine["rng"])
        strategy = self.trainer.strategy
        if isinstance(strategy, DeepSpeedShards):
            strategy.set_open_gradients(mine["gradients"])
        else:
            set_open_gradients(self, mine["gradients"])
        self._window_loss = mine["window_loss"]
        self.load_rank_state(mine)
        self._resume = None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the window's loss when its last micro-batch is done."""
        if self._window_is_open():
            return
        loss = self.trainer.strategy.reduce(torch.as_tensor(self._window_loss, device=self.device), reduce_op="sum")
        self.log("train/loss", loss, prog_bar=True, rank_zero_only=True)
        self._window_loss = 0.0
        if self.trainer.global_step % self.trainer.log_every_n_steps == 0:
            self._refuse_divergence(float(loss))

    def _refuse_divergence(self, loss: float) -> None:
        """Stop a run whose loss is no number any more; looked at where it is logged or saved, for it waits for the GPU.

        Raises:
            InputError: Says at which step, and what helps.
        """
        if not math.isfinite(loss):
            raise InputError(
                f"train/loss is {loss} at step {self.trainer.global_step}. Lower --model.optimizer.lr, clip "
                "with --trainer.gradient_clip_val, or leave float16 for bf16-mixed."
            )

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm over all ranks also where PyTorch does not know that a gradient is a rank's share."""
        by_norm = gradient_clip_val and gradient_clip_algorithm != "value"
        if by_norm and isinstance(self.trainer.strategy, FlatShards):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            clip_grads_with_norm_(parameters, gradient_clip_val, gradient_norm(parameters))
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _window_is_open(self) -> bool:
        return self.trainer.fit_loop._should_accumulate()

    # Validation

    def on_validation_start(self) -> None:
        """Begin the figures of this validation."""
        self.held_out_loss.reset()
        super().on_validation_start()

    def held_out_step(self, batch: Batch) -> None:
        """Add a batch to the held-out loss: by default the negative log-likelihood of a token."""
        logps = self.policy(batch)
        weight = (batch.weights * batch.mask.sum(-1)).sum()  # (): weighted tokens of this batch
        if weight > 0:
            self.held_out_loss.update(sft_loss(logps, batch.mask, batch.weights, window_weight=weight), weight)

    def held_out_means(self) -> dict[str, float]:
        """Return the figures of the held-out data; a collective call."""
        return {"val/loss": float(self.held_out_loss.compute())}

    def before_finish(self) -> None:
        """Put back in shares what validation gathered."""
        reshard(self.policy)

    def fingerprint(self, models: list[str] | None) -> dict[str, Any]:
        """Return what decides a completion: beside sampling, prompt and data, the weights and how they are computed."""
        policy = {name: value for name, value in asdict(self.policy_args).items() if name not in ("base", "adapter")}
        path = self.trainer.ckpt_path
        return {
            **super().fingerprint(models),
            "policy": policy,
            "weights": weights_sha256(self.policy_args),
            "checkpoint": None if path is None else file_sha256(Path(path)),
            "precision": self.trainer.precision,
        }

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep trained weights only; add the objective, and each rank's RNG and open window.

        Raises:
            InputError: If the loss is no number, so that an earlier file with good weights stays.
        """
        self._refuse_divergence(sum(gather_objects(float(self._window_loss))))
        trainable = {f"policy.{name}" for name in self.policy.trainable_names()}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if name in trainable}
        is_open = self._window_is_open()
        mine = {
            "rng": rng_state(),
            "gradients": self._open_gradients() if is_open else {},
            "window_loss": float(self._window_loss) if is_open else 0.0,
            **self.rank_state(),
        }
        settings = self.resume_settings()
        checkpoint[_STATE_KEY] = {"objective": self.objective, "settings": settings, "ranks": gather_objects(mine)}

    def rank_state(self) -> dict[str, Any]:
        """Return what else each rank keeps in a checkpoint, tensors and primitives; nothing by default."""
        return {}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Put back what ``rank_state`` returned, when training starts."""

    def resume_settings(self) -> dict[str, str]:
        """Return the settings, by key, without which a resumed run would be another one and not notice."""
        return {
            "model.policy.base": self.policy_args.base,
            "model.policy.quantization.method": self.policy_args.quantization.method,
            "model.optimizer.name": self.optimizer_args.name,
            "model.optimizer.schedule": self.optimizer_args.schedule,
        }

    def _open_gradients(self) -> dict[str, Tensor]:
        strategy = self.trainer.strategy
        return strategy.open_gradients() if isinstance(strategy, DeepSpeedShards) else open_gradients(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that is not this run's: other objective, other weights, other number of ranks.

        Raises:
            InputError: Says what differs.
        """
        if _STATE_KEY not in checkpoint:
            raise InputError(
                "ckpt_path: this is no checkpoint of Lemma; start from an adapter with --model.policy.adapter."
            )
        state = checkpoint[_STATE_KEY]
        if state["objective"] != self.objective:
            raise InputError(
                f"ckpt_path: a checkpoint of objective {state['objective']!r} cannot resume {self.objective!r}. To "
                "chain stages, start from the exported adapter: --model.policy.adapter runs/…/adapter."
            )
        trainable = {f"policy.{name}" for name in self.policy.trainable_names()}
        if different := sorted(trainable ^ set(checkpoint["state_dict"])):
            raise InputError(
                f"ckpt_path: {len(different)} trained weights of checkpoint and policy differ, first {different[0]}. "
                "Are --model.policy.base and the LoRA settings those of the run?"
            )
        fitting = self.trainer.state.fn == "fit"
        for key, value in self.resume_settings().items() if fitting else ():
            if state["settings"].get(key) != value:
                raise InputError(
                    f"ckpt_path: the checkpoint was written with {key} = {state['settings'].get(key)}, this run has "
                    f"{value}. A run resumes with the configuration it had; to go on from the adapter alone, use "
                    "--model.policy.adapter."
                )
        if fitting and len(state["ranks"]) != self.trainer.world_size:
            raise InputError(
                f"ckpt_path: written on {len(state['ranks'])} ranks, this run has {self.trainer.world_size}; a run "
                "resumes on as many."
            )
        self._resume = state if fitting else None
