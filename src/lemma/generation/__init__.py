"""Completions from prompts."""

from lemma.generation.local import SamplingArgs, generate, stream_seed

__all__ = ["SamplingArgs", "generate", "stream_seed"]
