"""Objectives as pure functions: tensors in, tensors out."""

from lemma.objectives.dpo import DPO_LOSSES, PairLogps, PairLoss, check_tunables, implicit_rewards, window_mean
from lemma.objectives.sft import SFT_LOSSES, dft_loss, sft_loss

__all__ = [
    "DPO_LOSSES",
    "SFT_LOSSES",
    "PairLogps",
    "PairLoss",
    "check_tunables",
    "dft_loss",
    "implicit_rewards",
    "sft_loss",
    "window_mean",
]
