"""Turns the records of all repeats into medians, ratios and a table."""

from statistics import median
from typing import Any

from tabulate import tabulate

Record = dict[str, Any]


def summarise(lemma: list[Record], reference: list[Record], *, flops_per_token: float, matmul: float) -> dict[str, Any]:
    """Return the figures of both sides, and Lemma's over the reference's.

    A record's rates are of its steps after warm-up. A side's figure is the median over the steps of all repeats; a
    ratio's ``low`` and ``high`` are the extremes over repeats.

    Args:
        lemma: Records, one a repeat, each with ``rates`` in tokens per second and ``peak_memory`` in bytes.
        reference: The other side's, as many.
        flops_per_token: Of the model, forward and backward.
        matmul: FLOP/s that matrix products reach here.
    """
    sides = {}
    for name, records in (("lemma", lemma), ("reference", reference)):
        rate = median(rate for record in records for rate in record["rates"])
        sides[name] = {
            "tokens_per_second": rate,
            "peak_memory": median(record["peak_memory"] for record in records),
            "model_flops_utilisation": rate * flops_per_token / matmul,
        }
    pairs = list(zip(lemma, reference, strict=True))
    speed = [median(mine["rates"]) / median(theirs["rates"]) for mine, theirs in pairs]
    memory = [mine["peak_memory"] / theirs["peak_memory"] for mine, theirs in pairs]
    return sides | {
        "speed_ratio": _ratio(sides, "tokens_per_second", speed),
        "memory_ratio": _ratio(sides, "peak_memory", memory),
    }


def table(summary: dict[str, Any], names: dict[str, str]) -> str:
    """Return the figures as a table.

    Args:
        summary: From ``summarise``.
        names: How the sides are called.
    """
    rows = [
        [
            name,
            f"{summary[side]['tokens_per_second']:,.0f}",
            f"{summary[side]['peak_memory'] / 1e9:.2f} GB",
            f"{summary[side]['model_flops_utilisation']:.1%}",
        ]
        for side, name in names.items()
    ]
    speed, memory = summary["speed_ratio"], summary["memory_ratio"]
    rows.append(["ratio", f"{speed['value']:.2f}x", f"{memory['value']:.0%}", ""])
    rows.append(
        ["over repeats", f"{speed['low']:.2f}-{speed['high']:.2f}x", f"{memory['low']:.0%}-{memory['high']:.0%}", ""]
    )
    return tabulate(rows, headers=["", "tokens/s", "peak memory", "of matmul"], stralign="right", disable_numparse=True)


def _ratio(sides: dict[str, dict[str, float]], figure: str, repeats: list[float]) -> dict[str, float]:
    return {
        "value": sides["lemma"][figure] / sides["reference"][figure],
        "low": min(repeats),
        "high": max(repeats),
    }
