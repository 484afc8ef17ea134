"""Writes each evaluation down: records and results as files, samples and figures to TensorBoard and the terminal."""

import html
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from tabulate import tabulate

from lemma.evaluation import Evaluation, Record
from lemma.files import keep_previous, write_json, write_jsonl


class EvaluationFiles(Callback):
    """Writes ``records.jsonl`` and ``results.json`` into ``<run>/validate``, or ``<run>/fit/step-…`` during fit."""

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write both files, and print the table after validate."""
        evaluation = pl_module.evaluation
        if trainer.sanity_checking or trainer.fast_dev_run or not evaluation.records:
            return
        folder = evaluation_folder(trainer)
        for name in ("records.jsonl", "results.json"):
            keep_previous(folder / name)
        write_jsonl(folder / "records.jsonl", (record.as_json() for record in evaluation.records))
        loss = trainer.callback_metrics.get("val/loss")
        results = {
            **evaluation.results,
            "step": trainer.global_step,
            "held_out_loss": None if loss is None else float(loss),
        }
        write_json(folder / "results.json", results)
        if trainer.state.fn == "validate":
            rank_zero_info(f"\n{results_table(evaluation)}\nRecords and results: {folder}")


class SampleTable(Callback):
    """Shows sample completions with their verdicts in TensorBoard's text page.

    Args:
        num_problems: Problems shown of each source.
    """

    def __init__(self, num_problems: int = 6) -> None:
        self.num_problems = num_problems

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add one table per source."""
        if trainer.sanity_checking or not isinstance(trainer.logger, TensorBoardLogger):
            return
        by_source: dict[str, list[Record]] = {}
        for record in pl_module.evaluation.records:
            by_source.setdefault(record.problem.source, []).append(record)
        for source, records in by_source.items():
            stride = max(1, len(records) // self.num_problems)
            table = sample_table(records[::stride][: self.num_problems])
            trainer.logger.experiment.add_text(f"samples/{source}", table, trainer.global_step)


def evaluation_folder(trainer: Trainer) -> Path:
    """Return where this evaluation's files go."""
    root = Path(trainer.default_root_dir)
    return root / "validate" if trainer.state.fn == "validate" else root / "fit" / f"step-{trainer.global_step:06d}"


def results_table(evaluation: Evaluation) -> str:
    """Return the figures of an evaluation in per cent with 95 % intervals: a row for each benchmark and level."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for source, results in evaluation.results["benchmarks"].items():
        for name, estimate in results["metrics"].items():
            level, _, metric = name.rpartition("/")
            row = rows.setdefault((source, level), {"problems": str(estimate["num_problems"])})
            row[metric] = f"{100 * estimate['value']:.1f} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"
    headers = list(dict.fromkeys(header for row in rows.values() for header in row))
    cells = [[*key, *(row.get(header, "") for header in headers)] for key, row in rows.items()]
    return tabulate(cells, ["benchmark", "level", *headers], disable_numparse=True)


def sample_table(records: list[Record]) -> str:
    """Return a Markdown table of one greedy (or first) completion a problem; model text is escaped."""
    lines = ["| problem | answer | completion | prediction | verdict |", "|---|---|---|---|---|"]
    for record in records:
        completion, grade = record.completions[0], record.grades[0]
        cells = [record.problem.problem, record.problem.answer, completion.text, grade.prediction, grade.verdict.value]
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _cell(text: str | None) -> str:
    return html.escape(text or "").replace("|", "&#124;").replace("\n", "<br>")
