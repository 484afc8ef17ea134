"""How a configuration asks for coherence."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lemma.rewards.options import is_number
from lemma.types import InputError

_WEIGHTS = ("end", "path", "counterfactual")


@dataclass(frozen=True)
class CoherenceArgs:
    """What counts how much in the coherence of a trajectory and in its reward."""

    end: float = 1.0
    """Weight of s_end, agreement of the answers, in the mean of those that are defined; at least 0."""
    path: float = 1.0
    """Weight of s_path, agreement of the calculations and their truth; at least 0."""
    counterfactual: float = 1.0
    """Weight of s_cf, answers to variants of the problem; at least 0."""
    agreement_share: float = 0.5
    """Share of agreement in s_path, the rest is truth; between 0 and 1."""
    arm_weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of a trajectory's vote in s_end by its arm, above 0; 1 for an arm that is not named."""
    alpha: float = 1.0
    """Reward for a right answer; at least 0. Above beta + length_cost, right answers come before all others."""
    beta: float = 0.5
    """Reward for full coherence; at least 0."""
    length_cost: float = 0.1
    """What the longest allowed length costs, lambda; at least 0."""

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            InputError: Names the key, the rule and the value.
        """
        for key in (*_WEIGHTS, "alpha", "beta", "length_cost"):
            _expect(is_number(getattr(self, key)) and getattr(self, key) >= 0, key, "at least 0", getattr(self, key))
        _expect(
            any(getattr(self, key) for key in _WEIGHTS), "end", "above 0, as path and counterfactual are 0", self.end
        )
        share = self.agreement_share
        _expect(is_number(share) and 0 <= share <= 1, "agreement_share", "between 0 and 1", share)
        for arm, weight in self.arm_weights.items():
            _expect(is_number(weight) and weight > 0, f"arm_weights.{arm}", "above 0", weight)


def _expect(holds: bool, key: str, rule: str, value: object) -> None:
    if not holds:
        raise InputError(f"coherence.{key}: expected a number {rule}, but got {value!r}.")
