"""How a command asks for preference pairs."""

from dataclasses import dataclass
from typing import Literal

from lemma.rewards.options import is_count, is_number
from lemma.types import InputError

CORRECTNESS, COHERENCE = "correctness", "coherence"
"""What a pair is about: a right over a wrong completion, or the more coherent one of two."""


@dataclass(frozen=True)
class PairingArgs:
    """How many pairs of which kind a problem gives, and which of them stay."""

    order: Literal["correctness_first", "correctness_only", "reward"] = "correctness_first"
    """Right over wrong, then coherent over less coherent among the right ones; the former only; or higher over lower
    reward, whatever is right."""
    pairs_per_problem: int = 4
    """Most pairs of a problem, at least 1."""
    coherence_share: float = 0.5
    """Share of them that is for coherence, rounded down to pairs; above 0 and below 1. Neither kind takes the other's
    places. For the order correctness_first."""
    margin: float = 0.05
    """Least difference in s_wm of a coherence pair, above 0 and at most 1. Right trajectories have the same s_end
    unless arms weigh differently, so it is a difference in s_path and s_cf: 0.05 is 0.1 of s_path where there is no
    s_cf. For the order correctness_first."""
    reward_margin: float = 0.1
    """Least difference in reward of a pair, above 0. For the order reward."""
    balance: Literal["none", "source", "level", "both"] = "both"
    """What makes the strata whose largest are thinned, of each kind for itself."""
    balance_keep: float = 0.75
    """Share of a kind's pairs that thinning keeps at least, above 0 and at most 1: no stratum has more than the lowest
    number with which so many stay, or than the smallest stratum has."""
    warn_below: int = 100
    """Pairs of a kind below which there is a warning, at least 1."""

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            InputError: Names the key, the rule and the value.
        """
        for key in ("pairs_per_problem", "warn_below"):
            _expect(is_count(getattr(self, key)), key, "a number of at least 1", getattr(self, key))
        for key, limit in (("margin", 1), ("balance_keep", 1), ("reward_margin", float("inf"))):
            value = getattr(self, key)
            rule = "a number above 0" + (f" and at most {limit}" if limit == 1 else "")
            _expect(is_number(value) and 0 < value <= limit, key, rule, value)
        share = self.coherence_share
        _expect(is_number(share) and 0 < share < 1, "coherence_share", "a number above 0 and below 1", share)
        if self.order == "correctness_first":
            rule = f"at least 1 / pairs_per_problem ({self.pairs_per_problem}), or order correctness_only"
            _expect(self.num_coherence > 0, "coherence_share", rule, share)

    @property
    def num_coherence(self) -> int:
        """Return how many of a problem's pairs are for coherence, for the order correctness_first."""
        return int(self.pairs_per_problem * self.coherence_share + _ROUNDING)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Return the kinds of pairs without which training would not be what was asked for."""
        return {
            "correctness_first": (CORRECTNESS, COHERENCE),
            "correctness_only": (CORRECTNESS,),
            "reward": (),
        }[self.order]


_ROUNDING = 1e-9  # 10 x 0.3 is 3


def _expect(holds: bool, key: str, rule: str, value: object) -> None:
    if not holds:
        raise InputError(f"pairs.{key}: expected {rule}, but got {value!r}.")
