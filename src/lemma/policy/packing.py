"""Decides whether a model can be given several sequences a row: by its configuration, and by trying it out."""

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lemma.encoding import Batch, Example
from lemma.encoding.layouts import packed, padded
from lemma.policy.architecture import state_beyond_attention
from lemma.policy.quantization import has_quantized
from lemma.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

LAYOUTS = ("auto", "padded", "packed")


def choose_layout(layout: str, config: "PreTrainedConfig") -> tuple[str, str | None]:
    """Return the layout for a model, ``padded`` or ``packed``, and why ``auto`` could not pack, if so.

    Args:
        layout: ``auto``, ``padded`` or ``packed``.
        config: Of the whole model.

    Raises:
        InputError: If packed rows are asked of a model that cannot keep their sequences apart.
    """
    if layout == "padded":
        return "padded", None
    obstacle = _obstacle(config)
    if layout == "packed" and obstacle is not None:
        raise InputError(
            f"data.layout: packed puts several sequences on a row, and {obstacle} would run from one into the next. "
            "Use --data.layout padded."
        )
    return ("packed", None) if obstacle is None else ("padded", obstacle)


def _obstacle(config: "PreTrainedConfig") -> str | None:
    """Return what would mix sequences of a row, as far as the configuration tells, or None."""
    from transformers import AutoModelForCausalLM

    if (state := state_beyond_attention(config)) is not None:
        return state
    model_class = AutoModelForCausalLM._model_mapping.get(type(config), None)
    if model_class is not None and "position_ids" not in inspect.signature(model_class.forward).parameters:
        return f"the attention of {config.model_type}, which takes no position ids,"
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


def check_packing(policy: nn.Module, vocab_size: int) -> None:
    """Refuse a model that computes another result for sequences that share a row than for each alone.

    Code that we do not know may ignore position ids, and would train on sequences that read each other. Short random
    sequences go through the policy on shared rows, alone, and behind one another as one long sequence. How far the
    last moves their log-probabilities is the measure of how far the first may, which no data type and no scale of the
    weights upsets. Every rank computes the same, so that collectives match; modes and random generators stay as they
    are.

    Args:
        policy: Maps a batch to (N, T) log-probabilities.
        vocab_size: Ids are drawn below it.

    Raises:
        InputError: If sharing a row moves a sequence by more than 0.05 of what reading its neighbour does, or 0.2
            where weights of less than float32 make rounding visible.
    """
    device = next(policy.parameters()).device
    ids = torch.randint(vocab_size, (4, 24), generator=torch.Generator().manual_seed(0)).tolist()
    alone = [Example(f"row {i}", "check", row[:2], [row[2:]]) for i, row in enumerate(ids)]
    behind = [replace(example, prompt_ids=[*ids[i - 1], *example.prompt_ids]) for i, example in enumerate(alone)]
    batches = [
        packed(alone, pad_id=0, window_weight=1.0, row_length=50),
        *(padded([example], pad_id=0, window_weight=1.0) for example in [*alone, *behind]),
    ]
    together, *apart = _evaluated(policy, [batch.to(device) for batch in batches])
    reference, mixed = torch.cat(apart[:4]), torch.cat(apart[4:])  # (4, T)
    moved, most = (float((logps - reference).pow(2).mean(1).max().sqrt()) for logps in (together, mixed))
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
