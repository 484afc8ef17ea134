"""Turns the records of all repeats into medians, ratios and a table."""

from statistics import median
from typing import Any

from tabulate import tabulate

Record = dict[str, Any]


def summarise(lemma: list[Record], reference: list[Record], *, flops_per_token: float, matmul: float) -> dict[str, Any]:
    """Return the figures of both sides, and Lemma's over the reference's.

    A record's rates are of its steps after warm-up. A side's figure is the median over the steps of all repeats; a
    ratio's ``low`` and ``high`` are the extremes over repeats. ``speed_ratio`` is that of the first unit.

    Args:
        lemma: Records, one a repeat, each with ``rates`` (unit → how many a second, tokens among the units) and
            ``peak_memory`` in bytes.
        reference: The other side's, as many.
        flops_per_token: Of the model, for a token of a sequence, all passes together.
        matmul: FLOP/s that matrix products reach here.
    """
    units = list(lemma[0]["rates"])
    sides = {}
    for name, records in (("lemma", lemma), ("reference", reference)):
        rates = {unit: median(rate for record in records for rate in record["rates"][unit]) for unit in units}
        sides[name] = {f"{unit}_per_second": rate for unit, rate in rates.items()} | {
            "peak_memory": median(record["peak_memory"] for record in records),
            "model_flops_utilisation": rates["tokens"] * flops_per_token / matmul,
        }
    repeats = list(zip(lemma, reference, strict=True))
    speed = [median(mine["rates"][units[0]]) / median(theirs["rates"][units[0]]) for mine, theirs in repeats]
    memory = [mine["peak_memory"] / theirs["peak_memory"] for mine, theirs in repeats]
    return sides | {
        "speed_ratio": _ratio(sides, f"{units[0]}_per_second", speed),
        "memory_ratio": _ratio(sides, "peak_memory", memory),
    }


def table(summary: dict[str, Any], names: dict[str, str], units: list[str]) -> str:
    """Return the figures as a table.

    Args:
        summary: From ``summarise``.
        names: How the sides are called.
        units: Those of the rates; the ratio is that of the first.
    """
    rows = [
        [
            name,
            *(format_rate(summary[side][f"{unit}_per_second"]) for unit in units),
            f"{summary[side]['peak_memory'] / 1e9:.2f} GB",
            f"{summary[side]['model_flops_utilisation']:.1%}",
        ]
        for side, name in names.items()
    ]
    speed, memory = summary["speed_ratio"], summary["memory_ratio"]
    others = [""] * (len(units) - 1)
    rows.append(["ratio", f"{speed['value']:.2f}x", *others, f"{memory['value']:.0%}", ""])
    span = f"{memory['low']:.0%}-{memory['high']:.0%}"
    rows.append(["over repeats", f"{speed['low']:.2f}-{speed['high']:.2f}x", *others, span, ""])
    headers = ["", *(f"{unit}/s" for unit in units), "peak memory", "of matmul"]
    return tabulate(rows, headers=headers, stralign="right", disable_numparse=True)


def format_rate(rate: float) -> str:
    """Return a rate with three digits at least."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _ratio(sides: dict[str, dict[str, float]], figure: str, repeats: list[float]) -> dict[str, float]:
    return {
        "value": sides["lemma"][figure] / sides["reference"][figure],
        "low": min(repeats),
        "high": max(repeats),
    }
