"""How the rewards of a batch of completions are computed, and what becomes of those that fail."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lemma.rewards.args import RewardArgs, check_rewards
from lemma.rewards.process import RewardProcess
from lemma.rewards.registry import REWARDS, keywords, needed_columns
from lemma.rewards.values import Failed, Value
from lemma.types import InputError

MAX_DEATHS = 8
"""Processes that the completions of one batch may end; the completions after that are not tried."""


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
class RewardTable:
    """The rewards of N completions.

    Attributes:
        names: K names in logs.
        weights: K factors.
        values: N rows of K raw values; None is left out.
        failures: In the order of rewards and completions.
    """

    names: list[str]
    weights: list[float]
    values: list[list[float | None]]
    failures: list[Failure]

    @property
    def totals(self) -> list[float | None]:
        """Return the weighted sum of each row, see ``total``."""
        return [total(row, self.weights) for row in self.values]

    @property
    def num_failures(self) -> Counter[tuple[str, str]]:
        """Return how many completions failed, by (reward, kind)."""
        return Counter((each.reward, each.kind) for each in self.failures if each.index is not None)

    def report(self) -> list[str]:
        """Return one line for each reward and kind of failure: how many, and what happened first."""
        firsts: dict[tuple[str, str], Failure] = {}
        for each in sorted(self.failures, key=lambda each: each.index is None):
            firsts.setdefault((each.reward, each.kind), each)
        return [
            f"Reward {each.reward} {each.kind.replace('_', ' ')} on {_whose(each, self.num_failures)}: {each.message}."
            for each in firsts.values()
        ]


def compute_rewards(
    args: Sequence[RewardArgs],
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    *,
    process: RewardProcess | None = None,
) -> RewardTable:
    """Return the rewards of completions.

    1. A built-in reward is computed here, in time linear in the texts.
    2. A user's function is called once on all completions, in a process of its own with a time limit. A value that is
       no finite number fails alone.
    3. If that call fails as a whole, the function is called on each completion alone: the others keep their values.
    4. What failed is recorded, and becomes None, a number, or an error, as ``on_failure`` says.

    Args:
        args: K rewards.
        completions: N texts.
        columns: Lists of N values by name, among ``COLUMNS``.
        process: Where users' functions run; None starts one for this call if it is needed.

    Returns:
        The table; equal for the same completions alone and together, if functions judge each by itself.

    Raises:
        InputError: If a column is missing or has another length, or a reward fails whose ``on_failure`` is ``error``.
        RuntimeError: If the process does not start.
    """
    check_rewards(args)
    for name, column in columns.items():
        if len(column) != len(completions):
            raise InputError(f"rewards: expected {len(completions)} values of {name}, but got {len(column)}.")
    for each in args:
        for name in needed_columns(each.name):
            if name not in columns and name not in each.options:
                raise InputError(f"rewards.{each.name}: it needs the column {name}, which is not given.")
    lists = {name: list(column) for name, column in columns.items()}
    own = RewardProcess() if process is None else process
    failures: list[Failure] = []
    try:
        by_reward = [_settled(each, _values(each, completions, lists, own, failures), failures) for each in args]
    finally:
        if process is None:
            own.close()
    values = [[column[i] for column in by_reward] for i in range(len(completions))]
    return RewardTable([each.key for each in args], [float(each.weight) for each in args], values, failures)


def total(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    """Return the weighted sum of a completion's rewards without those that are None; None if all are."""
    given = [weight * value for value, weight in zip(values, weights, strict=True) if value is not None]
    return sum(given) if given else None


def _values(
    args: RewardArgs,
    completions: Sequence[str],
    columns: dict[str, list],
    process: RewardProcess,
    failures: list[Failure],
) -> list[Value]:
    """Return one value a completion, and record a failure of the batch as a whole."""
    if not completions:
        return []
    given = keywords(args.options, columns, len(completions))
    if args.is_built_in:
        try:
            return REWARDS[args.name](completions, **given)
        except InputError as error:
            raise InputError(f"rewards.{args.name}: {error}") from error
    found = process.call(args.name, completions, given)
    if not isinstance(found, Failed):
        return found
    failures.append(Failure(args.key, found.kind, None, found.message))
    return _one_by_one(args, completions, columns, process)


def _one_by_one(
    args: RewardArgs, completions: Sequence[str], columns: dict[str, list], process: RewardProcess
) -> list[Value]:
    values: list[Value] = []
    num_deaths = 0
    for i, completion in enumerate(completions):
        if num_deaths == MAX_DEATHS:
            values.append(Failed("not_tried", f"{MAX_DEATHS} completions of the batch had ended its process"))
            continue
        row = {name: column[i : i + 1] for name, column in columns.items()}
        found = process.call(args.name, [completion], keywords(args.options, row, 1))
        num_deaths += isinstance(found, Failed) and found.kind in ("timed_out", "died")
        values.append(found if isinstance(found, Failed) else found[0])
    return values


def _settled(args: RewardArgs, values: list[Value], failures: list[Failure]) -> list[float | None]:
    """Return the values with failures as configured, and record them.

    Raises:
        InputError: If one failed and ``on_failure`` is ``error``.
    """
    instead = float(args.on_failure) if args.on_failure not in ("error", "none") else None
    settled: list[float | None] = []
    for i, value in enumerate(values):
        if isinstance(value, Failed):
            if args.on_failure == "error":
                raise InputError(
                    f"rewards.{args.name}: {value.kind.replace('_', ' ')} on completion {i}: {value.message}. "
                    "(on_failure: none would leave it out.)"
                )
            failures.append(Failure(args.key, value.kind, i, value.message))
        settled.append(instead if isinstance(value, Failed) else value)
    return settled


def _whose(first: Failure, counts: Counter[tuple[str, str]]) -> str:
    if first.index is None:
        return "the whole batch, each completion was tried alone"
    return f"{counts[first.reward, first.kind]} completion(s), first on number {first.index}"
