"""What ships with Lemma: ``tiny``, a chat policy of 1M parameters in Hugging Face format. Standard library only."""

import importlib.resources


def resolve_base(name: str) -> str:
    """Return the folder of the shipped policy for ``tiny``, any other hub name or path unchanged."""
    return str(importlib.resources.files("lemma").joinpath("assets", "tiny")) if name == "tiny" else name
