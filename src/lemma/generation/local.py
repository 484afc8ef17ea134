"""The local engine: completions from prompts by the model at hand, each from a random stream of its own.

Models of attention run in our own loop (``decode``), any other, and weights that are sharded, in transformers' own
(``padded``); a completion is the same but for the rounding of its logits.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from lemma.generation.decode import can_decode, decode
from lemma.generation.draw import Drawing, Sample
from lemma.generation.padded import generate_padded
from lemma.policy.merging import merged


@torch.no_grad()
def sample_groups(
    model: nn.Module,
    prompts: list[list[int]],
    seeds: list[list[int | None]],
    *,
    stop_ids: list[int],
    pad_id: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_batch_tokens: int = 32768,
    merge: bool = False,
    in_step: bool = False,
) -> list[list[Sample]]:
    """Return a group of completions for each prompt, one for each of its seeds.

    Args:
        model: A transformers causal language model, or a module around one that has its ``generate``; put in
            evaluation mode for the call.
        prompts: Token ids, at least one each.
        seeds: Of each completion's random stream; None for a greedy one.
        stop_ids: Tokens that end a completion, the last of its tokens.
        pad_id: Token that fills rows up.
        max_new_tokens: Longest completion, in tokens, the stop token included.
        temperature: Divides the logits.
        top_p: Keep the smallest set of tokens with this probability.
        max_batch_tokens: Token budget of one batch: rows x (prompt + max_new_tokens).
        merge: Add adapters to the base's weights for the call, where ``lemma.policy.merging`` does: faster, at the
            cost of a copy of the weights that are adapted.
        in_step: Make as many forward passes as every other rank, for weights that are sharded; a collective call, also
            without prompts. ``merge`` has no effect then.
    """
    drawing = Drawing(stop_ids, pad_id, max_new_tokens, temperature, top_p, max_batch_tokens)
    with _evaluating(model), merged(model) if merge and not in_step else contextlib.nullcontext():
        if in_step:
            return generate_padded(model, prompts, seeds, drawing, in_step=True)
        causal_lm = _causal_lm(model)
        if can_decode(causal_lm):
            return decode(causal_lm, prompts, seeds, drawing)
        return generate_padded(model, prompts, seeds, drawing, in_step=False)


def _causal_lm(model: nn.Module) -> nn.Module:
    from transformers import PreTrainedModel  # slow to import, and the command line's help does not need it

    return next(module for module in model.modules() if isinstance(module, PreTrainedModel))


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and each module back in the mode that it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
