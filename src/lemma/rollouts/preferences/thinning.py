"""Decides which pairs stay, so that the large strata of a file do not drown the small ones.

1. A stratum is a kind of pairs, with the source or the level of their problems or both.
2. Of each kind, no stratum has more pairs than its *cap*: the lowest number with which the wanted share of the kind's
   pairs stays, but not fewer than its smallest stratum has. A share near 0 makes all strata equal.
3. A stratum keeps the first pairs of all its problems before any second one, and among those goes by a hash of the id.
"""

import hashlib
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from lemma.rollouts.preferences.args import PairingArgs

Stratum = tuple[str | int | None, ...]
"""Kind, and what the balance looks at."""

_STRATA = {"none": (), "source": ("source",), "level": ("level",), "both": ("source", "level")}

_HASH_BYTES = 7  # of 8 that a place takes; the other one is the pair's rank in its problem
_MOST_RANK = 255


class Thinning:
    """Takes all pairs once, and then says of each whether it stays; holds eight bytes a pair.

    Args:
        args: What makes a stratum, and the share to keep.
    """

    def __init__(self, args: PairingArgs) -> None:
        self._args = args
        self._places: defaultdict[Stratum, array[int]] = defaultdict(lambda: array("Q"))
        self._last: dict[Stratum, int] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a pair: a row with ``kind``, ``source``, ``level``, ``id``, and ``rank`` among those of its problem."""
        self._places[self._stratum(row)].append(_place(row))

    def settle(self) -> None:
        """Decide; all pairs are there."""
        for kind in {stratum[0] for stratum in self._places}:
            mine = {stratum: places for stratum, places in self._places.items() if stratum[0] == kind}
            most = cap(map(len, mine.values()), self._args.balance_keep)
            self._last |= {stratum: sorted(places)[min(most, len(places)) - 1] for stratum, places in mine.items()}

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Return whether a pair stays, one of those that were counted."""
        return _place(row) <= self._last[self._stratum(row)]

    def _stratum(self, row: Mapping[str, Any]) -> Stratum:
        return row["kind"], *(row[name] for name in _STRATA[self._args.balance])


def cap(sizes: Iterable[int], keep: float) -> int:
    """Return the lowest number of at least the smallest size to which sizes can be cut while ``keep`` of all stay.

    Args:
        sizes: Of strata, at least one, each at least 1.
        keep: Share of their sum, at most 1.
    """
    sizes = sorted(sizes)
    candidates = range(sizes[0], sizes[-1])  # the largest keeps all
    wanted = keep * sum(sizes)
    return sizes[0] + bisect_left(candidates, wanted, key=lambda most: sum(min(size, most) for size in sizes))


def _place(row: Mapping[str, Any]) -> int:
    digest = hashlib.blake2b(row["id"].encode(), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(bytes((min(row["rank"], _MOST_RANK),)) + digest)
