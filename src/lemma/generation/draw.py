"""How a token is drawn: one uniform number a completion and token, and inverse transform sampling, whatever the engine.

A completion has a random stream of its own, so ranks, batch sizes and neighbours do not change what it draws.
"""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import TopPLogitsWarper

GREEDY_UNIFORM = -1.0
"""Stands where a greedy row would have a uniform number."""


class Sample(NamedTuple):
    """One completion in tokens."""

    ids: list[int]
    """Up to and including the stop token."""
    logps: list[float]
    """Log-probability of each of them in nats, at the sampling temperature and before top-p; empty where unknown."""
    stopped: bool
    """Whether it ended by a stop token, and not by the length limit."""
    text: str | None = None
    """What it says, without the stop token, where a server gives no tokens; ``ids`` and ``logps`` are then empty."""
    num_tokens: int | None = None
    """How many tokens it has, where a server gives none."""


@dataclass(frozen=True)
class Drawing:
    """How the completions of one call are drawn."""

    stop_ids: list[int]
    """Tokens that end a completion."""
    pad_id: int
    """Token that fills rows up; never attended to."""
    max_new_tokens: int
    """Longest completion, in tokens, the stop token included."""
    temperature: float
    """Divides the logits."""
    top_p: float
    """Keep the smallest set of tokens with this probability; 1 keeps all."""
    max_batch_tokens: int
    """Token budget of one batch: rows x (prompt + max_new_tokens)."""
    merge: bool = False
    """Whether the local engine adds adapters to the base's weights meanwhile; see ``sample_groups``."""

    def sample(self, ids: list[int], logps: list[float]) -> Sample:
        """Return a completion whose last token ended it."""
        return Sample(ids, logps, ids[-1] in self.stop_ids)


def stream_seed(seed: int, source: str, problem_id: str, sample: int) -> int:
    """Return the 63-bit seed of one completion's random stream."""
    digest = hashlib.sha256(f"{seed}/{source}/{problem_id}/{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream_uniforms(seeds: list[int | None], size: int) -> Tensor:
    """Return (B, size) float64 uniforms in [0, 1), each row from its own stream; ``GREEDY_UNIFORM`` where that is None.

    Args:
        seeds: Of each row's stream; None for a greedy row.
        size: Numbers a row.
    """
    rows = [
        torch.full((size,), GREEDY_UNIFORM, dtype=torch.float64)
        if seed is None
        else torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    ]
    return torch.stack(rows)


def draw(
    logits: Tensor,  # (B, V)
    uniforms: Tensor,  # (B,) float64
    *,
    temperature: float,
    top_p: float,
) -> tuple[Tensor, Tensor]:  # (B,) long, (B,) float32
    """Return the token that each row draws, and its log-probability at the temperature, before top-p.

    A row draws the first token at which the cumulative distribution exceeds its uniform number; the distribution is a
    float32 softmax, summed in float64.

    Args:
        logits: Of the next token.
        uniforms: Of each row, in [0, 1); a negative one marks a greedy row, which takes its maximum.
        temperature: Divides the logits.
        top_p: Keep the smallest set of tokens with this probability.
    """
    logits = logits.float()
    scores = logits / temperature if temperature != 1 else logits
    probabilities = scores.softmax(-1)
    kept = probabilities if top_p >= 1 else TopPLogitsWarper(top_p)(None, scores).softmax(-1)
    cumulative = kept.cumsum(-1, dtype=torch.float64)  # (B, V)
    tokens = torch.searchsorted(cumulative, uniforms[:, None] * cumulative[:, -1:], right=True)  # (B, 1)
    is_greedy = uniforms[:, None] < 0
    if is_greedy.any():
        tokens = torch.where(is_greedy, logits.argmax(-1, keepdim=True), tokens)
    logps = probabilities.gather(-1, tokens).log()
    return tokens.squeeze(-1), logps.squeeze(-1)
