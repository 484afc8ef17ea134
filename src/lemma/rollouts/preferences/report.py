"""Decides what is said of the pairs of a file: counts, means of both sides, and whether that is enough."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tabulate import tabulate

from lemma.corpora.pairing import RIGHT, WRONG, pairing_report
from lemma.rollouts.preferences.args import COHERENCE, CORRECTNESS, PairingArgs
from lemma.rollouts.preferences.figures import SIDES, Figures, measured
from lemma.types import InputError

_HINTS = {
    CORRECTNESS: "they need problems with both right and wrong trajectories that end by themselves",
    COHERENCE: "lower the margin, sample more trajectories a problem, or take --pairs.order correctness_only",
}

Group = tuple[str, str, int | None]
"""Kind, source and level."""


class Report:
    """Counts what is read and written."""

    def __init__(self) -> None:
        self.outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.unused: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.num_bad_rows = 0
        self.first_bad_row = ""
        self.groups: defaultdict[Group, Figures] = defaultdict(Figures)
        self.wrong_over_right = 0

    def bad_row(self, complaint: str) -> None:
        """Count a row that is left out."""
        self.first_bad_row = self.first_bad_row or complaint
        self.num_bad_rows += 1

    def problem(self, source: str, outcome: str, unused: Mapping[str, int]) -> None:
        """Count a problem and what cannot be used of it."""
        self.outcomes[source][outcome] += 1
        self.unused[source].update(unused)

    def found(self, row: Mapping[str, Any]) -> None:
        """Count a pair before thinning."""
        self._figures(row).found += 1
        self.wrong_over_right += row["grades"] == [WRONG, RIGHT]

    def kept(self, row: Mapping[str, Any]) -> None:
        """Count a pair that is written."""
        figures = self._figures(row)
        figures.kept += 1
        for name, values in measured(row).items():
            figures.means[name].add(*values)

    def lines(self) -> list[str]:
        """Return a line on each source (how many problems give pairs, and why the others do not), and on bad rows."""
        lines = [pairing_report(name, self.outcomes[name], self.unused[name]) for name in sorted(self.outcomes)]
        if self.num_bad_rows:
            lines.append(f"{self.num_bad_rows:,} rows are left out; the first: {self.first_bad_row}")
        return lines

    def by_kind(self) -> dict[str, Figures]:
        """Return the figures of each kind of pairs."""
        merged: defaultdict[str, Figures] = defaultdict(Figures)
        for group in _ordered(self.groups):
            merged[group[0]].merge(self.groups[group])
        return dict(merged)

    def check(self, args: PairingArgs) -> list[str]:
        """Return warnings.

        Raises:
            InputError: If there is no pair of a kind that was asked for, or none at all.
        """
        found = Counter({kind: figures.found for kind, figures in self.by_kind().items()})
        missing = [kind for kind in args.wanted if not found[kind]]
        if missing:
            hints = "; ".join(_HINTS[kind] for kind in missing)
            raise InputError(f"there is no pair of kind {', '.join(missing)}: {hints}. {' '.join(self.lines())}")
        if not found:
            raise InputError(f"there is no pair: lower --pairs.reward_margin. {' '.join(self.lines())}")
        warnings = [
            f"there are but {found[kind]:,} pairs of kind {kind} (--pairs.warn_below {args.warn_below}); {hint}."
            for kind, hint in _HINTS.items()
            if kind in {*args.wanted, *found} and found[kind] < args.warn_below
        ]
        if self.wrong_over_right:
            warnings.append(
                f"{self.wrong_over_right:,} pairs put a wrong completion over a right one: rewards with alpha above "
                "beta + length_cost never do so."
            )
        return warnings

    def as_json(self) -> dict[str, Any]:
        """Return everything that was counted."""
        return {
            "problems": {source: dict(counts) for source, counts in self.outcomes.items()},
            "unused_completions": {source: dict(counts) for source, counts in self.unused.items()},
            "bad_rows": self.num_bad_rows,
            "wrong_over_right": self.wrong_over_right,
            "kinds": {kind: figures.as_json() for kind, figures in self.by_kind().items()},
            "groups": [
                dict(zip(("kind", "source", "level"), group, strict=True)) | self.groups[group].as_json()
                for group in _ordered(self.groups)
            ],
        }

    def _figures(self, row: Mapping[str, Any]) -> Figures:
        return self.groups[row["kind"], row["source"], row["level"]]


def pairs_table(report: Report) -> str:
    """Return counts and mean lengths by kind, source and level as a table for a terminal."""
    whole = report.by_kind()
    unit = "tokens" if all(each.means["tokens"].num == each.kept for each in whole.values()) else "characters"
    rows = [_cells(group, report.groups[group], unit) for group in _ordered(report.groups)]
    rows += [_cells((kind, "all", None), figures, unit) for kind, figures in whole.items()]
    headers = ["kind", "source", "level", "found", "kept", f"chosen ({unit})", "rejected", "bias"]
    return tabulate(rows, headers, disable_numparse=True, colalign=["left", "left", *["right"] * 6])


def _cells(group: Group, figures: Figures, unit: str) -> list[str]:
    means = figures.means[unit].as_json(with_bias=True)
    lengths = ["-"] * 3 if means is None else [*(f"{means[side]:.0f}" for side in SIDES), f"{means['bias']:+.3f}"]
    kind, source, level = group
    return [kind, source, "-" if level is None else str(level), f"{figures.found:,}", f"{figures.kept:,}", *lengths]


def _ordered(groups: Iterable[Group]) -> list[Group]:
    """Return groups in the order of a table: correctness first, levels upwards, those without a level last."""
    return sorted(groups, key=lambda group: (group[0] != CORRECTNESS, group[1], group[2] is None, group[2] or 0))
