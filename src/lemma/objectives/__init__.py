"""Objectives as pure functions: tensors in, tensors out."""

from lemma.objectives.advantages import (
    BASELINES,
    COMBINATIONS,
    SCALES,
    advantages,
    alike,
    group_advantages,
    total_rewards,
)
from lemma.objectives.dpo import DPO_LOSSES, PairLogps, PairLoss, check_tunables, implicit_rewards, window_mean
from lemma.objectives.grpo import RL_LOSSES, RLLoss, RolloutLogps, Window, check_rl_tunables, policy_loss
from lemma.objectives.kl import KL_ESTIMATORS
from lemma.objectives.sampler import SAMPLER_CORRECTIONS
from lemma.objectives.sft import SFT_LOSSES, dft_loss, sft_loss

__all__ = [
    "BASELINES",
    "COMBINATIONS",
    "DPO_LOSSES",
    "KL_ESTIMATORS",
    "RL_LOSSES",
    "SAMPLER_CORRECTIONS",
    "SCALES",
    "SFT_LOSSES",
    "PairLogps",
    "PairLoss",
    "RLLoss",
    "RolloutLogps",
    "Window",
    "advantages",
    "alike",
    "check_rl_tunables",
    "check_tunables",
    "dft_loss",
    "group_advantages",
    "implicit_rewards",
    "policy_loss",
    "sft_loss",
    "total_rewards",
    "window_mean",
]
