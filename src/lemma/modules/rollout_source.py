"""Decides how a rollout comes about, over all ranks: draws, rounds for signal, advantages, what counts, windows.

1. Problems come from the stream, the same on every rank; each rank draws the completions of its share.
2. With ``dynamic_sampling``, groups alike in correctness are replaced by such as are not, among further problems, as
   many a round as are missing; after the last round those drawn first fill up. Every rank draws as many.
3. Ranks tell one another rewards, verdicts and lengths; advantages and counts are over the whole rollout.
4. A completion counts if it has a reward and, with ``mask_truncated``, a stop token ended it.
5. A reward that fails on some completions is said, in each rollout; one that fails on all of them ends the run.
6. Where servers fail one rank, all end together, and the stream is where it was before the rollout.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lemma.answers import Grader
from lemma.datamodule import MathDataModule
from lemma.encoding import ChatEncoder
from lemma.generation import Engine
from lemma.generation.served.errors import ServerError
from lemma.modules.resume import gather_objects
from lemma.modules.rollout_figures import GroupFigures, figures_of_rollout
from lemma.modules.rollout_objective import RolloutObjective
from lemma.modules.serving import AgreedEnd, agreed
from lemma.objectives import total_rewards
from lemma.rewards import FailureTally, RewardArgs, RewardProcess, refuse_useless
from lemma.rollouts import Group, Prompt, Rollout, RolloutSampling, RolloutSize, collect


class _Drawn(NamedTuple):
    """A group that some rank has drawn; ``group`` itself where it may go to another one."""

    place: int
    figures: GroupFigures
    group: Group | None


class _Took(NamedTuple):
    """What drawing took one rank."""

    seconds: dict[str, float]
    num_tokens: int
    failures: FailureTally


class RolloutSource:
    """Makes rollouts.

    Args:
        size: Of a rollout.
        sampling: How completions are drawn.
        rewards: K rewards.
        objective: Gives the advantages.
        grader: Of answers.
        mask_truncated: Whether a completion that no stop token ended does not count.
        dynamic_sampling: Further rounds at most.
        seed: Of the run.
        say: Tells a person a line; called on every rank with the same.
    """

    def __init__(
        self,
        size: RolloutSize,
        sampling: RolloutSampling,
        rewards: list[RewardArgs],
        objective: RolloutObjective,
        grader: Grader,
        *,
        mask_truncated: bool,
        dynamic_sampling: int,
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        self.size = size
        self.sampling = sampling
        self.rewards = rewards
        self.objective = objective
        self.grader = grader
        self.mask_truncated = mask_truncated
        self.dynamic_sampling = dynamic_sampling
        self.seed = seed
        self.say = say
        self._process = RewardProcess()
        self._weights = [float(each.weight) for each in rewards]

    def close(self) -> None:
        """End the processes that grade and reward."""
        self.grader.close()
        self._process.close()

    def make(self, engine: Engine, data: MathDataModule, rank: int) -> tuple[Rollout, dict[str, float]]:
        """Return this rank's part of the next rollout, and the figures of all of it; a collective call.

        Args:
            engine: Draws from the policy as it is now.
            data: Has the stream of prompts.
            rank: This process.

        Raises:
            InputError: If a reward fails that is to stop the run then, or one fails on every completion.
            AgreedServerError: On every rank, if servers failed one; the stream is as if nothing had been drawn.
            AgreedEnd: On every rank, if a signal came while one waited for servers; the same holds.
        """
        drawn, own, figures = self._draw(engine, data, rank)
        chosen = self._choose(drawn)
        told = [each.figures for each in chosen]
        groups = [own.get(chosen[i].place) or chosen[i].group for i in self.size.share(rank)]
        rewards = torch.tensor([row for each in told for row in each.rewards], dtype=torch.float64)  # (N, K)
        totals = total_rewards(rewards, torch.tensor(self._weights, dtype=torch.float64))
        numbers = torch.arange(len(chosen)).repeat_interleave(self.size.group_size)
        advantages = self.objective.advantages(rewards, self._weights, numbers)
        stopped = torch.tensor([value for each in told for value in each.stopped])
        counted = ~totals.isnan() & (stopped | (not self.mask_truncated))
        rows = np.arange(self.size.completions).reshape(len(chosen), -1)[self.size.share(rank)].ravel()
        rollout = Rollout(groups, advantages[rows], counted[rows], max_length=self.sampling.max_new_tokens)
        rollout.windows = self._windows(rollout, len(data.training.examples.parts))
        figures |= figures_of_rollout(told, [each.key for each in self.rewards], totals)
        figures["rollout/advantages_std"] = float(advantages[counted].std()) if counted.sum() > 1 else 0.0
        figures["rollout/counted"] = float(counted.double().mean())
        return rollout, figures

    def _draw(
        self, engine: Engine, data: MathDataModule, rank: int
    ) -> tuple[list[_Drawn], dict[int, Group], dict[str, float]]:
        """Return all ranks' groups, this rank's by their places, and what drawing took."""
        drawn: list[_Drawn] = []
        own: dict[int, Group] = {}
        took: list[_Took] = []
        start = data.stream.state_dict()
        for turn in range(1 + self.dynamic_sampling):
            missing = self.size.problems - sum(each.figures.has_signal for each in drawn)
            if missing <= 0:
                break
            number = math.ceil(missing / self.size.ranks) * self.size.ranks
            mine = self.size.share(rank) if turn == 0 else np.arange(rank, number, self.size.ranks)
            draws = data.prompts.draw(number)
            prompts = [draws[i] for i in mine]
            try:
                parts = agreed(lambda prompts=prompts: self._collect(engine, data.encoder, prompts, own))
            except (ServerError, AgreedEnd):
                data.stream.load_state_dict(start)
                raise
            for theirs, their_took in parts:
                drawn += theirs
                took.append(their_took)
            refuse_useless(self.rewards, _failures(took))
        drawn.sort(key=lambda each: each.place)
        for line in _failures(took).report():
            self.say(line)
        return drawn, own, self._costs(took, len(drawn))

    def _collect(
        self, engine: Engine, encoder: ChatEncoder, prompts: list[Prompt], own: dict[int, Group]
    ) -> tuple[list[_Drawn], _Took]:
        """Return what other ranks are told of the groups of some prompts; the groups go to ``own``."""
        collected = collect(
            engine,
            encoder,
            prompts,
            self.sampling,
            group_size=self.size.group_size,
            seed=self.seed,
            rewards=self.rewards,
            grader=self.grader,
            reward_process=self._process,
        )
        places = [prompt.place for prompt in prompts]
        own |= dict(zip(places, collected.groups, strict=True))
        moves = self.dynamic_sampling > 0
        found = [_Drawn(place, _told(own[place]), own[place] if moves else None) for place in places]
        num_tokens = sum(sum(each.figures.lengths) for each in found)
        return found, _Took(collected.seconds, num_tokens, collected.failures)

    def _choose(self, drawn: list[_Drawn]) -> list[_Drawn]:
        """Return the groups of the rollout in the order in which they were drawn."""
        if len(drawn) > self.size.problems:
            drawn = sorted(drawn, key=lambda each: not each.figures.has_signal)[: self.size.problems]
        return sorted(drawn, key=lambda each: each.place)

    def _windows(self, rollout: Rollout, num_corpora: int) -> Tensor:
        """Return what each window holds, over all ranks."""
        mine = rollout.window_counts(self.size.batch_size, self.size.accumulate, num_corpora)
        return torch.stack(gather_objects(mine)).sum(0)

    def _costs(self, took: list[_Took], num_groups: int) -> dict[str, float]:
        """Return the figures of drawing: seconds of the slowest rank, round by round, tokens, failures."""
        ranks = self.size.ranks
        rounds = [took[first : first + ranks] for first in range(0, len(took), ranks)]
        seconds = {
            name: sum(max(each.seconds[name] for each in one) for one in rounds) for name in ("generate", "grade")
        }
        failed = _failures(took).by_reward
        return {
            **{f"rollout/seconds/{name}": value for name, value in seconds.items()},
            "rollout/tokens_per_second": sum(each.num_tokens for each in took) / max(seconds["generate"], 1e-9),
            "rollout/problems_drawn": float(num_groups),
            **{f"rollout/failures/{each.key}": float(failed[each.key]) for each in self.rewards},
        }


def _failures(took: list[_Took]) -> FailureTally:
    return sum((each.failures for each in took), FailureTally())


def _told(group: Group) -> GroupFigures:
    return GroupFigures(
        group.problem.source,
        [[math.nan if value is None else value for value in row] for row in group.rewards],
        [str(verdict) for verdict in group.verdicts],
        [len(sample.ids) for sample in group.samples],
        [sample.stopped for sample in group.samples],
    )
