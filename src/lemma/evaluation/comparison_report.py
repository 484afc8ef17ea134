"""Decides how a comparison of runs is shown: tables for the terminal and Markdown, a JSON document, a figure."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from lemma.evaluation.comparison import Flips, Gain
from lemma.evaluation.records import Record
from lemma.evaluation.runs import Run
from lemma.evaluation.scores import LENGTH
from lemma.evaluation.tables import shown, shown_estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("accuracy", "pass", "maj", "flexible_accuracy", "flexible_pass", "agreement", LENGTH, "truncated")
"""Kinds of figures in the order of tables."""

_PANELS = 4  # of a figure's row

CAPTION = (
    "In per cent [95 % interval], with the gain over the first run; accuracy is of greedy decoding, pass@k and maj@k "
    "of k sampled completions, completion_length in tokens."
)
_TEST_CAPTION = (
    "Paired over problems: McNemar's exact test for accuracy, bootstrap over problems for pass@k. p (Holm) is "
    "corrected for all {number} tests of this table."
)


def comparison_table(runs: Sequence[Run], *, by_part: bool = False, style: str = "simple") -> str:
    """Return the figures of all runs, a row for each figure and run, a column for each benchmark.

    Args:
        runs: At least one; gains are over the first.
        by_part: Also give each level's and subject's figures.
        style: Of ``tabulate``.
    """
    sources = list(dict.fromkeys(source for run in runs for source in run.benchmarks))
    names = _in_order({name for source in sources for run in runs for name in run.metrics(source)})
    rows = [
        [name if number == 0 else "", run.name, *(_cell(run, runs[0], source, name) for source in sources)]
        for name in names
        if by_part or "/" not in name
        for number, run in enumerate(runs)
    ]
    return tabulate(rows, ["figure", "run", *sources], tablefmt=style, disable_numparse=True)


def gains_table(gains: Sequence[Gain], *, style: str = "simple") -> str:
    """Return the paired tests as a table with a line on what they are."""
    rows = [
        [
            gain.run,
            gain.source,
            gain.metric,
            f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]",
            f"{gain.num_gained} / {gain.num_lost} / {gain.num_problems}",
            _p_value(gain.p_value),
            _p_value(gain.p_adjusted),
        ]
        for gain in gains
    ]
    headers = ["run", "benchmark", "figure", "gain in points", "better / worse / problems", "p", "p (Holm)"]
    table = tabulate(rows, headers, tablefmt=style, disable_numparse=True)
    return f"{table}\n\n{_TEST_CAPTION.format(number=len(gains))}"


def flips_list(flips: Sequence[Flips], *, max_shown: int) -> str:
    """Return the problems that flipped, ``max_shown`` in each direction: gold, both predictions, the question."""
    lines = []
    for one in flips:
        for solver, other, pairs in ((one.run, one.base, one.gained), (one.base, one.run, one.lost)):
            shown = f", first {max_shown}" if len(pairs) > max_shown else ""
            lines.append(f"{one.source}: {len(pairs)} solved by {solver} and not by {other}{shown}")
            lines += [f"- {_flip(*pair)}" for pair in pairs[:max_shown]]
    return "\n".join(lines)


def comparison_markdown(
    runs: Sequence[Run], gains: Sequence[Gain], flips: Sequence[Flips], warnings: Sequence[str], *, max_shown: int
) -> str:
    """Return the whole comparison, levels and subjects included, as a Markdown document."""
    parts = ["# Comparison of runs", *(f"**Warning:** {warning}" for warning in warnings)]
    parts += [comparison_table(runs, by_part=True, style="github"), CAPTION]
    if gains:
        parts += ["## Gains over the first run", gains_table(gains, style="github")]
    if flips:
        parts += ["## Problems that flipped", flips_list(flips, max_shown=max_shown)]
    return "\n\n".join([*parts, "![Figures by benchmark](comparison.png)"]) + "\n"


def comparison_json(
    runs: Sequence[Run], gains: Sequence[Gain], flips: Sequence[Flips], warnings: Sequence[str]
) -> dict[str, Any]:
    """Return the whole comparison as a JSON document: every flipped problem by id."""
    return {
        "runs": [{"name": run.name, "metrics": {s: run.metrics(s) for s in run.benchmarks}} for run in runs],
        "gains": [asdict(gain) for gain in gains],
        "flips": [
            {
                "run": one.run,
                "base": one.base,
                "source": one.source,
                "gained": [record.problem.id for record, _ in one.gained],
                "lost": [record.problem.id for record, _ in one.lost],
            }
            for one in flips
        ],
        "warnings": list(warnings),
    }


def comparison_figure(runs: Sequence[Run], *, flexible: bool = False) -> "Figure":
    """Draw accuracy, pass@k and maj@k of each run by benchmark, points with 95 % intervals.

    Args:
        runs: At least one.
        flexible: Draw the figures of flexible extraction.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    sources = list(dict.fromkeys(source for run in runs for source in run.benchmarks))
    names = _in_order({name for source in sources for run in runs for name in run.metrics(source)})
    names = [name for name in names if name.startswith(("flexible_",) if flexible else ("accuracy", "pass@", "maj@"))]
    width = max(3.0, 1.2 + 0.35 * len(sources) * len(runs))
    num_rows, num_columns = -(-len(names) // _PANELS), min(len(names), _PANELS)
    figure = Figure(figsize=(width * num_columns, 3 * num_rows + 1), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).flat
    for ax in axes[len(names) :]:
        ax.remove()
    for ax, name in zip(axes, names, strict=False):
        for number, run in enumerate(runs):
            at = [i for i, source in enumerate(sources) if name in run.metrics(source)]
            found = [run.metrics(sources[i])[name] for i in at]
            values = [one["value"] for one in found]
            errors = [[max(0.0, one["value"] - one["low"]) for one in found],
                      [max(0.0, one["high"] - one["value"]) for one in found]]  # fmt: skip
            shift = 0.6 * ((number + 0.5) / len(runs) - 0.5)
            ax.errorbar([i + shift for i in at], values, yerr=errors, fmt="o", capsize=3, label=run.name)
        ax.set(title=name, xlim=(-0.6, len(sources) - 0.4), ylim=(0, 1))
        ax.set_xticks(range(len(sources)), sources)
        ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        ax.grid(axis="y", alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center")
    return figure


def _in_order(names: set[str]) -> list[str]:
    """Return figures in one order: whole benchmarks first, accuracy before pass@k before maj@k, by growing k."""

    def place(name: str) -> tuple:
        part, _, metric = name.rpartition("/")
        kind, _, k = metric.partition("@")
        known = KINDS.index(kind) if kind in KINDS else len(KINDS)
        kind_of_part, _, value = part.partition("_")  # level_10 comes after level_9
        return bool(part), kind_of_part, value.zfill(9), known, int(k or 0)

    return sorted(names, key=place)


def _cell(run: Run, first: Run, source: str, name: str) -> str:
    estimate = run.metrics(source).get(name)
    if estimate is None:
        return ""
    base = first.metrics(source).get(name)
    if run is first or base is None:
        return shown_estimate(name, estimate)
    gain = float(shown(name, estimate["value"] - base["value"]))
    return f"{shown_estimate(name, estimate)} {gain:+.1f}"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _flip(before: Record, after: Record) -> str:
    problem = before.problem
    level = "" if problem.level is None else f", level {problem.level}"
    answers = [_short(_answer(record)) for record in (before, after)]
    question = _short(problem.problem, 90)
    return f"{problem.id}{level}: gold {_short(problem.answer)}, {answers[0]} → {answers[1]} | {question}"


def _answer(record: Record) -> str:
    """Return what a run says: the greedy prediction, else the largest group of the samples'."""
    if record.greedy is not None:
        return record.greedy.prediction or "no answer"
    cast = [vote for vote in record.sampled_votes if vote >= 0]
    if not cast:
        return "no answer"
    most: Callable[[int], int] = cast.count
    winner = max(cast, key=most)
    grade = record.sampled[record.sampled_votes.index(winner)]
    return f"{grade.prediction} ({record.num_correct} of {len(record.sampled)} right)"


def _short(text: str | None, limit: int = 40) -> str:
    """Return a text on one line, cut at the end."""
    flat = " ".join((text or "").split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"
