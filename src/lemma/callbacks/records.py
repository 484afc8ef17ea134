"""Writes each evaluation down: records and results as files, samples and figures to TensorBoard and the terminal."""

from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from lemma.callbacks.tables import text_table
from lemma.evaluation import Evaluation, Record, remove_journals
from lemma.evaluation.tables import results_table
from lemma.files import keep_previous, write_json, write_jsonl
from lemma.metrics import pass_at_k, plot_over_k


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
        remove_journals(folder)
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
        for source, records in by_source(pl_module.evaluation).items():
            stride = max(1, len(records) // self.num_problems)
            table = sample_table(records[::stride][: self.num_problems])
            trainer.logger.experiment.add_text(f"samples/{source}", table, trainer.global_step)


class PassAtKCurves(Callback):
    """Draws pass@k over k = 1..n with its 95 % bootstrap band, an image a source in TensorBoard."""

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add one figure per source that was sampled more than once."""
        if trainer.sanity_checking or not isinstance(trainer.logger, TensorBoardLogger):
            return
        for source, records in by_source(pl_module.evaluation).items():
            num_total = torch.tensor([len(record.sampled) for record in records])  # (P,)
            if (num_samples := int(num_total.min())) > 1:
                num_correct = torch.tensor([record.num_correct for record in records])
                values = pass_at_k(num_correct, num_total, range(1, num_samples + 1))  # (P, n)
                figure, _ = plot_over_k(values, name="pass@k")
                trainer.logger.experiment.add_figure(f"pass@k/{source}", figure, trainer.global_step)


def evaluation_folder(trainer: Trainer) -> Path:
    """Return where the files of this evaluation, or of these trajectories, go."""
    root, verb = Path(trainer.default_root_dir), str(trainer.state.fn.value)
    return root / verb / f"step-{trainer.global_step:06d}" if verb == "fit" else root / verb


def sample_table(records: list[Record]) -> str:
    """Return a Markdown table of one greedy (or first) completion a problem; model text is escaped."""
    columns = ("problem", "answer", "completion", "prediction", "verdict")
    return text_table(columns, ((one.problem.problem, one.problem.answer, *shown(one)) for one in records))


def shown(record: Record) -> tuple[str, str | None, str]:
    """Return the greedy (or first) completion of a record, its prediction and its verdict."""
    grade = record.grades[0]
    return record.completions[0], grade.prediction, grade.verdict.value


def by_source(evaluation: Evaluation) -> dict[str, list[Record]]:
    """Return the records of each benchmark, in order."""
    records: dict[str, list[Record]] = {}
    for record in evaluation.records:
        records.setdefault(record.problem.source, []).append(record)
    return records
