"""The head's memory: bounded by one chunk of logits, whatever the tokens times the vocabulary."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from lemma.ops import Head, completion_logps, completion_logps_and_entropy

H, MAX_LOGITS = 8, 2**17
CHUNK = 4 * MAX_LOGITS  # bytes of one chunk of float32 logits
TOKENS, VOCAB = 512, 1024  # 4 chunks
SIZES = [(TOKENS, VOCAB), (4 * TOKENS, VOCAB), (TOKENS, 4 * VOCAB), (4 * TOKENS, 4 * VOCAB)]


def naive(hidden, ids, index, mask, *, head, max_logits):
    logits = head(hidden[:, :-1])
    return logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)


def with_entropy(*args, **kwargs):
    return sum(completion_logps_and_entropy(*args, **kwargs))


def with_entropy_gradient(*args, **kwargs):
    return sum(completion_logps_and_entropy(*args, **kwargs, entropy_gradient=True))


def one_step(logps: Callable, tokens: int, vocab: int, device: str, trained: bool, cap: float | None) -> Callable:
    """Return a function that runs forward and backward for so many tokens; what it needs exists already."""
    linear = nn.Linear(H, vocab, bias=False, device=device).requires_grad_(trained)
    hidden = torch.randn(1, tokens + 1, H, device=device, requires_grad=True)
    ids = torch.randint(vocab, (1, tokens + 1), device=device)
    where = ids, torch.arange(1, tokens + 1, device=device), torch.ones(1, tokens, dtype=torch.bool, device=device)
    head = Head(linear, vocab, cap)
    return lambda: logps(hidden, *where, head=head, max_logits=MAX_LOGITS).sum().backward()


def peak_on_cpu(step: Callable) -> int:
    """Return the most bytes that torch's allocator held at once above what it held before."""
    step()  # whatever is made once
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    assert len(events) > 10
    return peak


def unavoidable(tokens: int, vocab: int, trained: bool) -> int:
    """Return the bytes of what grows with tokens, and with the vocabulary where its weights are trained.

    Hidden states of the completion, their gradient, that of all positions, and one in passing: 4 x H a token; ids,
    log-probabilities and the like: 16 a token; the weights' gradient, a chunk's share of it and their sum.
    """
    return 4 * (tokens * (4 * H + 16) + (3 * vocab * H if trained else 0))


WAYS = [
    pytest.param(completion_logps, False, None, 1.1, id="frozen"),
    pytest.param(completion_logps, False, 30.0, 2.1, id="frozen, capped"),
    pytest.param(with_entropy, False, 30.0, 4.1, id="frozen, entropy"),
    pytest.param(completion_logps, True, None, 4.1, id="trained"),
    pytest.param(with_entropy_gradient, True, 30.0, 6.1, id="trained, entropy's gradient"),
]


@pytest.mark.parametrize(("logps", "trained", "cap", "chunks"), WAYS)
def test_the_peak_does_not_grow_with_tokens_times_vocabulary(logps, trained, cap, chunks):
    for tokens, vocab in SIZES:
        peak = peak_on_cpu(one_step(logps, tokens, vocab, "cpu", trained, cap))
        assert peak - unavoidable(tokens, vocab, trained) < chunks * CHUNK, (tokens, vocab)
    assert peak > CHUNK / 2  # the measure sees the chunk


def test_the_naive_head_fails_that_test():
    peaks = [peak_on_cpu(one_step(naive, *size, "cpu", False, None)) - unavoidable(*size, False) for size in SIZES]
    assert peaks[0] > 4 * CHUNK
    assert all(peak > 3.5 * peaks[0] for peak in peaks[1:3])
    assert peaks[3] > 14 * peaks[0]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("logps", "trained", "cap", "chunks"), WAYS)
def test_the_peak_on_cuda_does_not_grow_with_tokens_times_vocabulary(logps, trained, cap, chunks):
    for tokens, vocab in SIZES:
        step = one_step(logps, tokens, vocab, "cuda", trained, cap)
        step()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        peak = torch.cuda.max_memory_allocated() - before
        assert peak - unavoidable(tokens, vocab, trained) < (chunks + 1) * CHUNK, (tokens, vocab)
