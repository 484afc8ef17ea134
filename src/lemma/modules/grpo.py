"""Group-relative policy optimisation and its kin: the policy learns from its own completions, by what they earn."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lemma.answers import Grader
from lemma.answers.conventions import Conventions
from lemma.encoding import Batch, Example
from lemma.modules.context import check_prompts, context_length
from lemma.modules.referenced import ReferencedModule
from lemma.modules.rollout_figures import LossFigures
from lemma.modules.rollout_objective import RolloutObjective
from lemma.modules.rollout_source import RolloutSource
from lemma.modules.sharding import reshard
from lemma.objectives import RolloutLogps
from lemma.policy import Policy
from lemma.policy.reference import evaluating
from lemma.rewards import RewardArgs, check_rewards, reward_settings
from lemma.rollouts import Rollout, RolloutBatch, RolloutSampling, RolloutSize
from lemma.types import InputError

_SETTINGS = ("group_size", "problems_per_rollout", "num_iterations", "mask_truncated", "dynamic_sampling")


class GRPOModule(ReferencedModule):
    """Trains the policy on rollouts: completions of its own, which rewards compare within each problem's group.

    A batch is one micro-batch of a rollout. When all have been trained on ``num_iterations`` times, ``next_batch``
    makes the next rollout: problems from the DataModule's stream, completions, verdicts, rewards, advantages, and what
    stays the same while it is trained on, the log-probabilities of the policy that sampled and of the reference.

    Args:
        group_size: Completions of a problem, at least 2.
        problems_per_rollout: Problems of a rollout, over all ranks.
        num_iterations: Times that a rollout is trained on.
        loss_type: grpo, dr_grpo (with ``advantage_scale: none``), dapo, cispo or gspo.
        clip_low: How far below 1 a ratio to the policy that sampled is followed; null takes the loss's own bound.
        clip_high: How far above 1; null as clip_low.
        delta: Ratio from which on a bad token is no longer pushed down; null for none.
        kl_coef: Weight of the KL to the reference; 0 for none, and no reference.
        kl_estimator: k1, k2 or k3.
        kl_correction: Multiply the estimate by the ratio, so that k1 and k3 have the gradient of the KL.
        entropy_coef: Weight of an entropy bonus.
        advantage_scale: What divides rewards less their baseline: the deviation of the group, of the batch (the whole
            rollout), or none.
        advantage_baseline: mean of the group, or leave_one_out (RLOO).
        combine: Of several rewards: sum_then_normalise, or normalise_then_sum.
        rewards: What completions earn, each a name or {name, weight, options, on_failure, label, timeout}.
        sampling: How completions are drawn.
        mask_truncated: Leave completions that were cut off at the length limit out of the loss.
        dynamic_sampling: Times at most that groups alike in correctness are replaced by further problems; 0 for never.
        sampler_correction: Weigh losses by how much likelier the trainer's policy would have drawn what the engine drew
            (truncated importance sampling): none, token, sequence, token_mask or sequence_mask; null for token with
            the served engine and none with the local one.
        sampler_correction_cap: Largest such weight, at least 1; the masks leave out what is beyond.
        **kwargs: Those of ``ReferencedModule``.

    Attributes:
        rollout: What this rank is training on; None before the first rollout.
        rollout_number: Rollouts made so far.
        listeners: Told what is done that is no training, ``sampling`` for example, and nothing when it is over.

    Raises:
        InputError: If a name or a number is wrong, or two rewards share a label.
    """

    objective = "grpo"
    makes_rollouts = True

    def __init__(
        self,
        group_size: int = 8,
        problems_per_rollout: int = 32,
        num_iterations: int = 1,
        loss_type: str = "dapo",
        clip_low: float | None = None,
        clip_high: float | None = None,
        delta: float | None = None,
        kl_coef: float = 0.0,
        kl_estimator: str = "k3",
        kl_correction: bool = True,
        entropy_coef: float = 0.0,
        advantage_scale: str = "group",
        advantage_baseline: str = "mean",
        combine: str = "sum_then_normalise",
        rewards: list[RewardArgs] = [RewardArgs("correctness")],  # noqa: B006, B008 (never changed)
        sampling: RolloutSampling = RolloutSampling(),  # noqa: B008 (frozen)
        mask_truncated: bool = False,
        dynamic_sampling: int = 0,
        sampler_correction: str | None = None,
        sampler_correction_cap: float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        bounds, penalties = (clip_low, clip_high, delta), (kl_coef, kl_estimator, kl_correction, entropy_coef)
        of_advantages = (advantage_scale, advantage_baseline, combine)
        own_correction = "token" if self.engine_name == "served" else "none"
        of_sampler = (sampler_correction or own_correction, sampler_correction_cap)
        self.rollout_objective = RolloutObjective(loss_type, *bounds, *penalties, *of_advantages, *of_sampler)
        check_rewards(rewards)
        if dynamic_sampling < 0:
            raise InputError(f"model.dynamic_sampling: expected at least 0, but got {dynamic_sampling}.")
        self.group_size = group_size
        self.problems_per_rollout = problems_per_rollout
        self.num_iterations = num_iterations
        self.rewards = rewards
        self.sampling = sampling
        self.mask_truncated = mask_truncated
        self.dynamic_sampling = dynamic_sampling
        self.rollout_size(group_size, accumulate=1, ranks=1).check()
        self.asks_reference = self.rollout_objective.needs_reference
        self.rollout: Rollout | None = None
        self.rollout_number = 0
        self.listeners: list[Callable[[str], None]] = []
        self._turn = 0  # micro-batches of the rollout that were handed out, over all passes
        self._source: RolloutSource | None = None
        self._figures = LossFigures()
        self._rollout_figures: dict[str, float] = {}
        self._train_seconds = self._started = 0.0

    def prepare_policy(self, policy: Policy) -> None:
        """Refuse a temperature that the policy cannot train at; then as every module with a reference."""
        policy.check_temperature(self.sampling.temperature)
        super().prepare_policy(policy)

    def _check_context(self) -> None:
        super()._check_context()
        training, context = self.trainer.datamodule.training, context_length(self.policy.causal_lm)
        if training is not None:
            check_prompts(training.examples, max_new_tokens=self.sampling.max_new_tokens, context=context)

    # Rollouts

    def rollout_size(self, batch_size: int, accumulate: int, ranks: int) -> RolloutSize:
        """Return the numbers of a rollout.

        Args:
            batch_size: Completions per device and micro-step.
            accumulate: Micro-batches a rank and optimiser step.
            ranks: Processes.
        """
        return RolloutSize(
            self.problems_per_rollout, self.group_size, batch_size, accumulate, ranks, self.num_iterations
        )

    def next_batch(self) -> RolloutBatch:
        """Return this rank's next micro-batch; makes a rollout where all of the last have been trained on."""
        size = self._size()
        if self.rollout is None or self._turn == size.micro_batches * size.num_iterations:
            self._make_rollout(size)
        self._turn += 1
        return self._batch((self._turn - 1) % size.micro_batches, size)

    def _size(self) -> RolloutSize:
        trainer = self.trainer
        return self.rollout_size(trainer.datamodule.batch_size, trainer.accumulate_grad_batches, trainer.world_size)

    def _batch(self, number: int, size: RolloutSize) -> RolloutBatch:
        rows = self.rollout.micro_batches(size.batch_size)[number]
        return self.rollout.batch(rows, self._layout(), number // size.accumulate)

    def _layout(self) -> Callable[[list[Example]], Batch]:
        data = self.trainer.datamodule
        return data.arrangement.layout(data.encoder.pad_id)

    def _make_rollout(self, size: RolloutSize) -> None:
        """Replace the rollout; random generators stay as they are."""
        if self._source is None:
            self._source = self._make_source(size)
        self.rollout, self._turn = None, 0
        self._tell("sampling")
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            self.engine.refresh(self.policy)
            self.rollout, figures = self._source.make(self.engine, self.trainer.datamodule, self.global_rank)
            self.engine.rest()
            self.rollout_number += 1
            start = time.monotonic()
            if size.steps_per_rollout > 1:
                with evaluating(self.policy):
                    self._score("old_logps", size)
            if self.rollout_objective.needs_reference:
                with self.policy.as_reference():
                    self._score("ref_logps", size)
        reshard(self.policy)
        figures |= self.engine_figures()
        figures["rollout/seconds/score"] = time.monotonic() - start
        figures["rollout/seconds/train"], self._train_seconds = self._train_seconds, 0.0
        self._rollout_figures = figures
        self._tell("")

    def _tell(self, work: str) -> None:
        for listener in self.listeners:
            listener(work)

    def _make_source(self, size: RolloutSize) -> RolloutSource:
        args = self.evaluation_args
        conventions = Conventions(args.ordered_lists, args.units)
        return RolloutSource(
            size,
            self.sampling,
            self.rewards,
            self.rollout_objective,
            Grader(args.grader_workers, args.grader_timeout, conventions),
            mask_truncated=self.mask_truncated,
            dynamic_sampling=self.dynamic_sampling,
            seed=self.trainer.datamodule.seed,
            say=lambda line: self.print(line, file=sys.stderr),  # beside the progress bar
        )

    def _score(self, name: str, size: RolloutSize) -> None:
        """Keep the log-probabilities of the whole rollout as the policy is now, cut as it will be in training."""
        for number, rows in enumerate(self.rollout.micro_batches(size.batch_size)):
            batch = self._batch(number, size).to(self.device)
            logps = self.policy(batch, temperature=self.sampling.temperature)
            self.rollout.keep(name, rows, logps)
            if name == "old_logps":
                self._figures.add_sampler(logps, batch.sampler_logps, batch.mask)

    # Training

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> Tensor:
        """Return the share of the window's loss, scaled for Lightning."""
        self._started = time.monotonic()
        entropy = self._entropy_mode()
        output = self.policy(batch, temperature=self.sampling.temperature, entropy=entropy)
        logps, entropies = (output, None) if entropy == "none" else output
        if batch.old_logps is None and self._turn == 1:
            self._figures.add_sampler(logps, batch.sampler_logps, batch.mask)
        rollout = RolloutLogps(
            logps,
            logps.detach() if batch.old_logps is None else batch.old_logps.to(logps.dtype),
            None if batch.ref_logps is None else batch.ref_logps.to(logps.dtype),
            entropies,
            batch.mask,
            batch.advantages.to(logps.dtype),
            batch.counted,
            batch.sampler_logps.to(logps.dtype),
        )
        share, sums = self.rollout_objective.loss(rollout, batch.window)
        self._figures.add(sums | ({} if entropies is None else {"entropy_tokens": sums["tokens"]}))
        return self.scale_for_backward(share)

    def _entropy_mode(self) -> str:
        """Return whether the entropy is computed: where it is in the loss, and for windows that are logged."""
        if self.rollout_objective.entropy_coef:
            return "differentiated"
        is_logged = (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0
        return "looked_at" if is_logged else "none"

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log a new rollout's figures, the window's loss, and at the trainer's interval the loss's figures."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        self._train_seconds += time.monotonic() - self._started
        if self._rollout_figures:
            self._log_rollout()
        if not self._window_is_open() and self.trainer.global_step % self.trainer.log_every_n_steps == 0:
            names, totals = self._figures.totals()
            totals = self.trainer.strategy.reduce(totals.to(self.device), reduce_op="sum")
            self.log_dict(LossFigures.means(names, totals), rank_zero_only=True)

    def _log_rollout(self) -> None:
        """Log each rollout once, at whatever interval steps are logged."""
        figures, self._rollout_figures = self._rollout_figures, {}
        shown = {"rollout/reward", "rollout/correct"} & figures.keys()
        self.log_dict({name: figures[name] for name in shown}, prog_bar=True, logger=False, rank_zero_only=True)
        others = {name: value for name, value in figures.items() if name not in shown}
        self.log_dict(others, logger=False, rank_zero_only=True)
        for logger in self.loggers:
            logger.log_metrics(figures, step=self.trainer.global_step)

    def on_fit_end(self) -> None:
        """End the processes that grade and reward."""
        if self._source is not None:
            self._source.close()

    # Checkpoints

    def resume_settings(self) -> dict[str, str]:
        """Return those of every objective, what rollouts are made of, and what they are trained for."""
        return {
            **super().resume_settings(),
            **{f"model.{name}": str(getattr(self, name)) for name in _SETTINGS},
            **{f"model.{name}": str(value) for name, value in self.rollout_objective.settings().items()},
            "model.rewards": json.dumps(reward_settings(self.rewards), sort_keys=True),
            "model.sampling": f"temperature {self.sampling.temperature}, {self.sampling.max_new_tokens} tokens",
        }

    def rank_state(self) -> dict[str, Any]:
        """Return the rollout under way, and where it is."""
        rollout = None if self.rollout is None else self.rollout.state_dict()
        return {"rollout": rollout, "rollout_number": self.rollout_number, "turn": self._turn}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Go on in the middle of the rollout."""
        self.rollout = None if state["rollout"] is None else Rollout.load_state_dict(state["rollout"])
        self.rollout_number, self._turn = state["rollout_number"], state["turn"]
