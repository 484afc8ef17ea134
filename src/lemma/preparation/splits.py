"""Decides whether the shares of a split are what they should be, by source and by level."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from lemma.corpora import in_fold
from lemma.corpora.split import FOLDS
from lemma.preparation.sides import SIDES, Account, levels_of

ERRORS = 3.0
"""Standard errors beyond which a share is marked; of 1,000 shares some 3 are by chance."""


def split_report(accounts: Sequence[Account], split: str) -> str:
    """Return a table of the shares of train, val and test by source and level, beside the binomial error of each.

    The unit is the problem: rows of the same problem are on the same side.

    Args:
        accounts: Of the training corpora.
        split: Proportions, e.g. ``80/10/10``.
    """
    expected = [float(share) for share in split.split("/")]
    sides = SIDES[: len(expected)]
    rows = []
    for account in accounts:
        rows += [
            [account.corpus.source, name, *_shares(keys, split, expected)]
            for name, keys in [("all", account.corpus.keys[account.available]), *_by_level(account)]
        ]
    table = tabulate(rows, ["corpus", "level", "problems", *sides], tablefmt="github")
    proportions = " / ".join(f"{share / sum(expected):.1%}" for share in expected)
    return (
        f"{table}\n\nExpected {proportions}; ± is the standard error of a share of so many problems, ! marks one "
        f"that is more than {ERRORS:.0f} of them away."
    )


def _by_level(account: Account) -> list[tuple[str, np.ndarray]]:
    levels = levels_of(account.corpus)[account.available]
    keys = account.corpus.keys[account.available]
    return [(f"{level:.0f}", keys[levels == level]) for level in np.unique(levels[~np.isnan(levels)])]


def _shares(keys: np.ndarray, split: str, expected: Sequence[float]) -> list[Any]:
    keys = np.unique(keys)
    cells: list[Any] = [len(keys)]
    for fold, weight in zip(FOLDS, expected, strict=False):
        share, hoped = float(in_fold(keys, fold, split).mean()), weight / sum(expected)
        error = math.sqrt(hoped * (1 - hoped) / len(keys))
        cells.append(f"{share:.1%} ± {error:.1%}{' !' if abs(share - hoped) > ERRORS * error else ''}")
    return cells
