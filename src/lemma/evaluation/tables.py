"""Decides how figures look in a terminal: per cent or tokens, with the 95 % interval; one evaluation as two tables."""

from tabulate import tabulate

from lemma.evaluation.results import Evaluation
from lemma.evaluation.scores import LENGTH


def shown(name: str, value: float) -> str:
    """Return a figure's value as tables show it: tokens, or per cent."""
    return f"{value if name.endswith(LENGTH) else 100 * value:.1f}"


def shown_estimate(name: str, estimate: dict[str, float]) -> str:
    """Return ``value [low, high]`` as tables show it."""
    value, low, high = (shown(name, estimate[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def results_table(evaluation: Evaluation) -> str:
    """Return the figures of an evaluation with 95 % intervals, and how its completions read, as two tables.

    The first has accuracy, pass@k and maj@k, a row for each benchmark, level and subject; the second what flexible
    extraction adds, agreement, lengths (in tokens), and verdicts that are no verdict, a row for each benchmark.
    """
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    beside: dict[tuple[str, ...], dict[str, str]] = {}
    for source, results in evaluation.results["benchmarks"].items():
        for name, estimate in results["metrics"].items():
            part, _, metric = name.rpartition("/")
            if metric == "accuracy" or metric.startswith(("pass@", "maj@")):
                row = rows.setdefault((source, part), {"problems": str(estimate["num_problems"])})
                row[metric] = shown_estimate(metric, estimate)
            elif not part:
                beside.setdefault((source,), {})[metric] = shown_estimate(metric, estimate)
        for verdict in ("unparseable", "timeout"):
            counts = f"{results['verdicts'][verdict]} of {results['num_completions']}"
            beside.setdefault((source,), {})[verdict] = counts
    return f"{_table(['benchmark', 'part'], rows)}\n\n{_table(['benchmark'], beside)}"


def _table(labels: list[str], rows: dict[tuple[str, ...], dict[str, str]]) -> str:
    headers = list(dict.fromkeys(header for row in rows.values() for header in row))
    cells = [[*key, *(row.get(header, "") for header in headers)] for key, row in rows.items()]
    return tabulate(cells, [*labels, *headers], disable_numparse=True)
