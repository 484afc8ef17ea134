"""What a completion earns in ``grpo``, on both sides: cheap, and seldom the same for two of a group."""

from typing import Any


def letters(completions: list[str], **columns: Any) -> list[float]:
    """Return how often each completion has an e."""
    return [float(text.count("e")) for text in completions]
