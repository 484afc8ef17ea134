"""Decides how the lengths of examples are shown: a histogram of each corpus, as a picture and as lines of text."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

_BINS = 50
_LINES = 12
_WIDTH = 46  # characters of the longest bar


def lengths_figure(lengths: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]], limits: Mapping[str, int]) -> Figure:
    """Return histograms, a column for each kind of length, a row for each side, an outline for each corpus.

    Args:
        lengths: Kind, such as ``prompt`` → side, such as ``train`` → corpus → (n,) tokens, n at least 1.
        limits: Kind → the run's limit, drawn where there are examples near it.
    """
    num_sides = max(map(len, lengths.values()))
    figure = Figure(figsize=(5.2 * len(lengths), 1 + 2.3 * num_sides), layout="constrained")
    axes = figure.subplots(num_sides, len(lengths), squeeze=False, sharex="col")
    for column, (kind, sides) in enumerate(lengths.items()):
        everything = np.concatenate([values for groups in sides.values() for values in groups.values()])
        edges = np.geomspace(max(1, everything.min()), everything.max() + 1, _BINS + 1)
        for row, (side, groups) in enumerate(sides.items()):
            _draw(axes[row, column], groups, edges, limits.get(kind))
            axes[row, column].set_ylabel(f"share of {side}")
        axes[-1, column].set_xlabel(f"{kind} tokens")
    return figure


def _draw(ax: Axes, groups: Mapping[str, np.ndarray], edges: np.ndarray, limit: int | None) -> None:
    for source, values in groups.items():
        shares = np.histogram(np.maximum(values, 1), edges)[0] / len(values)
        label = f"{source}: {len(values):,}, median {np.median(values):,.0f}, longest {values.max():,}"
        ax.stairs(shares, edges, linewidth=1.5, label=label)
    if limit is not None and limit < 3 * edges[-1]:
        ax.axvline(limit, color="grey", linestyle="--", linewidth=1, label=f"limit {limit:,}")
    ax.set_xscale("log")  # lengths have long tails
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7, loc="upper left")
    ax.set_ylim(0, (1.3 + 0.1 * len(groups)) * ax.get_ylim()[1])  # room for the legend


def lengths_text(lengths: Sequence[int] | np.ndarray, title: str) -> str:
    """Return a histogram as lines of text: equal steps up to the 99th percentile, and one for the rest.

    Args:
        lengths: (n,) tokens.
        title: First line.
    """
    lengths = np.asarray(lengths)
    if not len(lengths):
        return f"{title}: none"
    top = max(1, int(np.percentile(lengths, 99)))
    step = max(1, -(-top // _LINES))
    bins = np.minimum(lengths // step, -(-(top + 1) // step))
    counts = np.bincount(bins)
    lines = [f"{title}: {len(lengths):,}, median {np.median(lengths):,.0f}, longest {lengths.max():,}"]
    for number, count in enumerate(counts):
        last = number == len(counts) - 1
        end = int(lengths.max()) if last else (number + 1) * step - 1
        bar = "#" * -(-int(count) * _WIDTH // int(counts.max()))
        lines.append(f"{number * step:>7,} to {end:>7,} {bar:<{_WIDTH}} {count:>9,}")
    return "\n".join(lines)
