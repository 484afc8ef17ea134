"""Turns the records of all repeats into medians, ratios and tables."""

from statistics import median
from typing import Any

from tabulate import tabulate

Record = dict[str, Any]


def summarise(records: dict[str, list[Record]], *, flops_per_token: float | None, matmul: float | None) -> Record:
    """Return the figures of each side, and, of two, Lemma's over the reference's.

    A record's rates are of its steps after warm-up. A side's figure is the median over the steps of all repeats; a
    ratio's ``low`` and ``high`` are the extremes over repeats.

    Args:
        records: Of ``lemma`` and, where there is one, ``reference``, one a repeat, each with ``rates`` (unit → how many
            a second) and ``peak_memory`` in bytes.
        flops_per_token: Of the model, for a token of a sequence, all passes together; None where none runs.
        matmul: FLOP/s that matrix products reach here; None likewise.
    """
    summary: Record = {side: _figures(runs) for side, runs in records.items()}
    if flops_per_token is not None:
        for figures in summary.values():
            figures["model_flops_utilisation"] = figures["tokens_per_second"] * flops_per_token / matmul
    if "reference" in records:
        pairs = [(_figures([mine]), _figures([other])) for mine, other in zip(*records.values(), strict=True)]
        summary["ratio"] = {name: _ratio(name, (summary["lemma"], summary["reference"]), pairs) for name in pairs[0][0]}
    return summary


def table(summary: Record, names: dict[str, str]) -> str:
    """Return the figures as a table.

    Args:
        summary: From ``summarise``.
        names: How the sides are called.
    """
    figures = list(summary["lemma"])
    rows = [
        [name, *(format_figure(figure, summary[side][figure]) for figure in figures)] for side, name in names.items()
    ]
    if "ratio" in summary:
        ratios = [summary["ratio"].get(figure) for figure in figures]
        rows.append(["ratio", *("" if each is None else f"{each['value']:.2f}x" for each in ratios)])
        spans = ("" if each is None else f"{each['low']:.2f}-{each['high']:.2f}x" for each in ratios)
        rows.append(["over repeats", *spans])
    headers = ["", *map(heading, figures)]
    return tabulate(rows, headers=headers, stralign="right", disable_numparse=True)


def heading(figure: str) -> str:
    """Return how a figure is called in tables and plots."""
    named = {"peak_memory": "peak memory", "model_flops_utilisation": "of matmul"}
    return named.get(figure) or figure.replace("_per_second", "/s").replace("_", " ")


def format_figure(figure: str, value: float) -> str:
    """Return a figure in its unit, with three digits at least."""
    if figure == "peak_memory":
        return f"{value / 1e9:.2f} GB"
    if figure == "model_flops_utilisation":
        return f"{value:.1%}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _figures(records: list[Record]) -> dict[str, float]:
    units = records[0]["rates"]
    rates = {f"{unit}_per_second": median(rate for each in records for rate in each["rates"][unit]) for unit in units}
    return rates | {"peak_memory": median(each["peak_memory"] for each in records)}


def _ratio(
    name: str, both: tuple[Record, Record], repeats: list[tuple[dict[str, float], dict[str, float]]]
) -> dict[str, float]:
    ratios = [mine[name] / other[name] for mine, other in repeats]
    return {"value": both[0][name] / both[1][name], "low": min(ratios), "high": max(ratios)}
