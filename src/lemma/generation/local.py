"""The local engine: completions from prompts by transformers' ``generate``, each from a random stream of its own."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from lemma.encoding import ChatEncoder
from lemma.types import GREEDY, Completion, InputError, Problem


@dataclass(frozen=True)
class SamplingArgs:
    """How completions are drawn."""

    num_samples: int = 8
    """Completions sampled per problem; pass@k is unbiased for any k up to it."""
    greedy: bool = True
    """Also decode one completion greedily, for the accuracy."""
    temperature: float = 1.0
    """Divides the logits; > 0."""
    top_p: float = 1.0
    """Keep the smallest set of tokens with this probability, in (0, 1]; 1 samples from the whole distribution."""
    max_new_tokens: int = 256
    """Longest completion, in tokens, the stop token included."""
    seed: int = 0
    """Every completion draws from a stream seeded by (seed, source, problem id, sample index)."""
    max_batch_tokens: int = 32768
    """Token budget of one batch of sequences: rows x (prompt + max_new_tokens)."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: If a value is out of range, or there is nothing to generate.
        """
        for name in ("max_new_tokens", "max_batch_tokens"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"sampling.{name}: expected at least 1, but got {value}.")
        if self.num_samples < 0 or (self.num_samples == 0 and not self.greedy):
            raise InputError(f"sampling.num_samples: expected at least 1, but got {self.num_samples}.")
        if self.temperature <= 0:
            raise InputError(f"sampling.temperature: expected more than 0, but got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"sampling.top_p: expected a value in (0, 1], but got {self.top_p}.")

    @property
    def samples(self) -> list[int]:
        """Return the sample indices of a problem: greedy first, then 0..num_samples - 1."""
        return [GREEDY] * self.greedy + list(range(self.num_samples))


def stream_seed(seed: int, source: str, problem_id: str, sample: int) -> int:
    """Return the 63-bit seed of one completion's random stream."""
    digest = hashlib.sha256(f"{seed}/{source}/{problem_id}/{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class SeededSampler(LogitsProcessor):
    """Draws each row's token by inverse transform sampling from the row's own uniforms, and leaves only that token.

    ``generate`` then takes the maximum, so ranks, batch sizes and neighbours do not change what a row draws. It takes
    one uniform number per row and token, whatever the vocabulary. A greedy row keeps its maximum.

    Args:
        uniforms: (B, max_new_tokens) float64 in [0, 1); a negative number marks a greedy row.
        warpers: Temperature and top-p, applied to sampled rows.
    """

    def __init__(self, uniforms: Tensor, warpers: LogitsProcessorList) -> None:
        self.uniforms = uniforms
        self.warpers = warpers
        self.step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return (B, V) scores: 0 at the drawn token, -inf elsewhere."""
        uniform = self.uniforms[:, self.step, None]  # (B, 1)
        self.step += 1
        cumulative = self.warpers(input_ids, scores.float()).softmax(-1).double().cumsum(-1)  # (B, V)
        drawn = (cumulative <= uniform * cumulative[:, -1:]).sum(-1, keepdim=True)  # (B, 1)
        token = torch.where(uniform < 0, scores.argmax(-1, keepdim=True), drawn)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


@torch.no_grad()
def generate(
    model: nn.Module, problems: list[Problem], encoder: ChatEncoder, sampling: SamplingArgs, *, in_step: bool = False
) -> list[list[Completion]]:
    """Return the completions of each problem, in the order of ``SamplingArgs.samples``.

    Args:
        model: A transformers causal language model, or a module around one that has its ``generate``; put in
            evaluation mode for the call.
        problems: What to ask.
        encoder: Renders prompts, knows stop tokens, decodes.
        sampling: How many, and how they are drawn.
        in_step: Make as many forward passes as every other rank, for weights that are sharded; a collective call, also
            without problems.
    """
    requests = [
        (number, sample, encoder.encode_prompt(problem.problem))
        for number, problem in enumerate(problems)
        for sample in sampling.samples
    ]
    results: list[list[Completion]] = [[] for _ in problems]
    batches = list(_batches(requests, sampling))
    num_turns = _most(len(batches), next(model.parameters()).device) if in_step else len(batches)
    with _generating(model):
        for rows in batches:
            prompts = [ids for *_, ids in rows]
            seeds = [_row_seed(problems[number], sample, sampling) for number, sample, _ in rows]
            generated = _generate_rows(model, prompts, seeds, encoder, sampling, in_step=in_step)
            for (number, sample, _), ids in zip(rows, generated, strict=True):
                results[number].append(_completion(problems[number], sample, ids, encoder))
        for _ in range(num_turns - len(batches)):
            _generate_rows(model, [[encoder.pad_id]], [None], encoder, sampling, in_step=True)
    return [sorted(completions, key=lambda completion: completion.sample) for completions in results]


@contextlib.contextmanager
def _generating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode and its folder's sampling settings aside, and put both back.

    ``generate`` would take repetition_penalty, top_p and the like from the model's own settings, in silence.
    """
    from transformers import PreTrainedModel  # slow to import, and the command line's help does not need it

    causal_lm = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    modes = {module: module.training for module in model.modules()}
    settings, causal_lm.generation_config = causal_lm.generation_config, GenerationConfig()
    model.eval()
    try:
        yield
    finally:
        causal_lm.generation_config = settings
        for module, training in modes.items():
            module.training = training


def _most(number: int, device: torch.device) -> int:
    """Return the largest number of any rank."""
    most = torch.tensor(number, device=device)
    torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
    return int(most)


def _row_seed(problem: Problem, sample: int, sampling: SamplingArgs) -> int | None:
    return None if sample == GREEDY else stream_seed(sampling.seed, problem.source, problem.id, sample)


def _batches(requests: list[tuple[int, int, list[int]]], sampling: SamplingArgs) -> Iterator[list]:
    """Cut requests, shortest prompt first, into batches within the token budget (one row at least)."""
    batch: list = []
    for request in sorted(requests, key=lambda request: len(request[2])):
        width = len(request[2]) + sampling.max_new_tokens  # the longest so far
        if batch and (len(batch) + 1) * width > sampling.max_batch_tokens:
            yield batch
            batch = []
        batch.append(request)
    if batch:
        yield batch


def _generate_rows(
    model: nn.Module,
    prompts: list[list[int]],
    seeds: list[int | None],
    encoder: ChatEncoder,
    sampling: SamplingArgs,
    *,
    in_step: bool,
) -> list[list[int]]:
    """Return the generated ids of each row, up to and including the stop token."""
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    input_ids = torch.tensor([[encoder.pad_id] * (width - len(ids)) + ids for ids in prompts], device=device)
    lengths = torch.tensor([len(ids) for ids in prompts], device=device)
    attention_mask = (torch.arange(width, device=device) >= width - lengths[:, None]).long()  # (B, width), left-padded
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    output = model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        generation_config=GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            do_sample=False,  # SeededSampler draws
            eos_token_id=encoder.stop_ids,
            pad_token_id=encoder.pad_id,
            use_cache=True,
        ),
        synced_gpus=in_step,
        logits_processor=LogitsProcessorList([SeededSampler(_uniforms(seeds, sampling).to(device), warpers)]),
    )
    return [_until_stop(ids, encoder.stop_ids) for ids in output[:, width:].tolist()]


def _uniforms(seeds: list[int | None], sampling: SamplingArgs) -> Tensor:
    """Return (B, max_new_tokens) float64 uniforms, each row from its own stream; -1 for greedy rows."""
    size = sampling.max_new_tokens
    rows = [
        torch.full((size,), -1.0, dtype=torch.float64)
        if seed is None
        else torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    ]
    return torch.stack(rows)


def _until_stop(ids: list[int], stop_ids: list[int]) -> list[int]:
    end = next((i + 1 for i, token in enumerate(ids) if token in stop_ids), len(ids))
    return ids[:end]


def _completion(problem: Problem, sample: int, ids: list[int], encoder: ChatEncoder) -> Completion:
    stopped = ids[-1] in encoder.stop_ids
    text = encoder.decode(ids[:-1] if stopped else ids)
    return Completion(problem.id, problem.source, sample, text, len(ids), stopped)
