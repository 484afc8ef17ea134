"""Decides what a run minimises on its rollouts: advantages of completions, the loss, its bounds and penalties."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lemma.objectives import (
    BASELINES,
    COMBINATIONS,
    KL_ESTIMATORS,
    RL_LOSSES,
    SAMPLER_CORRECTIONS,
    SCALES,
    RolloutLogps,
    Window,
    advantages,
    check_rl_tunables,
    policy_loss,
)
from lemma.types import InputError


@dataclass(frozen=True)
class RolloutObjective:
    """A loss with its tunables, and the advantages it is given.

    Attributes:
        loss_type: A key of ``RL_LOSSES``.
        clip_low: Bound of the ratio; None for the loss's own default, here and for the next two.
        clip_high: The same.
        delta: The same.
        kl_coef: Weight of the KL to the reference, >= 0; at 0 there is no reference.
        kl_estimator: A key of ``KL_ESTIMATORS``.
        kl_correction: Whether the estimate is multiplied by the ratio.
        entropy_coef: Weight of the entropy, >= 0.
        advantage_scale: A key of ``SCALES``.
        advantage_baseline: A key of ``BASELINES``.
        combine: A key of ``COMBINATIONS``.
        sampler_correction: A key of ``SAMPLER_CORRECTIONS``.
        sampler_correction_cap: Largest weight of it, >= 1.

    Raises:
        InputError: If a name is unknown or a value is out of range; it names the key.
    """

    loss_type: str
    clip_low: float | None
    clip_high: float | None
    delta: float | None
    kl_coef: float
    kl_estimator: str
    kl_correction: bool
    entropy_coef: float
    advantage_scale: str
    advantage_baseline: str
    combine: str
    sampler_correction: str = "none"
    sampler_correction_cap: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        tables = {
            "loss_type": RL_LOSSES,
            "kl_estimator": KL_ESTIMATORS,
            "advantage_scale": SCALES,
            "advantage_baseline": BASELINES,
            "combine": COMBINATIONS,
            "sampler_correction": SAMPLER_CORRECTIONS,
        }
        for key, table in tables.items():
            if (value := getattr(self, key)) not in table:
                raise InputError(f"model.{key}: expected one of {', '.join(table)}, but got {value!r}.")
        for key in ("kl_coef", "entropy_coef"):
            if not 0 <= (value := getattr(self, key)) < float("inf"):
                raise InputError(f"model.{key}: expected a finite number of at least 0, but got {value}.")
        if not 1 <= self.sampler_correction_cap < float("inf"):
            raise InputError(
                f"model.sampler_correction_cap: expected a finite number of at least 1, but got "
                f"{self.sampler_correction_cap}."
            )
        if self.kl_coef and self.kl_estimator == "k1" and not self.kl_correction:
            raise InputError(
                "model.kl_estimator: k1 without model.kl_correction has a gradient of 0 on average, and holds nothing "
                "back; use k2 or k3, or the correction."
            )
        if self.loss_type == "dr_grpo" and self.advantage_scale != "none":
            rank_zero_warn(
                f"--model.loss_type dr_grpo with --model.advantage_scale {self.advantage_scale} divides advantages by "
                "a deviation, which Dr. GRPO (arXiv:2503.20783) does not. For the paper's: --model.advantage_scale none"
            )
        try:
            check_rl_tunables(self.loss_type, clip_low=self.clip_low, clip_high=self.clip_high, delta=self.delta)
        except InputError as error:
            given = [key for key in ("clip_low", "clip_high", "delta") if getattr(self, key) is not None]
            raise InputError(f"model.{', model.'.join(given)}: {error}") from error

    @property
    def needs_reference(self) -> bool:
        """Return whether the loss compares with a reference."""
        return self.kl_coef > 0

    def loss(self, rollout: RolloutLogps, window: Window) -> tuple[Tensor, dict[str, Tensor]]:
        """Return this micro-batch's share of the window's loss, and sums for logging (``objectives.policy_loss``)."""
        return policy_loss(
            self.loss_type,
            rollout,
            window,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            delta=self.delta,
            kl_coef=self.kl_coef,
            kl_estimator=self.kl_estimator,
            kl_correction=self.kl_correction,
            entropy_coef=self.entropy_coef,
            sampler_correction=self.sampler_correction,
            sampler_correction_cap=self.sampler_correction_cap,
        )

    def advantages(self, rewards: Tensor, weights: list[float], groups: Tensor) -> Tensor:
        """Return (N,) float64 advantages of all completions of a rollout, of all ranks.

        Args:
            rewards: (N, K) float64, NaN for None.
            weights: Of each of the K.
            groups: (N,) long, the number of each completion's group.
        """
        return advantages(
            rewards,
            torch.tensor(weights, dtype=rewards.dtype),
            groups,
            scale=self.advantage_scale,
            baseline=self.advantage_baseline,
            combine=self.combine,
        )

    def settings(self) -> dict[str, Any]:
        """Return what two runs must agree in to minimise the same, bounds that are not given by their defaults."""
        own = RL_LOSSES[self.loss_type].tunables
        return {key: own.get(key) if value is None else value for key, value in asdict(self).items()}
