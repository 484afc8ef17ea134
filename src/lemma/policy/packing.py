"""Decides whether a model can be given several sequences a row: by its configuration, and by trying it out."""

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lemma.encoding import Batch, Example
from lemma.encoding.layouts import packed, padded, shared_prefix
from lemma.policy.architecture import state_beyond_attention
from lemma.policy.quantization import has_quantized
from lemma.policy.visibility import MASKED_LAYERS
from lemma.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

LAYOUTS = ("auto", "padded", "packed", "shared_prefix")


def choose_layout(
    layout: str, config: "PreTrainedConfig", *, shares_prompts: bool = False, attention: str | None = None
) -> tuple[str, str | None]:
    """Return the layout for a model, and why ``auto`` had to be ``padded``, if so.

    ``auto`` is ``shared_prefix`` where that saves anything and the model can, else ``packed``, else ``padded``.

    Args:
        layout: One of ``LAYOUTS``.
        config: Of the whole model.
        shares_prompts: Whether examples have several completions.
        attention: The attention kernel that was asked for; None for the model's own.

    Raises:
        InputError: If rows are to be shared in a model that cannot keep apart what stands on them.
    """
    if layout == "padded":
        return "padded", None
    mixing, mask = _obstacle(config), _mask_obstacle(config, attention)
    if layout == "packed" and mixing is not None:
        raise InputError(
            f"data.layout: packed puts several sequences on a row, and {mixing} would run from one into the next. "
            "Use --data.layout padded."
        )
    if layout == "shared_prefix" and mixing is not None:
        raise InputError(
            f"data.layout: shared_prefix puts completions behind one another, and {mixing} would run from one into the "
            "next. Use --data.layout padded."
        )
    if layout == "shared_prefix" and mask is not None:
        raise InputError(
            f"data.layout: shared_prefix needs a mask by which completions do not see each other, and {mask} takes "
            "none. Use --data.layout packed" + (" or --model.policy.attn_implementation sdpa." if attention else ".")
        )
    if layout == "auto" and mixing is not None:
        return "padded", mixing
    if layout == "auto":
        return ("shared_prefix" if shares_prompts and mask is None else "packed"), None
    return layout, None


def _obstacle(config: "PreTrainedConfig") -> str | None:
    """Return what would mix sequences of a row, as far as the configuration tells, or None."""
    from transformers import AutoModelForCausalLM

    if (state := state_beyond_attention(config)) is not None:
        return state
    model_class = AutoModelForCausalLM._model_mapping.get(type(config), None)
    if model_class is not None and "position_ids" not in inspect.signature(model_class.forward).parameters:
        return f"the attention of {config.model_type}, which takes no position ids,"
    return None


def _mask_obstacle(config: "PreTrainedConfig", attention: str | None) -> str | None:
    """Return what takes no mask that we can make, as far as the configuration tells, or None."""
    if "flash" in (attention or ""):
        return attention
    text = config.get_text_config()
    if other := sorted(set(getattr(text, "layer_types", None) or ()) - MASKED_LAYERS):
        return f"attention of type {', '.join(other)}"
    chunked = getattr(text, "attention_chunk_size", None) is not None
    if chunked or "local" in (getattr(text, "attention_layers", None) or ()):  # Llama 4; GPT-Neo's own windows
        return f"the chunked attention of {config.model_type}" if chunked else f"local attention of {config.model_type}"
    return None


def one_row(input_ids: Tensor, position_ids: Tensor | None, attention: str | None) -> tuple[Tensor, Tensor | None]:
    """Return packed rows as the attention kernel needs them: one long row (1, B x L) for flash attention.

    transformers tells flash attention where sequences begin for a single row only. The rows one after the other are
    the same sequences, for each row begins at position 0; and flash attention computes no pair of two sequences.

    Args:
        input_ids: (B, L) ids.
        position_ids: (B, L) positions, from 0 in each sequence; None for the padded layout, which stays as it is.
        attention: Name of the kernel, such as ``sdpa`` or ``flash_attention_2``.
    """
    if position_ids is None or "flash" not in (attention or ""):
        return input_ids, position_ids
    return input_ids.reshape(1, -1), position_ids.reshape(1, -1)


def check_packing(policy: nn.Module, vocab_size: int, layout: str = "packed") -> None:
    """Refuse a model that computes another result for sequences that share a row than for each alone.

    Code that we do not know may ignore position ids or masks, and would train on sequences that read each other. Short
    random sequences go through the policy on shared rows, alone, and behind one another as one long sequence. How far
    the last moves their log-probabilities is the measure of how far the first may, which no data type and no scale of
    the weights upsets. Every rank computes the same, so that collectives match; modes and random generators stay as
    they are.

    Args:
        policy: Maps a batch to (N, T) log-probabilities.
        vocab_size: Ids are drawn below it.
        layout: ``packed`` or ``shared_prefix``; ``padded`` needs no trial.

    Raises:
        InputError: If sharing a row moves a sequence by more than 0.05 of what reading its neighbour does, or 0.2
            where weights of less than float32 make rounding visible; or if the model cannot take such a mask.
    """
    if layout == "padded":
        return
    device = next(policy.parameters()).device
    ids = torch.randint(vocab_size, (4, 24), generator=torch.Generator().manual_seed(0)).tolist()
    if layout == "packed":
        examples = [Example(f"row {i}", "check", row[:2], [row[2:]]) for i, row in enumerate(ids)]
        together, row_length = packed, 50
    else:
        pairs = enumerate(zip(ids[::2], ids[1::2], strict=True))
        examples = [Example(f"pair {i}", "check", one[:2], [one[2:], two[2:]]) for i, (one, two) in pairs]
        together, row_length = shared_prefix, 100
    alone = [replace(example, completions=[own]) for example in examples for own in example.completions]
    behind = [
        replace(example, prompt_ids=[*alone[i - 1].prompt_ids, *alone[i - 1].completions[0], *example.prompt_ids])
        for i, example in enumerate(alone)
    ]
    batches = [
        together(examples, pad_id=0, window_weight=1.0, row_length=row_length),
        *(padded([example], pad_id=0, window_weight=1.0) for example in [*alone, *behind]),
    ]
    try:
        shared, *apart = _evaluated(policy, [batch.to(device) for batch in batches])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"data.layout: this model's code cannot be given {layout} rows: {error!r}. Use --data.layout padded."
        ) from error
    reference, mixed = torch.cat(apart[:4]), torch.cat(apart[4:])  # (4, T)
    moved, most = (float((logps - reference).pow(2).mean(1).max().sqrt()) for logps in (shared, mixed))
    exact = not has_quantized(policy) and all(p.dtype in (torch.float32, torch.float64) for p in policy.parameters())
    if not moved <= (0.05 if exact else 0.2) * most:
        raise InputError(
            f"data.layout: in this model sequences that share a row read each other (their log-probabilities move by "
            f"{moved / most:.0%} of what reading a neighbour does). Use --data.layout padded."
        )


def _evaluated(policy: nn.Module, batches: list[Batch]) -> list[Tensor]:
    """Return each batch's (N, T) log-probabilities in evaluation mode, and leave no trace."""
    modes = [(module, module.training) for module in policy.modules()]
    gpus = [p.device for p in list(policy.parameters())[:1] if p.device.type == "cuda"]
    policy.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(gpus):
            return [policy(batch).double().cpu() for batch in batches]
    finally:
        for module, mode in modes:
            module.training = mode
