"""Decides what a run minimises on its pairs: one loss, or a weighted sum of several, each with its own tunables."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lemma.objectives import DPO_LOSSES, PairLogps, check_tunables, implicit_rewards
from lemma.types import InputError

LossTypes = str | dict[str, float | dict[str, float]]
"""A loss's name, or name → weight, or name → {weight, and its tunables}."""


@dataclass(frozen=True)
class Term:
    """A loss in the sum.

    Attributes:
        name: In ``DPO_LOSSES``.
        weight: It counts times this.
        tunables: All that its function takes.
    """

    name: str
    weight: float
    tunables: dict[str, float]

    def __call__(self, pairs: PairLogps) -> Tensor:
        """Return (E,) the loss of each pair, times its weight."""
        return self.weight * DPO_LOSSES[self.name].function(pairs, **self.tunables)


class PairObjective:
    """A weighted sum of losses.

    Args:
        loss_type: Which, and how they are weighted.
        shared: Tunables for every loss that takes them; None leaves each its own default.

    Raises:
        InputError: If a name, a tunable or a value is wrong.
    """

    def __init__(self, loss_type: LossTypes, shared: Mapping[str, float | None]) -> None:
        given = {name: value for name, value in shared.items() if value is not None}
        spelled = {loss_type: 1.0} if isinstance(loss_type, str) else loss_type
        if not spelled:
            raise InputError("model.loss_type: expected at least one loss, but got none.")
        self.terms = [_term(name, value, given) for name, value in spelled.items()]
        for name in given:
            if not any(name in term.tunables for term in self.terms):
                raise InputError(f"model.{name}: no loss of model.loss_type {', '.join(spelled)} takes it.")

    @property
    def needs_reference(self) -> bool:
        """Return whether a term compares with a reference."""
        return any(DPO_LOSSES[term.name].needs_reference for term in self.terms)

    @functools.cached_property
    def beta(self) -> float:
        """Return the scale of the implicit rewards: that of the first loss that has one, 1 where none has."""
        terms = sorted(self.terms, key=lambda term: not DPO_LOSSES[term.name].needs_reference)
        return next((term.tunables["beta"] for term in terms if "beta" in term.tunables), 1.0)

    def __call__(self, pairs: PairLogps) -> Tensor:
        """Return (E,) the loss of each pair."""
        return sum(term(pairs) for term in self.terms)

    def rewards(self, pairs: PairLogps) -> tuple[Tensor, Tensor]:
        """Return the implicit rewards (E,) of the chosen and of the rejected side.

        Beta times the log-ratio to the reference; where no loss has one, beta times the mean log-probability of a
        token, as SimPO defines it.
        """
        if self.needs_reference:
            return implicit_rewards(pairs, beta=self.beta)
        return self.beta * pairs.chosen / pairs.chosen_length, self.beta * pairs.rejected / pairs.rejected_length

    def settings(self) -> dict[str, Any]:
        """Return what two runs must agree in to minimise the same."""
        return {term.name: {"weight": term.weight, **term.tunables} for term in self.terms}


def _term(name: str, value: float | dict[str, float], shared: dict[str, float]) -> Term:
    if name not in DPO_LOSSES:
        raise InputError(f"model.loss_type: expected one of {', '.join(DPO_LOSSES)}, but got {name!r}.")
    known = DPO_LOSSES[name].tunables
    own = {"weight": value} if not isinstance(value, dict) else value
    if unknown := own.keys() - known.keys() - {"weight"}:
        takes = ", ".join(["weight", *known])
        raise InputError(f"model.loss_type.{name}: expected keys among {takes}, but got {', '.join(sorted(unknown))}.")
    weight = own.get("weight", 1.0)
    if not 0 < weight < math.inf:
        raise InputError(f"model.loss_type.{name}: expected a weight above 0, but got {weight}.")
    tunables = {key: float(own.get(key, shared.get(key, default))) for key, default in known.items()}
    for key, value in tunables.items():
        try:
            check_tunables(name, **{key: value})
        except InputError as error:
            place = f"loss_type.{name}" if key in own or key not in shared else key
            raise InputError(f"model.{place}: {error}") from error
    return Term(name, float(weight), tunables)
