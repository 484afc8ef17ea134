"""Crafted groups: ragged prompts of tokens and streams for each, and the way round our own loop."""

import pytest

from lemma.generation import sample_groups
from lemma.generation.draw import Drawing
from lemma.generation.padded import generate_padded
from lemma.generation.served import ServedArgs, ServedEngine
from lemma.generation.served.backoff import Backoff

SETTINGS = {"stop_ids": [2, 7, 11], "pad_id": 0, "max_new_tokens": 24, "temperature": 1.0, "top_p": 1.0}


@pytest.fixture
def prompts():
    """Return ragged prompts, one of a single token, and one longer than the windows of the small models."""
    return [list(range(20, 20 + size)) for size in (5, 1, 14, 9, 3, 30)]


@pytest.fixture
def seeds(prompts):
    """Return a greedy stream and three sampled ones for each prompt."""
    return [[None, *range(3 * number, 3 * number + 3)] for number in range(len(prompts))]


@pytest.fixture
def settings():
    """Return how they are drawn, as ``sample_groups`` takes it."""
    return {**SETTINGS, "max_batch_tokens": 32768}


@pytest.fixture
def by_transformers():
    """Return a function with the arguments of ``sample_groups`` that generates by transformers."""

    def generate(model, prompts, seeds, **settings):
        return generate_padded(model.eval(), prompts, seeds, Drawing(**settings), in_step=False)

    return generate


@pytest.fixture
def check_samples():
    """Return a check that two lists of groups have the same tokens, and log-probabilities but for rounding."""

    def check(ours, theirs, tolerance=2e-5):
        assert [[s.ids for s in row] for row in ours] == [[s.ids for s in row] for row in theirs]
        assert [[s.stopped for s in row] for row in ours] == [[s.stopped for s in row] for row in theirs]
        for group, other in zip(ours, theirs, strict=True):
            for one, two in zip(group, other, strict=True):
                assert one.logps == pytest.approx(two.logps, abs=tolerance)

    return check


@pytest.fixture
def sample():
    """Return the function under test."""
    return sample_groups


@pytest.fixture
def engine(encoder):
    """Return a function of (servers or their URLs, options of ``ServedArgs``) to an engine whose waits are short."""
    made = []

    def make(*servers, **options):
        options = {"request_timeout": 0.4, "deadline": 5.0} | options
        args = ServedArgs(urls=[getattr(server, "url", server) for server in servers], **options)
        made.append(ServedEngine(args, encoder, backoff=Backoff(first=0.01, longest=0.05)))
        return made[-1]

    yield make
    for each in made:
        each.close()
