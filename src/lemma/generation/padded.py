"""The second engine: completions by transformers' ``generate``, one left-padded row each, until the slowest is done.

For what our own loop does not know: recurrent or convolutional state, caches of other kinds, sharded weights, whose
forward passes need every rank at once.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from lemma.generation.draw import Drawing, Sample, draw, stream_uniforms


class SeededSampler(LogitsProcessor):
    """Draws each row's token from the row's own uniforms, and leaves only that token, of which ``generate`` is sure.

    Args:
        uniforms: (B, max_new_tokens) float64; see ``draw``.
        temperature: Divides the logits.
        top_p: Keep the smallest set of tokens with this probability.
    """

    def __init__(self, uniforms: Tensor, *, temperature: float, top_p: float) -> None:
        self.uniforms = uniforms
        self.temperature = temperature
        self.top_p = top_p
        self.logps: list[Tensor] = []  # (B,) each, of the tokens drawn so far

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return (B, V) scores: 0 at the drawn token, -inf elsewhere."""
        uniforms = self.uniforms[:, len(self.logps)]
        tokens, logps = draw(scores, uniforms, temperature=self.temperature, top_p=self.top_p)
        self.logps.append(logps)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)


def generate_padded(
    model: nn.Module,
    prompts: list[list[int]],
    seeds: list[list[int | None]],
    drawing: Drawing,
    *,
    in_step: bool,
) -> list[list[Sample]]:
    """Return the completions of each prompt, one for each of its seeds.

    Args:
        model: A transformers causal language model, or a module around one that has its ``generate``; in evaluation
            mode.
        prompts: Token ids, at least one each.
        seeds: Of each completion's stream; None for a greedy one.
        drawing: How tokens are drawn.
        in_step: Make as many forward passes as every other rank; a collective call, also without prompts.
    """
    samples: list[list[Sample | None]] = [[None] * len(row) for row in seeds]
    places = [(number, completion) for number, row in enumerate(seeds) for completion in range(len(row))]
    batches = list(_batches(places, prompts, drawing))
    num_turns = _most(len(batches), next(model.parameters()).device) if in_step else len(batches)
    with _own_settings_aside(model):
        for batch in batches:
            rows = [(prompts[number], seeds[number][completion]) for number, completion in batch]
            for (number, completion), sample in zip(batch, _generate(model, rows, drawing, in_step), strict=True):
                samples[number][completion] = sample
        for _ in range(num_turns - len(batches)):
            _generate(model, [([drawing.pad_id], None)], drawing, in_step)
    return samples


@contextlib.contextmanager
def _own_settings_aside(model: nn.Module) -> Iterator[None]:
    """Put the sampling settings of a model's folder aside, and back.

    ``generate`` would take repetition_penalty, top_p and the like from them, in silence.
    """
    from transformers import PreTrainedModel  # slow to import, and the command line's help does not need it

    causal_lm = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    settings, causal_lm.generation_config = causal_lm.generation_config, GenerationConfig()
    try:
        yield
    finally:
        causal_lm.generation_config = settings


def _most(number: int, device: torch.device) -> int:
    """Return the largest number of any rank."""
    most = torch.tensor(number, device=device)
    torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
    return int(most)


def _batches(
    places: list[tuple[int, int]], prompts: list[list[int]], drawing: Drawing
) -> Iterator[list[tuple[int, int]]]:
    """Cut completions, shortest prompt first, into batches within the token budget (one row at least)."""
    batch: list[tuple[int, int]] = []
    for place in sorted(places, key=lambda place: len(prompts[place[0]])):
        width = len(prompts[place[0]]) + drawing.max_new_tokens  # the longest so far
        if batch and (len(batch) + 1) * width > drawing.max_batch_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _generate(
    model: nn.Module, rows: list[tuple[list[int], int | None]], drawing: Drawing, in_step: bool
) -> list[Sample]:
    """Return the completion of each row, a prompt and a seed."""
    device = next(model.parameters()).device
    width = max(len(ids) for ids, _ in rows)
    input_ids = torch.tensor([[drawing.pad_id] * (width - len(ids)) + ids for ids, _ in rows], device=device)
    lengths = torch.tensor([len(ids) for ids, _ in rows], device=device)
    uniforms = stream_uniforms([seed for _, seed in rows], drawing.max_new_tokens).to(device)
    sampler = SeededSampler(uniforms, temperature=drawing.temperature, top_p=drawing.top_p)
    output = model.generate(
        input_ids=input_ids,
        attention_mask=(torch.arange(width, device=device) >= width - lengths[:, None]).long(),  # left-padded
        generation_config=GenerationConfig(
            max_new_tokens=drawing.max_new_tokens,
            do_sample=False,  # SeededSampler draws
            eos_token_id=drawing.stop_ids,
            pad_token_id=drawing.pad_id,
            use_cache=True,
        ),
        synced_gpus=in_step,
        logits_processor=LogitsProcessorList([sampler]),
    )
    table = zip(output[:, width:].tolist(), torch.stack(sampler.logps, 1).tolist(), strict=True)
    return [_until_stop(ids, logps, drawing) for ids, logps in table]


def _until_stop(ids: list[int], logps: list[float], drawing: Drawing) -> Sample:
    end = next((i + 1 for i, token in enumerate(ids) if token in drawing.stop_ids), len(ids))
    return drawing.sample(ids[:end], logps[:end])
