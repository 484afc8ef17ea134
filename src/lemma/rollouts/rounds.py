"""Decides what is asked between two changes of the bandit's posterior: a round of problems, each by some arms."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lemma.encoding import ChatEncoder
from lemma.rewards.coherence import Variant
from lemma.rollouts.arms import ArmArgs
from lemma.types import Completion, Problem


class RoundItem(NamedTuple):
    """A problem to draw trajectories for.

    Attributes:
        place: Its number among all problems, from 0; no two have the same.
        problem: With an answer.
    """

    place: int
    problem: Problem


class Round:
    """Some problems; every rank is handed all of them, and draws for a share.

    Args:
        number: Of the round, from 0.
        items: Its problems.
    """

    def __init__(self, number: int, items: Sequence[RoundItem]) -> None:
        self.number = number
        self.items = items


class Arm(NamedTuple):
    """An arm at work.

    Attributes:
        args: What it is.
        encoder: Puts problems its way.
    """

    args: ArmArgs
    encoder: ChatEncoder


class Wanted(NamedTuple):
    """A completion that is wanted.

    Attributes:
        arm: Number of the arm that gives it.
        variant: Number of the variant of the problem that is asked; -1 is the problem itself.
        sample: Its index among the problem's trajectories; 0 for a variant, that an arm is asked once.
    """

    arm: int
    variant: int
    sample: int


class Attempt:
    """A problem while its trajectories are drawn.

    Args:
        item: The problem.
        round_number: Of its round.
        arms: Which arm gives each trajectory.
        variants: Of the problem, each of which every one of these arms is asked once.
    """

    def __init__(self, item: RoundItem, round_number: int, arms: Sequence[int], variants: Sequence[Variant]) -> None:
        self.item = item
        self.round_number = round_number
        self.arms = list(arms)
        self.variants = list(variants)
        self._drawn: dict[Wanted, Completion] = {}
        self._size = len(self.arms) + len(set(self.arms)) * len(self.variants)

    @property
    def is_complete(self) -> bool:
        """Return whether every completion is there."""
        return len(self._drawn) == self._size

    def wanted(self, arm: int) -> Iterator[Wanted]:
        """Yield what an arm is to give, completions of one prompt together."""
        samples = [sample for sample, chosen in enumerate(self.arms) if chosen == arm]
        yield from (Wanted(arm, -1, sample) for sample in samples)
        yield from (Wanted(arm, variant, 0) for variant in range(len(self.variants)) if samples)

    def problem(self, wanted: Wanted) -> Problem:
        """Return what is asked for a completion."""
        return self.item.problem if wanted.variant < 0 else self.variants[wanted.variant].problem

    def add(self, wanted: Wanted, completion: Completion) -> None:
        """Take a completion."""
        self._drawn[wanted] = completion

    @property
    def trajectories(self) -> list[Completion]:
        """Return the completions of the problem itself, once they are there."""
        return [self._drawn[Wanted(arm, -1, sample)] for sample, arm in enumerate(self.arms)]

    def of_variants(self, arm: int) -> list[Completion]:
        """Return the completions that an arm gave to the variants."""
        return [self._drawn[Wanted(arm, variant, 0)] for variant in range(len(self.variants))]
