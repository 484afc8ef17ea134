"""Direct preference optimisation and its kin: the policy learns from pairs of completions."""

import json
from typing import Any

import torch
from torch import Tensor

from lemma.encoding import Batch
from lemma.modules.pair_figures import PairFigures, figures_of
from lemma.modules.pair_objective import LossTypes, PairObjective
from lemma.modules.referenced import ReferencedModule
from lemma.modules.references import Precomputed
from lemma.objectives import PairLogps, window_mean
from lemma.ops import masked_sum
from lemma.types import InputError

REFERENCES = ("live", "precomputed")


class DPOModule(ReferencedModule):
    """Trains the policy on preference pairs, against a reference that stays what the policy is at the start.

    The reference of a fresh adapter is the base, of a continued adapter a frozen copy of it, of full fine-tuning a
    second model.

    Args:
        loss_type: sigmoid, hinge, ipo, robust, simpo, orpo, apo_zero, sigmoid_norm or sft; or a weighted sum, such as
            ``{sigmoid: 1.0, sft: 0.2}``, or with tunables of its own for each: ``{simpo: {weight: 1.0, beta: 2.0}}``.
        beta: How strongly the losses hold the policy to the reference; null takes each loss's own default.
        label_smoothing: Share of the pairs taken to be the wrong way round, for losses that have it; null as beta.
        gamma: Margin that simpo asks for; null as beta.
        reference: live computes the reference's log-probabilities for each batch; precomputed does it once, before
            training, and keeps them in ``data.cache_dir``.
        **kwargs: Those of ``ReferencedModule``.

    Raises:
        InputError: If a loss, a tunable or the reference is unknown or out of range.
    """

    objective = "dpo"
    trains_on_pairs = True

    def __init__(
        self,
        loss_type: LossTypes = "sigmoid",
        beta: float | None = None,
        label_smoothing: float | None = None,
        gamma: float | None = None,
        reference: str = "live",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        shared = {"beta": beta, "label_smoothing": label_smoothing, "gamma": gamma}
        self.pair_objective = PairObjective(loss_type, shared)
        if reference not in REFERENCES:
            raise InputError(f"model.reference: expected one of {', '.join(REFERENCES)}, but got {reference!r}.")
        if reference == "precomputed" and not self.pair_objective.needs_reference:
            losses = ", ".join(term.name for term in self.pair_objective.terms)
            raise InputError(f"model.reference: {losses} has no reference that could be precomputed; leave it at live.")
        self.reference = reference
        self.asks_reference = self.pair_objective.needs_reference and reference == "live"
        compares = self.pair_objective.needs_reference
        self.train_figures, self.held_out_figures = PairFigures(compares=compares), PairFigures(compares=compares)

    def _measures_pairs(self) -> bool:
        """Return whether the policy is compared with where it began: not where ``validate`` is given no checkpoint."""
        return self.trainer.state.fn == "fit" or self.trainer.ckpt_path is not None

    def on_fit_start(self) -> None:
        """Precompute the reference's log-probabilities, if asked to."""
        super().on_fit_start()
        self._precompute()

    def on_validate_start(self) -> None:
        """Precompute those of the held-out pairs."""
        super().on_validate_start()
        self._precompute()

    def _precompute(self) -> None:
        data = self.trainer.datamodule
        wanted = self.pair_objective.needs_reference and self.reference == "precomputed" and self._measures_pairs()
        if not wanted or data.training is None:
            return
        precomputed = Precomputed(self.policy, self.policy_args, self.trainer)
        groups = [data.training.held_out] if self.trainer.state.fn == "validate" else data.training.groups
        for examples in groups:
            examples.ref_logps = precomputed.of(examples)

    # Training

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss that, accumulated and averaged by Lightning, is the window's mean over pairs."""
        losses, weights = self._measure(batch, self.train_figures)
        return self.scale_for_backward(window_mean(losses, weights, batch.window_examples))

    def _measure(self, batch: Batch, figures: PairFigures) -> tuple[Tensor, Tensor]:
        """Return (E,) loss and (E,) weight of each pair, and note its figures."""
        pairs = self._pair_logps(batch)
        losses, weights = self.pair_objective(pairs), batch.weights[::2]
        figures.add(figures_of(pairs, losses, self.pair_objective.rewards(pairs)), weights, batch.labels)
        return losses, weights

    def _pair_logps(self, batch: Batch) -> PairLogps:
        references = self._reference_logps(batch)  # first: what it takes is free again when the policy needs memory
        logps = masked_sum(self.policy(batch), batch.mask)  # (N,)
        lengths = batch.mask.sum(-1)
        references = torch.zeros_like(logps) if references is None else references.to(logps.dtype)
        sides = [values.view(-1, 2).unbind(1) for values in (logps, references, lengths)]  # (N,) -> 2 x (E,)
        return PairLogps(*(side for pair in sides for side in pair))

    def _reference_logps(self, batch: Batch) -> Tensor | None:
        """Return (N,) the reference's log-probabilities, None where no loss needs them."""
        if not self.pair_objective.needs_reference:
            return None
        if batch.ref_logps is not None:
            return batch.ref_logps
        with self.policy.as_reference():
            return masked_sum(self.policy(batch), batch.mask)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the loss of the window, and at the trainer's interval the figures of all pairs since the last time."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if not self._window_is_open() and self.trainer.global_step % self.trainer.log_every_n_steps == 0:
            self.log_dict(self.train_figures.means("train"), rank_zero_only=True)

    # Validation

    def held_out_step(self, batch: Batch) -> None:
        """Add the loss and the figures of held-out pairs."""
        if not self._measures_pairs():
            return
        losses, weights = self._measure(batch, self.held_out_figures)
        if (total := weights.sum()) > 0:
            self.held_out_loss.update((losses * weights).sum() / total, total)

    def held_out_means(self) -> dict[str, float]:
        """Return the figures of the held-out pairs; a collective call."""
        if not self._measures_pairs():
            return {}
        return super().held_out_means() | self.held_out_figures.means("val")

    # Checkpoints

    def resume_settings(self) -> dict[str, str]:
        """Return those of every objective, the losses, and how the reference is computed."""
        return {
            **super().resume_settings(),
            "model.loss_type": json.dumps(self.pair_objective.settings(), sort_keys=True),
            "model.reference": self.reference,
        }
