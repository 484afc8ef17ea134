"""Writes rollouts down: each as a file, some groups as a table, and how completions of fixed problems change."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from lemma.callbacks.records import by_source, shown
from lemma.callbacks.tables import text_table
from lemma.evaluation import Record
from lemma.files import keep_previous, write_jsonl
from lemma.modules import GRPOModule
from lemma.modules.resume import gather_objects
from lemma.rewards import RewardArgs, total
from lemma.rollouts import Rollout, RolloutSize
from lemma.types import InputError

_MOST_STEPS = 8  # of a fixed problem: the first and the latest


class RolloutCallback(Callback):
    """Calls ``on_rollout`` on every rank at the first batch of each new rollout.

    A rollout that a resumed run goes on with is not new.
    """

    def __init__(self) -> None:
        self._number = 0

    def on_rollout(self, trainer: Trainer, pl_module: GRPOModule) -> None:
        """Look at ``pl_module.rollout``."""
        raise NotImplementedError

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Notice a new rollout."""
        if pl_module.makes_rollouts and pl_module.rollout_number != self._number:
            self._number = pl_module.rollout_number
            self.on_rollout(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of the rollout under way; nothing before the first."""
        return {"number": self._number} if self._number else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the rollout under way."""
        self._number = state_dict["number"]


class RolloutFiles(RolloutCallback):
    """Writes rollouts of all ranks as ``<run>/rollouts/rollout-<number>.jsonl``, a row a problem.

    Columns are those of ``records.jsonl`` that the corpus ``graded`` reads, so that pairs can be made of them, and
    rewards and advantages. A resumed run writes over what was written after its checkpoint.

    Args:
        every: Rollouts between two that are written; 1 writes all.

    Raises:
        InputError: If ``every`` is below 1.
    """

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        self.every = _at_least_1("RolloutFiles.every", every)

    def on_rollout(self, trainer: Trainer, pl_module: GRPOModule) -> None:
        """Gather the rows, and write them on rank 0; a collective call."""
        number = pl_module.rollout_number
        if trainer.fast_dev_run or (number - 1) % self.every:
            return
        rows = gather_objects(rollout_rows(pl_module.rollout, pl_module.rewards, step=trainer.global_step))
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir) / "rollouts"
        if number == 1:
            keep_previous(folder)
        size = RolloutSize(
            pl_module.problems_per_rollout,
            pl_module.group_size,
            trainer.datamodule.batch_size,
            trainer.accumulate_grad_batches,
            len(rows),
        )
        in_order = {
            place: row for rank, own in enumerate(rows) for place, row in zip(size.share(rank), own, strict=True)
        }
        write_jsonl(folder / f"rollout-{number:06d}.jsonl", (in_order[place] for place in sorted(in_order)))


