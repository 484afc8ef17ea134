"""Shows what each arm earns while trajectories are drawn, and makes one file of those of all ranks."""

import json
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from tabulate import tabulate

from lemma.callbacks.records import evaluation_folder
from lemma.evaluation import find_rows, remove_row_files, write_rows
from lemma.files import keep_previous
from lemma.modules.trajectories import KIND
from lemma.rollouts import checked_row
from lemma.types import InputError, Verdict


class TrajectoryMonitor(Callback):
    """Adds pulls and mean reward of each arm in each context to TensorBoard, a step a round."""

    @rank_zero_only
    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Add what the bandit knows now."""
        posterior, figures = pl_module.posterior, {}
        for context, tally in {**posterior.contexts, "all": posterior.overall()}.items():
            for number, arm in enumerate(pl_module.arms):
                figures[f"arms/{context}/{arm.name}/pulls"] = float(tally.pulls[number])
                if (mean := tally.mean(number)) is not None:
                    figures[f"arms/{context}/{arm.name}/reward"] = mean
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_metrics(figures, step=batch.number + 1)


class TrajectoryFiles(Callback):
    """Merges the files of all ranks into ``<run>/predict/trajectories.jsonl``, in the order of the problems."""

    @rank_zero_only
    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file, print what each arm has given, and delete the files of ranks.

        Raises:
            InputError: If rank 0 does not see the rows of every rank.
        """
        if trainer.fast_dev_run:
            return
        folder = evaluation_folder(trainer)
        path = folder / f"{KIND}.jsonl"
        found = find_rows(folder, KIND, lambda row: None if checked_row(row) is None else row["place"])
        num_problems = trainer.predict_dataloaders.num_problems(int(sum(trainer.num_predict_batches)))
        if missing := len(set(range(num_problems)) - found.keys()):
            raise InputError(
                f"{folder}: {missing} of {num_problems} problems are in no file here. Do all nodes share this folder?"
            )
        keep_previous(path)
        write_rows(path, found)
        remove_row_files(folder, KIND)
        table = ArmsTable([arm.name for arm in pl_module.arms], pl_module.bandit.by)
        with path.open("rb") as lines:
            for line in lines:
                table.add(json.loads(line))
        rank_zero_info(f"\n{table}\nTrajectories: {path}")


class ArmsTable:
    """Pulls, share correct and mean reward of each arm, over all problems and in each context if there are several.

    Args:
        arms: Their names.
        by: What a context is: level, source or none.
    """

    def __init__(self, arms: Sequence[str], by: str) -> None:
        self._arms = arms
        self._by = by
        self._sums: dict[Any, dict[str, list[float]]] = {}

    def add(self, row: dict[str, Any]) -> None:
        """Count the trajectories of a problem.

        Args:
            row: As ``TrajectorySource`` makes it.
        """
        context = None if self._by == "none" else row[self._by]
        sums = self._sums.setdefault(context, {arm: [0, 0, 0.0] for arm in self._arms})
        for arm, verdict, reward in zip(row["arms"], row["verdicts"], row["rewards"], strict=True):
            for index, value in enumerate((1, verdict == Verdict.CORRECT, reward)):
                sums[arm][index] += value

    def __str__(self) -> str:
        """Return the table as a terminal shows it."""
        parts = sorted(self._sums, key=lambda context: (context is None, context))
        cells = [["all", arm, *_cells([self._sums[part][arm] for part in parts])] for arm in self._arms]
        for part in parts if len(parts) > 1 else ():
            cells += [[f"{self._by} {part}", arm, *_cells([self._sums[part][arm]])] for arm in self._arms]
        return tabulate(cells, ["problems", "arm", "pulls", "correct, %", "mean reward"], disable_numparse=True)


def _cells(sums: Sequence[Sequence[float]]) -> list[str]:
    pulls, right, reward = map(sum, zip(*sums, strict=True)) if sums else (0, 0, 0.0)
    return [f"{pulls:,}", f"{100 * right / pulls:.1f}", f"{reward / pulls:.3f}"] if pulls else ["0"]
