"""From prompts to groups: completions are drawn, graded and rewarded, each the same on any rank and in any company.

1. A completion's random stream is seeded by the run's seed, the place of its problem in the stream of prompts, source
   and problem id, and its number in the group.
2. An engine draws: the policy at hand, with adapters merged into the base where that is exact
   (``lemma.policy.merging``), or servers.
3. The grader's verdicts are what the reward for correctness is computed from, and what figures of accuracy count.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from lemma.answers import Grader
from lemma.encoding import ChatEncoder
from lemma.generation import Drawing, Engine, Request, Sample, drawing_of, stream_seed
from lemma.generation.served.errors import ServerError
from lemma.rewards import FailureTally, RewardArgs, RewardProcess, RewardTable, compute_rewards
from lemma.rollouts.groups import Group
from lemma.rollouts.sampling import RolloutSampling
from lemma.types import Problem


class Prompt(NamedTuple):
    """A problem that completions are to be drawn for.

    Attributes:
        problem: With an answer.
        ids: Its prompt, at least one token.
        index: Of the problem among the training examples.
        place: Of this draw in the stream of prompts; no two draws have the same.
        corpus: Number of its corpus among the training examples.
    """

    problem: Problem
    ids: list[int]
    index: int
    place: int
    corpus: int = 0


class Collected(NamedTuple):
    """The groups of some prompts, and what it took.

    Attributes:
        groups: One for each prompt.
        seconds: Wall time by what it was spent on, ``generate`` and ``grade`` (rewards included).
        failures: What rewards failed on.
    """

    groups: list[Group]
    seconds: dict[str, float]
    failures: FailureTally


def collect(
    engine: Engine,
    encoder: ChatEncoder,
    prompts: Sequence[Prompt],
    sampling: RolloutSampling,
    *,
    group_size: int,
    seed: int,
    rewards: Sequence[RewardArgs],
    grader: Grader,
    reward_process: RewardProcess,
) -> Collected:
    """Return a group for each prompt.

    Args:
        engine: Draws from the policy as it was last told; a collective call where its weights are sharded.
        encoder: Knows stop tokens, decodes.
        prompts: This rank's; none gives no groups.
        sampling: How completions are drawn.
        group_size: Completions of a prompt.
        seed: Of the run.
        rewards: K rewards.
        grader: Of answers.
        reward_process: Where users' reward functions run.

    Raises:
        InputError: If a reward fails that is to stop the run then, or a gold answer is empty.
        ServerError: If servers give up on a completion, or do not say which tokens they drew, and how likely.
    """
    start = time.monotonic()
    requests = [Request(prompt.ids, _seed(seed, prompt, number)) for prompt in prompts for number in range(group_size)]
    flat = _draw(engine, requests, drawing_of(encoder, sampling, merge=True))
    samples = [flat[first : first + group_size] for first in range(0, len(flat), group_size)]
    drawn = time.monotonic()
    groups, table = _graded(prompts, samples, encoder, sampling.max_new_tokens, rewards, grader, reward_process)
    seconds = {"generate": drawn - start, "grade": time.monotonic() - drawn}
    return Collected(groups, seconds, table.tally)


def _draw(engine: Engine, requests: list[Request], drawing: Drawing) -> list[Sample]:
    """Return the completions in the order of their requests."""
    samples: dict[int, Sample] = {}
    for number, sample in engine.draw(requests, drawing):
        if not sample.ids or len(sample.logps) != len(sample.ids):
            raise ServerError(
                "model.engine: rollouts need the tokens that a server drew, and their log-probabilities at the "
                "temperature of model.sampling, but it does not give both. vLLM does, by return_token_ids (0.10.2 and "
                "later); where model.sampling.temperature is not 1, start it with --logprobs-mode processed_logprobs."
            )
        samples[number] = sample
    return [samples[number] for number in range(len(requests))]


def _seed(seed: int, prompt: Prompt, number: int) -> int:
    return stream_seed(seed, f"rollout/{prompt.place}/{prompt.problem.source}", prompt.problem.id, number)


def _graded(
    prompts: Sequence[Prompt],
    samples: list[list[Sample]],
    encoder: ChatEncoder,
    max_length: int,
    rewards: Sequence[RewardArgs],
    grader: Grader,
    process: RewardProcess,
) -> tuple[list[Group], RewardTable]:
    """Return groups with verdicts and rewards, and the table of all rewards."""
    flat = [(prompt.problem, sample) for prompt, group in zip(prompts, samples, strict=True) for sample in group]
    texts = [encoder.decode(sample.ids[:-1] if sample.stopped else sample.ids) for _, sample in flat]
    graded = grader.grade_texts([problem.answer for problem, _ in flat], texts)
    columns = {
        name: [getattr(problem, name) for problem, _ in flat]
        for name in ("problem", "answer", "solution", "level", "subject", "source")
    }
    columns |= {
        "verdicts": [grade.verdict for grade in graded],
        "num_tokens": [len(sample.ids) for _, sample in flat],
        "stopped": [sample.stopped for _, sample in flat],
        "max_length": [max_length] * len(flat),
    }
    table = compute_rewards(rewards, texts, columns, process=process)
    groups, first = [], 0
    for prompt, group in zip(prompts, samples, strict=True):
        own = slice(first, first + len(group))
        groups.append(
            Group(
                prompt.problem,
                prompt.ids,
                group,
                texts[own],
                [grade.verdict for grade in graded[own]],
                [grade.prediction for grade in graded[own]],
                table.values[own],
                prompt.index,
                prompt.corpus,
            )
        )
        first += len(group)
    return groups, table
