"""Decides whether attention skips what is masked on rows that several sequences share, and by which kernel.

SDPA computes every pair of a row and throws away what is masked. On a CPU attention goes span by span instead
(``spans``), on CUDA by flex_attention where completions share prompts (``flex``). One attention function goes by the
type of the mask, so that nothing is switched from batch to batch: layers that gradient checkpointing computes again in
the backward pass, and ``generate``, find the kernel that they had.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

from lemma.policy import flex, spans

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

FLEX_OR_SDPA = "lemma_flex_or_sdpa"
SPANS_OR_SDPA = "lemma_spans_or_sdpa"
SDPA_KERNELS = {"sdpa", FLEX_OR_SDPA, SPANS_OR_SDPA}
"""Names of the kernels that compute as SDPA does whatever mask SDPA takes."""

_KERNELS: dict[str, tuple[str, Callable[..., Any]]] = {
    "cuda": (FLEX_OR_SDPA, flex.attend),
    "cpu": (SPANS_OR_SDPA, spans.attend),
}


def skips_masked(
    config: "PreTrainedConfig", device: str, *, shares_prompts: bool, attention: str | None = None
) -> bool:
    """Return whether attention costs nothing for pairs of tokens that do not see each other.

    Args:
        config: Of the whole model.
        device: Type of the device that it runs on.
        shares_prompts: Whether completions stand behind a prompt that they share.
        attention: The attention kernel that was asked for; None for the model's own.
    """
    from transformers import AutoModelForCausalLM

    if attention not in (None, "sdpa"):
        return False
    if device != "cpu":
        return device == "cuda" and shares_prompts
    model_class = AutoModelForCausalLM._model_mapping.get(type(config), None)
    flags = ("_supports_sdpa", "_supports_attention_backend")
    if not all(getattr(model_class, flag, False) for flag in flags):
        return False
    text = config.get_text_config()
    dropout = getattr(text, "attention_dropout", None) or getattr(text, "attn_pdrop", None)
    windows = getattr(text, "sliding_window", None) or getattr(text, "attention_chunk_size", None)
    return not dropout and not windows


def use_skipping(causal_lm: nn.Module, device: str, *, shares_prompts: bool) -> None:
    """Let a model that runs on SDPA skip what is masked from now on, where it can; it computes all else as before.

    Args:
        causal_lm: With ``sdpa`` as its kernel; another one is left alone.
        device: Type of the device that it runs on.
        shares_prompts: Whether completions stand behind a prompt that they share.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    config = causal_lm.config.get_text_config()
    if config._attn_implementation == "sdpa" and skips_masked(causal_lm.config, device, shares_prompts=shares_prompts):
        name, attend = _KERNELS[device]
        AttentionInterface.register(name, attend)
        AttentionMaskInterface.register(name, sdpa_mask)
        config._attn_implementation = name
