"""What a model's configuration says about it, before any weight is read: what its layers remember, what they cost."""

from typing import TYPE_CHECKING

from lemma.assets import resolve_base
from lemma.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_STATELESS_LAYERS = {"full_attention", "sliding_attention", "chunked_attention", "window_attention"}


def load_config(base: str, revision: str | None = None, trust_remote_code: bool = False) -> "PreTrainedConfig":
    """Return the configuration of a base model.

    Args:
        base: Hub name or folder, or ``tiny``.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Run Python code that comes with the model.

    Raises:
        InputError: If there is none, or it is not one that transformers knows.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(resolve_base(base), revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise InputError(f"model.policy.base: no configuration could be loaded from {base!r}: {error}") from error


def state_beyond_attention(config: "PreTrainedConfig") -> str | None:
    """Return what carries state from token to token in a model beside attention, or None.

    A convolution or a recurrence runs over the borders of sequences that share a row, so such models cannot be packed.

    Args:
        config: Of the whole model.
    """
    from transformers import AutoModelForCausalLM

    text = config.get_text_config()
    if other := sorted(set(getattr(text, "layer_types", None) or ()) - _STATELESS_LAYERS):
        return f"layers of type {', '.join(other)}"
    model_class = AutoModelForCausalLM._model_mapping.get(type(config), None)
    if getattr(model_class, "_is_stateful", False):
        return f"the recurrent layers of {config.model_type}"
    return None


def cached_elements(config: "PreTrainedConfig") -> int:
    """Return the keys and values that a token leaves in the cache, in numbers, of all layers of attention together.

    Args:
        config: Of the whole model; a sliding window counts as if it kept every token.
    """
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    return 2 * _key_width(text) * sum(kind in _STATELESS_LAYERS for kind in kinds)


def attention_break_even(config: "PreTrainedConfig") -> float:
    r"""Return the row length at which attention costs as much as a decoder layer's matrices, in tokens.

    A frozen matrix of P elements takes 2P operations a token forward and 2P backward. A row of L tokens, all pairs of
    which a masked kernel computes, takes 4Lq forward and 10Lq backward (scores are made again), with the width q of all
    query heads: the break-even is :math:`L = 4P / 14q`.

    Args:
        config: Of the whole model; of a mixture of experts, all of them count as one.
    """
    text = config.get_text_config()
    hidden, heads = text.hidden_size, text.num_attention_heads
    queries, keys = heads * _head_size(text), _key_width(text)
    inner = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * hidden
    elements = 2 * hidden * (queries + keys) + 3 * hidden * inner
    return 4 * elements / (14 * queries)


def _head_size(text: "PreTrainedConfig") -> int:
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def _key_width(text: "PreTrainedConfig") -> int:
    """Return the width of all key heads of a layer together."""
    return (getattr(text, "num_key_value_heads", None) or text.num_attention_heads) * _head_size(text)
