"""Objectives as pure functions: tensors in, tensors out."""

from lemma.objectives.sft import sft_loss

__all__ = ["sft_loss"]
