"""Draws what a benchmark found: rates and memory of both sides by repeat, or over the values of a sweep."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmark.report import heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"lemma": "tab:blue", "reference": "tab:orange"}


def draw_repeats(report: dict[str, Any], names: dict[str, str], path: Path) -> None:
    """Draw the rate of each step by repeat with the median of all, and the memory; the ratios are in the title.

    Args:
        report: Filled by ``harness.measure``, and the workload's name.
        names: How the sides are called.
        path: The PNG.
    """
    summary = report["summary"]
    rate = next(iter(summary["lemma"]))
    unit = rate.removesuffix("_per_second")
    figure, (left, right) = _figure(8, 2)
    for place, side in enumerate(names):
        colour, records = _COLOURS[side], report["records"][side]
        for repeat, record in enumerate(records, start=1):
            steps = record["rates"][unit]
            x = repeat + 0.16 * place - 0.08 * (len(names) - 1)
            left.plot([x] * len(steps), steps, ".", color=colour, alpha=0.35, markersize=5, markeredgewidth=0)
            left.plot(x, median(steps), "_", color=colour, markersize=14, markeredgewidth=2.5)
        left.axhline(summary[side][rate], color=colour, linestyle=":")
        width = 0.8 / len(names)
        places = [repeat + width * (place - (len(names) - 1) / 2) for repeat in range(1, len(records) + 1)]
        right.bar(places, [each["peak_memory"] / 1e9 for each in records], width, color=colour, label=names[side])
    for axes, what in ((left, heading(rate)), (right, "peak memory, GB")):
        last = len(report["records"]["lemma"])
        axes.set(xlabel="repeat", ylabel=what, ylim=(0, None), xlim=(0.4, last + 0.6), xticks=range(1, last + 1))
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(f"{report['workload']}: {_compared(summary, names, rate)}", fontsize="medium")
    figure.savefig(path, dpi=150)


def draw_sweep(report: dict[str, Any], names: dict[str, str], path: Path) -> None:
    """Draw rate and memory of each side over the values of a sweep, and their ratios where there are two.

    Args:
        report: With ``points``, each of ``harness.measure``.
        names: How the sides are called.
        path: The PNG.
    """
    points = report["points"]
    rate = next(iter(points[0]["summary"]["lemma"]))
    figure, axes = _figure(12 if len(names) == 2 else 8, 1 + len(names))
    for side, name in names.items():
        _curve(axes[0], points, lambda summary, side=side: summary[side][rate], side=side, label=name)
        _curve(axes[1], points, lambda summary, side=side: summary[side]["peak_memory"] / 1e9, side=side, label=name)
    axes[0].set_ylabel(heading(rate))
    axes[1].set_ylabel("peak memory, GB")
    if len(names) == 2:
        for name, colour in ((rate, "tab:green"), ("peak_memory", "tab:purple")):
            ratio = lambda summary, name=name: summary["ratio"][name]["value"]  # noqa: E731
            _curve(axes[2], points, ratio, side="ratio", label=heading(name), color=colour)
        axes[2].axhline(1, color="grey", linewidth=0.8)
        axes[2].set_ylabel(f"{names['lemma']} / {names['reference']}")
    values = [point["value"] for point in points]
    for each in axes:
        each.set_xscale("log", base=2)
        each.set_xticks(values, labels=map(str, values))
        each.minorticks_off()
        each.set(xlabel=report["options"]["sweep"].replace("_", " "), ylim=(0, None))
        each.set_xlim(min(values) / 1.2, max(values) * 1.2)
        each.legend()
    figure.suptitle(f"{report['workload']} over {report['options']['sweep'].replace('_', ' ')}")
    figure.savefig(path, dpi=150)


def _figure(width: float, columns: int) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.8), layout="constrained")
    axes = list(figure.subplots(1, columns))
    for each in axes:
        each.grid(alpha=0.3)
        each.set_axisbelow(True)
    return figure, axes


def _curve(
    axes: "Axes", points: list[dict[str, Any]], value: Callable[[dict[str, Any]], float], *, side: str, **style: Any
) -> None:
    """Draw a figure of one side over the points that have it."""
    style = {"color": _COLOURS.get(side)} | style
    known = [point for point in points if side in point["summary"]]
    axes.plot([p["value"] for p in known], [value(p["summary"]) for p in known], marker="o", markersize=4, **style)


def _compared(summary: dict[str, Any], names: dict[str, str], rate: str) -> str:
    if "ratio" not in summary:
        return f"{names['lemma']} alone"
    ratio = summary["ratio"]
    return (
        f"{names['lemma']} makes {ratio[rate]['value']:.2f} times the {heading(rate)} of {names['reference']}, "
        f"in {ratio['peak_memory']['value']:.0%} of its memory"
    )
