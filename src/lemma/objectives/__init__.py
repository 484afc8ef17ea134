"""Objectives as pure functions: tensors in, tensors out."""

from lemma.objectives.sft import SFT_LOSSES, dft_loss, sft_loss

__all__ = ["SFT_LOSSES", "dft_loss", "sft_loss"]
