"""Draws a figure of k samples over k, with its bootstrap band."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lemma.metrics.intervals import bootstrap_band

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_over_k(
    values: Tensor, *, name: str, ax: "Axes | None" = None, label: str | None = None, seed: int = 0
) -> "tuple[Figure, Axes]":
    """Draw the mean over problems against k = 1..n, and its 95 % bootstrap band.

    Args:
        values: Of each problem, in [0, 1], shape (P, n), column k - 1 for k; a row with a nan is left out.
        name: What is drawn, e.g. ``pass@k``.
        ax: Axes to draw into; None makes a figure, outside of pyplot's register.
        label: Legend of the curve, or None for no legend.
        seed: Of the bootstrap.

    Returns:
        Figure and axes.

    Raises:
        ValueError: If no problem has a value.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    low, high = bootstrap_band(values, seed=seed)
    seen = values[~values.isnan().any(dim=1)].cpu()
    if ax is None:
        ax = Figure(figsize=(5, 3.5), layout="constrained").subplots()
    ks = torch.arange(1, values.shape[1] + 1)
    (line,) = ax.plot(ks, seen.mean(dim=0), marker="o", markersize=3, label=label)
    ax.fill_between(ks, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
    ax.set(xlabel="k", ylabel=f"{name}, {len(seen)} problems", ylim=(0, 1))
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    if label is not None:
        ax.legend()
    return ax.figure, ax
