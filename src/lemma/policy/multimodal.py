"""What of a model that also sees or hears is trained on text: its decoder and head, and nothing beside them."""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def modules_beside_text(model: "PreTrainedModel") -> list[str]:
    """Return the names of the largest modules outside the text decoder and its head; none for a model of text alone.

    Text never passes through them: trained, they would get no gradient, which DDP refuses.

    Args:
        model: A causal language model, Gemma 3 with its vision tower for example.
    """
    if model.config.get_text_config() is model.config:
        return []
    text = {model.get_decoder(), model.get_output_embeddings()}
    return _modules_beside(model, text)


def _modules_beside(module: nn.Module, text: set[nn.Module], prefix: str = "") -> list[str]:
    names = []
    for name, child in module.named_children():
        if child in text:
            continue
        if text.isdisjoint(child.modules()):
            names.append(prefix + name)
        else:
            names += _modules_beside(child, text, f"{prefix}{name}.")
    return names
