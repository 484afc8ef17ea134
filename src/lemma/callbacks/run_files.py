"""Writes down what a run is: its config, versions, git commit and data hashes; shows them in TensorBoard."""

import importlib.metadata
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from jsonargparse import Namespace
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from lemma.callbacks.records import evaluation_folder
from lemma.corpora import given_args
from lemma.evaluation.provenance import git_output
from lemma.files import keep_previous, write_json, write_text
from lemma.types import InputError

_PACKAGES = (
    *("lemma", "torch", "lightning", "transformers", "peft", "bitsandbytes"),
    *("datasets", "torchmetrics", "math-verify"),
)


class RunFiles(SaveConfigCallback):
    """Writes ``config.yaml`` and ``run.json`` when a verb starts; logs config and hyper-parameters to TensorBoard.

    An earlier file of the same name is moved aside.
    """

    _step = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the files, on rank 0."""
        if trainer.is_global_zero and not trainer.fast_dev_run:
            self._write(trainer, Path(trainer.default_root_dir) if stage == "fit" else evaluation_folder(trainer))

    def _write(self, trainer: pl.Trainer, folder: Path) -> None:
        config = self.parser.dump(self.config, skip_none=False)
        for name in ("config.yaml", "run.json"):
            keep_previous(folder / name)
        write_text(folder / "config.yaml", config)
        write_json(folder / "run.json", {**run_facts(), "data": trainer.datamodule.data_hashes})
        if isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.experiment.add_text("config", f"```yaml\n{config}\n```", trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the step at which Lightning has logged these figures."""
        self._step = trainer.fit_loop.epoch_loop._batches_that_stepped

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log hyper-parameters beside the final figures, which are logged once more: where they stand already."""
        if trainer.fast_dev_run or not isinstance(trainer.logger, TensorBoardLogger):
            return
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()
                   if name.startswith("val/") and "level_" not in name and "subject_" not in name}  # fmt: skip
        trainer.logger.log_hyperparams(hyper_parameters(self.config), figures, step=self._step)


def refuse_missing_checkpoint(ckpt_path: str | None) -> None:
    """Refuse a path of no file; Lightning's keywords ``last``, ``best`` and ``hpc`` are its own to look up.

    Raises:
        InputError: If there is no such file.
    """
    if ckpt_path not in (None, "last", "best", "hpc") and not Path(ckpt_path).exists():
        raise InputError(f"ckpt_path: {ckpt_path} does not exist.")


def refuse_other_run(folder: Path, *, resuming: bool) -> None:
    """Refuse a new fit into a folder that holds another run's checkpoints.

    Raises:
        InputError: If it does and this fit does not resume.
    """
    if not resuming and any((folder / "checkpoints").glob("*.ckpt")):
        raise InputError(
            f"trainer.default_root_dir: {folder} holds the checkpoints of another run. Resume it with --ckpt_path "
            f"{folder / 'checkpoints' / 'last.ckpt'}, or choose another folder."
        )


def run_facts() -> dict[str, Any]:
    """Return versions, git commit, command line and platform."""
    return {
        "command": shlex.join(sys.argv),
        "git": git_output("rev-parse", "HEAD"),
        "git_dirty": bool(git_output("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def hyper_parameters(config: Namespace) -> dict[str, Any]:
    """Return the settings that one compares runs by, flat, as primitives.

    Args:
        config: The parsed configuration of fit.
    """
    init_args = config.model.init_args
    trained = {"policy": init_args.policy, "optimizer": init_args.optimizer}
    data = {name: config.data[name] for name in ("corpora", "prompt", "batch_size")}
    data["corpora"] = " + ".join(str(given_args(corpus)) for corpus in data["corpora"])
    names = ("max_steps", "max_epochs", "accumulate_grad_batches", "gradient_clip_val", "precision", "devices")
    trainer = {name: config.trainer[name] for name in names}
    return _flatten({**trained, "data": data, "trainer": trainer, "seed": config.seed_everything})


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested settings as ``a/b/c`` → primitive."""
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, dict):
        return {name: leaf for key, inner in value.items() for name, leaf in _flatten(inner, f"{prefix}/{key}").items()}
    return {prefix.strip("/"): value if isinstance(value, bool | int | float | str) else str(value)}
