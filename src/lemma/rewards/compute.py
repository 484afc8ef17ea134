"""How the rewards of a batch of completions are computed, and what becomes of those that fail."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lemma.rewards.args import RewardArgs, check_rewards
from lemma.rewards.failures import Failure, FailureTally
from lemma.rewards.process import RewardProcess
from lemma.rewards.registry import REWARDS, keywords, needed_columns
from lemma.rewards.values import Failed, Value
from lemma.types import InputError

MAX_TIMEOUTS = 2
MAX_DEATHS = 8
"""Completions of one batch that may run out of time alone, or end their process; those after that are not tried."""

_BOUNDS = {"timed_out": (MAX_TIMEOUTS, "run out of time"), "died": (MAX_DEATHS, "ended its process")}


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
    def tally(self) -> FailureTally:
        """Return the failures counted."""
        return FailureTally.of(self.failures, len(self.values))


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
    3. If that call raises, runs out of time or ends the process, the function is called on each completion alone: the
       others keep their values. A function that returns another number of values is wrong, and is not called again.
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
    found = process.call(args.name, completions, given, args.timeout)
    if not isinstance(found, Failed):
        return found
    if found.kind == "wrong_length":
        return [found] * len(completions)
    failures.append(Failure(args.key, found.kind, None, found.message))
    return _one_by_one(args, completions, columns, process)


def _one_by_one(
    args: RewardArgs, completions: Sequence[str], columns: dict[str, list], process: RewardProcess
) -> list[Value]:
    values: list[Value] = []
    ends: Counter[str] = Counter()
    for i, completion in enumerate(completions):
        row = {name: column[i : i + 1] for name, column in columns.items()}
        found = process.call(args.name, [completion], keywords(args.options, row, 1), args.timeout)
        values.append(found if isinstance(found, Failed) else found[0])
        if isinstance(found, Failed) and found.kind in _BOUNDS:
            ends[found.kind] += 1
            most, what = _BOUNDS[found.kind]
            if ends[found.kind] == most:
                not_tried = Failed("not_tried", f"they were not tried, for {most} before them had {what}")
                return values + [not_tried] * (len(completions) - len(values))
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
