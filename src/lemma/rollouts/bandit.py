r"""Decides which arms give the completions of a problem, from what each has earned so far: a multi-armed bandit.

An arm is a number from 0 to K - 1; rewards are in [0, 1]. What was earned is a posterior that changes between rounds
alone; within a round, pulls that are pending are counted as pulls that confirm the mean.

| name | takes the arm with the largest |
|---|---|
| ``ucb1`` | :math:`\bar x_k + \sqrt{c \ln t / n_k}`; one that was never pulled comes first (Auer et al. 2002) |
| ``thompson`` | draw from :math:`\mathrm{Beta}(a + s_k, b + n_k - s_k)` (Agrawal and Goyal 2012, arXiv:1111.1797) |
| ``uniform`` | :math:`-n_k`: all in turn |
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lemma.types import InputError, Problem


@dataclass(frozen=True)
class BanditArgs:
    """Which arms give the completions of a problem."""

    name: str = "thompson"
    """ucb1, thompson or uniform."""
    by: str = "level"
    """What has a posterior of its own: each level, each source, or none (one for all problems)."""
    reward: str = "correct"
    """What is learnt from: correct (0 or 1), or total, the reward of a trajectory scaled to [0, 1]."""
    exploration: float = 2.0
    """c of ucb1; above 0."""
    prior: tuple[float, float] = (1.0, 1.0)
    """a and b of thompson's Beta distribution, both above 0."""

    def __post_init__(self) -> None:
        """Refuse what there is not.

        Raises:
            InputError: Names the key, the rule and the value.
        """
        for key, known in (("name", tuple(_SCORES)), ("by", tuple(_CONTEXTS)), ("reward", ("correct", "total"))):
            if (value := getattr(self, key)) not in known:
                raise InputError(f"model.bandit.{key}: expected one of {', '.join(known)}, but got {value!r}.")
        if not self.exploration > 0:
            raise InputError(f"model.bandit.exploration: expected a number above 0, but got {self.exploration}.")
        if not all(each > 0 for each in self.prior):
            raise InputError(f"model.bandit.prior: expected two numbers above 0, but got {list(self.prior)}.")


@dataclass
class Tally:
    """What K arms have earned in one context.

    Attributes:
        pulls: How often each was pulled.
        rewards: What each has earned in sum.
        pending: How often each was pulled without having earned yet.
    """

    pulls: list[int]
    rewards: list[float]
    pending: list[int]

    @classmethod
    def empty(cls, num_arms: int) -> "Tally":
        """Return the tally of arms that were never pulled."""
        return cls([0] * num_arms, [0.0] * num_arms, [0] * num_arms)

    def mean(self, arm: int) -> float | None:
        """Return the mean reward of an arm; None before its first."""
        return self.rewards[arm] / self.pulls[arm] if self.pulls[arm] else None


@dataclass
class Posterior:
    """What arms have earned in each context; the same on every rank, for it is told the same in the same order.

    Attributes:
        args: How arms are chosen.
        num_arms: K.
        contexts: By name, in the order in which they came.
    """

    args: BanditArgs
    num_arms: int
    contexts: dict[str, Tally] = field(default_factory=dict)

    def choose(self, problem: Problem, number: int, *, seed: int) -> list[int]:
        """Return which arms give the completions of a problem; they are pending until ``earn``.

        Args:
            problem: Its level or source is the context; its source and id decide the draws.
            number: How many completions.
            seed: Of the run.
        """
        tally = self._tally(problem)
        draw = random.Random(f"{seed}/bandit/{problem.source}/{problem.id}")
        score, chosen = _SCORES[self.args.name], []
        for _ in range(number):
            ranked = [(score(tally, arm, self.args, draw), draw.random(), arm) for arm in range(self.num_arms)]
            chosen.append(max(ranked)[-1])
            tally.pending[chosen[-1]] += 1
        return chosen

    def earn(self, problem: Problem, arms: Sequence[int], rewards: Sequence[float]) -> None:
        """Count what the arms that were chosen for a problem have earned.

        Args:
            problem: As for ``choose``.
            arms: What ``choose`` returned.
            rewards: One for each, in [0, 1].
        """
        tally = self._tally(problem)
        for arm, reward in zip(arms, rewards, strict=True):
            tally.pending[arm] -= 1
            tally.pulls[arm] += 1
            tally.rewards[arm] += reward

    def overall(self) -> Tally:
        """Return what the arms have earned in all contexts together."""
        columns = [(each.pulls, each.rewards, each.pending) for each in self.contexts.values()]
        sums = ([sum(values) for values in zip(*column, strict=True)] for column in zip(*columns, strict=True))
        return Tally(*sums) if columns else Tally.empty(self.num_arms)

    def _tally(self, problem: Problem) -> Tally:
        return self.contexts.setdefault(_CONTEXTS[self.args.by](problem), Tally.empty(self.num_arms))


def _ucb1(tally: Tally, arm: int, args: BanditArgs, draw: random.Random) -> float:
    pulls = tally.pulls[arm] + tally.pending[arm]
    if not pulls:
        return math.inf
    total = sum(tally.pulls) + sum(tally.pending)
    mean = tally.mean(arm)
    return (1.0 if mean is None else mean) + math.sqrt(args.exploration * math.log(total) / pulls)


def _thompson(tally: Tally, arm: int, args: BanditArgs, draw: random.Random) -> float:
    earned, (right, wrong) = tally.rewards[arm], args.prior
    return draw.betavariate(right + earned, wrong + max(0.0, tally.pulls[arm] - earned))


def _uniform(tally: Tally, arm: int, args: BanditArgs, draw: random.Random) -> float:
    return -(tally.pulls[arm] + tally.pending[arm])


_SCORES: dict[str, Callable[[Tally, int, BanditArgs, random.Random], float]] = {
    "ucb1": _ucb1,
    "thompson": _thompson,
    "uniform": _uniform,
}
_CONTEXTS: dict[str, Callable[[Problem], str]] = {
    "level": lambda problem: f"level_{'none' if problem.level is None else problem.level}",
    "source": lambda problem: problem.source,
    "none": lambda problem: "all",
}
