"""Decides how far chosen completions may be longer than rejected ones, and says how far they are.

A pair's *length difference* is (chosen - rejected) / (chosen + rejected), in tokens, from -1 to 1; the *length bias* of
a corpus is its mean. Where it is far from 0, length alone tells the sides apart, and a policy that is trained on such
pairs grows long, or short, whatever else it learns (Park et al. 2024, arXiv:2403.19159).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from lemma.types import InputError


@dataclass(frozen=True)
class PairArgs:
    """What is left out of preference pairs."""

    max_length_bias: float | None = None
    """Most that a corpus's mean of (chosen - rejected) / (chosen + rejected) tokens may be off 0, above 0 and below 1;
    the pairs that are furthest off are left out until it holds. Null leaves none out."""

    def __post_init__(self) -> None:
        """Refuse what cannot be held.

        Raises:
            InputError: If the limit is not between 0 and 1.
        """
        if self.max_length_bias is not None and not 0 < self.max_length_bias < 1:
            raise InputError(
                f"data.pairs.max_length_bias: expected null or a number above 0 and below 1, "
                f"but got {self.max_length_bias!r}."
            )


@dataclass(frozen=True)
class LengthBalance:
    """How long the two sides of a corpus's pairs are.

    Attributes:
        num_pairs: Pairs that are trained on.
        chosen: Mean tokens of their chosen completions, the stop token included.
        rejected: The same of the rejected ones.
        chosen_longer: Share of them whose chosen completion is the longer one.
        bias: Their length bias.
        left_out: Pairs that the limit left out.
        bias_before: Length bias with those.
    """

    num_pairs: int
    chosen: float
    rejected: float
    chosen_longer: float
    bias: float
    left_out: int
    bias_before: float


def length_differences(lengths: np.ndarray) -> np.ndarray:
    """Return each pair's (chosen - rejected) / (chosen + rejected), (N,) float64.

    Args:
        lengths: (N, 2) tokens of the chosen and of the rejected completion, at least 1.
    """
    return (lengths[:, 0] - lengths[:, 1]) / lengths.sum(1)


def within_bias(differences: np.ndarray, limit: float | None) -> np.ndarray:
    """Return which pairs to keep so that the mean of their length differences is at most ``limit`` off 0.

    The pair that is furthest to the side of the bias goes first, of equal ones the later (on the negative side the
    earlier), until the mean holds. No choice leaves out fewer as long as 1 / limit pairs are left: a single one then
    moves the mean by less than from one bound to the other. Of fewer pairs the mean may jump across, and go on there.

    Args:
        differences: (N,) as ``length_differences`` returns them.
        limit: Above 0; None keeps all.

    Returns:
        (N,) bool; all False if no pair alone is within the limit.
    """
    order = np.argsort(differences, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(differences[order])])
    low, high = 0, len(order)
    while limit is not None and low < high and abs(mean := (sums[high] - sums[low]) / (high - low)) > limit:
        low, high = (low, high - 1) if mean > 0 else (low + 1, high)
    kept = np.zeros(len(order), dtype=bool)
    kept[order[low:high]] = True
    return kept


def balance(lengths: np.ndarray, kept: np.ndarray) -> LengthBalance:
    """Return how long the sides of the kept pairs are.

    Args:
        lengths: (N, 2) tokens of the chosen and of the rejected completion.
        kept: (N,) bool, at least one True.
    """
    differences, left = length_differences(lengths), lengths[kept]
    chosen, rejected = left.mean(0)
    return LengthBalance(
        num_pairs=len(left),
        chosen=float(chosen),
        rejected=float(rejected),
        chosen_longer=float((left[:, 0] > left[:, 1]).mean()),
        bias=float(differences[kept].mean()),
        left_out=len(lengths) - len(left),
        bias_before=float(differences.mean()),
    )


def balance_table(balances: Sequence[tuple[str, LengthBalance]]) -> str:
    """Return a table of how long the sides of each corpus's pairs are, and what the limit left out.

    Args:
        balances: Source and lengths of each corpus.
    """
    headers = ["corpus", "pairs", "chosen", "rejected", "chosen longer", "length bias", "left out", "bias with those"]
    rows = [
        [
            source,
            one.num_pairs,
            f"{one.chosen:.1f}",
            f"{one.rejected:.1f}",
            f"{one.chosen_longer:.1%}",
            f"{one.bias:+.3f}",
            one.left_out,
            f"{one.bias_before:+.3f}",
        ]
        for source, one in balances
    ]
    return "Tokens of the two sides of a pair, on average\n" + tabulate(rows, headers, disable_numparse=True)
