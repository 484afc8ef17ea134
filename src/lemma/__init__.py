"""Lemma post-trains language models for mathematical reasoning, and measures them, on PyTorch Lightning."""

__version__ = "0.1.0"
