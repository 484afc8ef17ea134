"""Decides which training problems are left out because they come twice or are being tested on, and says so.

1. A problem that is also in a benchmark, or in the held-out data, is dropped (``contamination.py`` finds them).
2. A pair goes with its problem: what the user's last message puts.
3. Of rows that come twice, within a corpus or across corpora, the first is kept, in the order of the configuration.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lemma.corpora.contamination import Match, find_contaminated
from lemma.corpora.corpus import Corpus
from lemma.corpora.split import Item, identity, problem_key
from lemma.types import InputError

DEDUPLICATE = ("rows", "problems", "off")
DECONTAMINATE = ("ngrams", "exact", "off")


@dataclass(frozen=True)
class CleaningArgs:
    """What is left out of training before anything is drawn from it."""

    deduplicate: str = "rows"
    """rows: the same problem with the same solution, or the same pair, comes once; problems: each problem comes once,
    of its pairs the first; or off."""
    decontaminate: str = "ngrams"
    """ngrams: drop what is in a benchmark or shares long runs of words with it; exact: what is in it; or off."""
    on_overlap: str = "drop"
    """A training problem that is also tested on: drop (reported), or error."""

    def __post_init__(self) -> None:
        """Refuse unknown values.

        Raises:
            InputError: Names the key and the values.
        """
        for key, known in (
            ("deduplicate", DEDUPLICATE),
            ("decontaminate", DECONTAMINATE),
            ("on_overlap", ("drop", "error")),
        ):
            if getattr(self, key) not in known:
                raise InputError(
                    f"data.cleaning.{key}: expected one of {', '.join(known)}, but got {getattr(self, key)!r}."
                )


@dataclass(frozen=True)
class Cleaning:
    """What was left out.

    Attributes:
        dropped: For each training corpus, (N,) bool.
        rows: One line for each problem left out: which, why, and for what it was.
    """

    dropped: list[np.ndarray]
    rows: list[dict[str, Any]]

    def counts(self) -> dict[str, int]:
        """Return how many were left out, by ``<source>/<reason>``."""
        return dict(sorted(Counter(f"{row['source']}/{row['reason']}" for row in self.rows).items()))

    def report(self) -> str:
        """Return a line for each source and reason."""
        lines = [f"dropped from {name.replace('/', ': ')}: {count:,}" for name, count in self.counts().items()]
        return "\n".join(lines) or "No training problem comes twice or is tested on."


def clean(corpora: Sequence[Corpus], tested: Sequence[Item], args: CleaningArgs) -> Cleaning:
    """Return what is to be left out of the training corpora.

    Args:
        corpora: To train on.
        tested: Benchmark and held-out problems, or pairs.
        args: What to look for.

    Raises:
        InputError: If a training problem is tested on and that is to be an error, or if most of a benchmark is in the
            training data: a mistake in the configuration rather than an overlap.
    """
    dropped = [np.zeros(len(corpus.rows), dtype=bool) for corpus in corpora]
    rows: list[dict[str, Any]] = []
    if args.decontaminate != "off" and tested:
        matches = find_contaminated(
            [corpus.items for corpus in corpora],
            np.concatenate([corpus.keys for corpus in corpora]),
            tested,
            ngrams=args.decontaminate == "ngrams",
        )
        _refuse(corpora, tested, matches, args)
        ends = np.cumsum([len(corpus.rows) for corpus in corpora])
        for match in matches:
            number = int(np.searchsorted(ends, match.row, side="right"))
            index = match.row - (int(ends[number - 1]) if number else 0)
            if not dropped[number][index]:
                dropped[number][index] = True
                rows.append(_row(corpora[number], index, "tested on", tested[match.tested], match))
    if args.deduplicate != "off":
        rows += _deduplicate(corpora, dropped, args.deduplicate)
    return Cleaning(dropped, rows)


def _deduplicate(corpora: Sequence[Corpus], dropped: list[np.ndarray], what: str) -> list[dict[str, Any]]:
    keys = [(c.store.keys if what == "problems" else c.store.row_keys)[c.rows] for c in corpora]
    together = np.concatenate(keys)
    together_dropped = np.concatenate(dropped)
    kept = np.flatnonzero(~together_dropped)
    order = kept[np.argsort(together[kept], kind="stable")]
    again = np.zeros(len(order), dtype=bool)
    again[1:] = together[order][1:] == together[order][:-1]
    rows, start = [], 0
    repeated = np.zeros(len(together), dtype=bool)
    repeated[order[again]] = True
    for corpus, out in zip(corpora, dropped, strict=True):
        twice = np.flatnonzero(repeated[start : start + len(out)])
        out[twice] = True
        rows += [_row(corpus, int(index), "duplicate") for index in twice]
        start += len(out)
    return rows


def _refuse(corpora: Sequence[Corpus], tested: Sequence[Item], matches: Sequence[Match], args: CleaningArgs) -> None:
    exact = {match.tested for match in matches if match.kind == "exact"}
    sizes = Counter(source for source, _ in {(one.source, problem_key(identity(one))) for one in tested})
    for source, found in Counter(tested[number].source for number in exact).items():
        if 2 * found > sizes[source]:
            raise InputError(
                f"data.corpora: {found} of the {sizes[source]} problems of {source}, which this run is measured on, "
                "are training problems: the same data twice? Give them different `split` or `fold`."
            )
    if matches and args.on_overlap == "error":
        problem = tested[matches[0].tested]
        raise InputError(
            f"{len(matches)} training problems are also tested on, the first as {problem.source} {problem.id}: "
            f"{identity(problem)[:80]!r}. Remove them, or set --data.cleaning.on_overlap drop."
        )


def _row(corpus: Corpus, index: int, reason: str, tested: Item | None = None, match: Match | None = None) -> dict:
    row = {
        "source": corpus.source,
        "id": corpus.items[index].id,
        "where": corpus.store.where(int(corpus.rows[index])),
        "reason": reason,
    }
    if tested is not None:
        row |= {"tested_source": tested.source, "tested_id": tested.id, "kind": match.kind, "overlap": match.overlap}
    return row
