"""How a configuration asks for a reward."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lemma.rewards.options import is_number
from lemma.rewards.registry import REWARDS, check_call
from lemma.types import InputError

ON_FAILURE = ("error", "none")


@dataclass(frozen=True)
class RewardArgs:
    """One reward of a run."""

    name: str
    """correctness, format, length, overlong, repetition, or the import path of your own function, such as
    my_package.rewards.my_reward."""
    weight: float = 1.0
    """Factor in the sum of rewards; 0 only logs it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the function, such as {style: boxed} for format."""
    on_failure: float | str = "none"
    """What a completion gets on which your function raises, runs out of time or returns no finite number: none (it is
    left out of this reward; the run stops where all of a rollout would be), error (the run stops), or a number. It is
    counted and shown in any case."""
    label: str | None = None
    """Name in logs; null is the name, or the last part of an import path."""
    timeout: float | None = None
    """Seconds of CPU time that a call of your function may take, for all completions of a rollout that a device draws;
    by the clock it may take four times as long. null is 5."""

    def __post_init__(self) -> None:
        """Refuse what cannot be computed. An import path's module is imported, and nothing of it called.

        Raises:
            InputError: If the function cannot be had or called so, or a value is out of range.
        """
        if not isinstance(self.name, str):
            raise InputError(f"rewards.name: expected a name or an import path, but got {self.name!r}.")
        if not isinstance(self.options, dict):
            raise InputError(f"rewards.{self.name}.options: expected a mapping, but got {self.options!r}.")
        check_call(self.name, self.options)
        if not is_number(self.weight):
            raise InputError(f"rewards.{self.name}.weight: expected a number, but got {self.weight!r}.")
        if self.on_failure not in ON_FAILURE and not is_number(self.on_failure):
            rule = f"{', '.join(ON_FAILURE)} or a number"
            raise InputError(f"rewards.{self.name}.on_failure: expected {rule}, but got {self.on_failure!r}.")
        if self.timeout is not None and not (is_number(self.timeout) and self.timeout > 0):
            raise InputError(f"rewards.{self.name}.timeout: expected a number above 0, but got {self.timeout!r}.")
        if re.fullmatch(r"[^\s/]+", self.key) is None:
            rule = "a label without blanks and slashes"
            raise InputError(f"rewards.{self.name}.label: expected {rule}, but got {self.label!r}.")

    @property
    def key(self) -> str:
        """Return the name in logs."""
        return self.name.rpartition(".")[2] if self.label is None else self.label

    @property
    def is_built_in(self) -> bool:
        """Return whether it is one of Lemma's own, which cannot hang and run in the calling process."""
        return self.name in REWARDS


def reward_args(value: str | dict[str, Any]) -> RewardArgs:
    """Return the arguments that a configuration gives as a mapping, or as a bare name.

    Raises:
        InputError: If it is neither, a key is unknown, the name is missing, or a value is refused.
    """
    if isinstance(value, str):
        return RewardArgs(value)
    if not isinstance(value, dict) or "name" not in value:
        raise InputError(f"rewards: expected a name or a mapping such as {{name: correctness}}, but got {value!r}.")
    known = [each.name for each in fields(RewardArgs)]
    for key in value:
        if key not in known:
            raise InputError(f"rewards.{value['name']}: expected keys among {', '.join(known)}, but got {key!r}.")
    return RewardArgs(**value)


def given_reward_args(args: RewardArgs) -> dict[str, Any]:
    """Return the mapping that ``reward_args`` takes, without the keys that hold their default."""
    default = RewardArgs("correctness")
    others = {each.name: getattr(args, each.name) for each in fields(RewardArgs) if each.name != "name"}
    return {"name": args.name} | {key: value for key, value in others.items() if value != getattr(default, key)}


def reward_settings(rewards: Sequence[RewardArgs]) -> list[dict[str, Any]]:
    """Return what two runs must agree in to reward the same.

    What becomes of failures is not part of it, so that a run that they ended can go on.
    """
    return [given_reward_args(replace(each, on_failure="none", timeout=None)) for each in rewards]


def check_rewards(rewards: Sequence[RewardArgs]) -> None:
    """Refuse rewards that cannot stand together.

    Raises:
        InputError: If there are none, all weigh 0, or two have the same name in logs.
    """
    if not any(each.weight for each in rewards):
        raise InputError("rewards: expected at least one with a weight other than 0, but got none.")
    keys = [each.key for each in rewards]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"rewards.label: expected a different one for each reward, but {key!r} stands twice.")
