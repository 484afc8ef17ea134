"""What is said of rewards that failed, and when a run must not go on with one."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from lemma.rewards.args import RewardArgs
from lemma.types import InputError


@dataclass(frozen=True, slots=True)
class Failure:
    """A reward that could not be had.

    Attributes:
        reward: The reward's name in logs.
        kind: See `lemma.rewards.values.Failed`.
        index: Of the completion; None for a call on the whole batch, after which each completion was tried alone.
        message: What happened, on one line.
    """

    reward: str
    kind: str
    index: int | None
    message: str


@dataclass(frozen=True)
class FailureTally:
    """Failures counted; those of several batches add up.

    Attributes:
        num_completions: Completions that rewards were computed of.
        counts: How many of them failed, by (reward, kind).
        firsts: What happened first, by the same; a key without a count is of whole batches alone.
    """

    num_completions: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    firsts: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def of(cls, failures: Iterable[Failure], num_completions: int) -> Self:
        """Return the tally of a batch.

        Args:
            failures: In the order of rewards and completions.
            num_completions: Of the batch.
        """
        ordered = sorted(failures, key=lambda each: each.index is None)
        firsts: dict[tuple[str, str], str] = {}
        for each in ordered:
            firsts.setdefault((each.reward, each.kind), each.message)
        counts = Counter((each.reward, each.kind) for each in ordered if each.index is not None)
        return cls(num_completions, counts, firsts)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.num_completions + other.num_completions,
            self.counts + other.counts,
            self.firsts | {key: message for key, message in other.firsts.items() if key not in self.firsts},
        )

    @property
    def by_reward(self) -> Counter[str]:
        """Return how many completions each reward failed on."""
        totals: Counter[str] = Counter()
        for (reward, _), count in self.counts.items():
            totals[reward] += count
        return totals

    def report(self) -> list[str]:
        """Return a line for each reward and kind of failure: how many, and what happened first."""
        return [
            f'Reward "{reward}" failed on {count} of {self.num_completions} completions: {message}.'
            if (count := self.counts[reward, kind])
            else f'Reward "{reward}" failed on a whole batch, each completion was tried alone: {message}.'
            for (reward, kind), message in self.firsts.items()
        ]


def refuse_useless(args: Sequence[RewardArgs], tally: FailureTally) -> None:
    """Refuse to go on where a reward failed on every completion, and nothing is given instead.

    Args:
        args: The rewards.
        tally: Of all of a rollout's completions, over all ranks.

    Raises:
        InputError: Names the reward, what happened first, and what to do.
    """
    for each in args:
        if each.on_failure == "none" and 0 < tally.num_completions == tally.by_reward[each.key]:
            first = next(message for (reward, _), message in tally.firsts.items() if reward == each.key)
            raise InputError(
                f'rewards: "{each.name}" failed on all {tally.num_completions} completions of a rollout, so that '
                f"nothing would be learnt from it: {first}. To go on all the same, say what such completions get: "
                f"on_failure: 0, for example."
            )