class RolloutTable(RolloutCallback):
    """Shows rollouts in TensorBoard's text page: groups with their rewards, and fixed problems over and over again.

    ``rollout/groups`` has every completion of some of rank 0's groups. ``progress/<source>`` has the first problems of
    each benchmark with the greedy completions of every validation of this run: the first one and the latest.

    Args:
        every: Rollouts between two that are shown; 1 shows all.
        num_groups: Groups shown of a rollout.
        num_problems: Fixed problems shown of each benchmark.

    Raises:
        InputError: If a number is below 1.
    """

    def __init__(self, every: int = 10, num_groups: int = 3, num_problems: int = 3) -> None:
        super().__init__()
        self.every = _at_least_1("RolloutTable.every", every)
        self.num_groups = _at_least_1("RolloutTable.num_groups", num_groups)
        self.num_problems = _at_least_1("RolloutTable.num_problems", num_problems)
        self._progress: dict[str, list[tuple[int, list[Record]]]] = {}

    @rank_zero_only
    def on_rollout(self, trainer: Trainer, pl_module: GRPOModule) -> None:
        """Add a table of some groups."""
        if (pl_module.rollout_number - 1) % self.every or not isinstance(trainer.logger, TensorBoardLogger):
            return
        rows = rollout_rows(pl_module.rollout, pl_module.rewards, step=trainer.global_step)
        stride = max(1, len(rows) // self.num_groups)
        table = groups_table(rows[::stride][: self.num_groups])
        trainer.logger.experiment.add_text("rollout/groups", table, trainer.global_step)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a table per source, which has the tables before in it."""
        if not pl_module.makes_rollouts or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if not isinstance(trainer.logger, TensorBoardLogger):
            return
        for source, records in by_source(pl_module.evaluation).items():
            seen = self._progress.setdefault(source, [])
            seen.append((trainer.global_step, records[: self.num_problems]))
            del seen[1 : max(1, len(seen) - _MOST_STEPS + 1)]
            trainer.logger.experiment.add_text(f"progress/{source}", progress_table(seen), trainer.global_step)


def rollout_rows(rollout: Rollout, rewards: list[RewardArgs], *, step: int) -> list[dict[str, Any]]:
    """Return a row for each group of a rollout, in parallel lists over its G completions; a reward of None stays None.

    Args:
        rollout: Of one rank.
        rewards: The K rewards.
        step: Optimiser steps before the rollout.
    """
    weights = [float(each.weight) for each in rewards]
    per_group = zip(
        rollout.groups,
        rollout.advantages.double().view(-1, rollout.group_size).tolist(),
        rollout.counted.view(-1, rollout.group_size).tolist(),
        strict=True,
    )
    return [
        {
            "problem_id": group.problem.id,
            "source": group.problem.source,
            "level": group.problem.level,
            "subject": group.problem.subject,
            "problem": group.problem.problem,
            "answer": group.problem.answer,
            "samples": list(range(rollout.group_size)),
            "completions": group.texts,
            "predictions": group.predictions,
            "verdicts": [verdict.value for verdict in group.verdicts],
            "stopped": [sample.stopped for sample in group.samples],
            "num_tokens": [len(sample.ids) for sample in group.samples],
            "rewards": {each.key: [values[k] for values in group.rewards] for k, each in enumerate(rewards)},
            "reward": [total(values, weights) for values in group.rewards],
            "advantages": advantages,
            "counted": counted,
            "step": step,
        }
        for group, advantages, counted in per_group
    ]


def groups_table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table of every completion of some groups; a problem stands beside its first one.

    Args:
        rows: Of ``rollout_rows``.
    """
    columns = ("problem", "answer", "completion", "tokens", "prediction", "verdict", "reward", "of it", "advantage")
    lines = []
    for row in rows:
        for i in row["samples"]:
            parts = ", ".join(f"{name} {_number(values[i])}" for name, values in row["rewards"].items())
            lines.append(
                (
                    *((row["problem"], row["answer"]) if i == 0 else (None, None)),
                    row["completions"][i],
                    f"{row['num_tokens'][i]}{'' if row['stopped'][i] else ', cut'}",
                    row["predictions"][i],
                    row["verdicts"][i],
                    _number(row["reward"][i]),
                    parts,
                    _number(row["advantages"][i]) if row["counted"][i] else "left out",
                )
            )
    return text_table(columns, lines)


def progress_table(seen: list[tuple[int, list[Record]]]) -> str:
    """Return a Markdown table of the same problems at several steps, problem after problem.

    Args:
        seen: At least one (step, the records of the problems), in order.
    """
    columns = ("problem", "answer", "step", "completion", "prediction", "verdict")
    lines = []
    for records in zip(*(records for _, records in seen), strict=True):
        for number, ((step, _), record) in enumerate(zip(seen, records, strict=True)):
            named = (record.problem.problem, record.problem.answer) if number == 0 else (None, None)
            lines.append((*named, str(step), *shown(record)))
    return text_table(columns, lines)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _at_least_1(name: str, value: int) -> int:
    if value < 1:
        raise InputError(f"{name}: expected at least 1, but got {value}.")
    return value
