"""The command line: a LightningCLI with its links, its built-in callbacks, and errors without tracebacks."""

import sys
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from lemma.callbacks import (
    AdapterExport,
    AtomicCheckpointIO,
    EvaluationFiles,
    LastCheckpoint,
    RunFiles,
    SampleTable,
    TrainingMonitor,
)
from lemma.datamodule import MathDataModule
from lemma.modules import PolicyModule
from lemma.types import InputError


_TOKENIZER_LINKS = {name: name for name in ("base", "revision", "trust_remote_code", "chat_template")}
"""Field of ``PolicyArgs`` → field of ``TokenizerArgs``: the tokenizer is always the policy's own."""


class LemmaCLI(LightningCLI):
    """LightningCLI for ``PolicyModule`` and ``MathDataModule``."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link what must agree, and add the callbacks that every run has."""
        for ours, theirs in _TOKENIZER_LINKS.items():
            parser.link_arguments(f"model.init_args.policy.{ours}", f"data.tokenizer.{theirs}")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.filename": "step-{step:06d}",
                "checkpoint.auto_insert_metric_name": False,  # a tag such as val/x/pass@1 would become folders
            }
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verbs of Lemma."""
        verbs = LightningCLI.subcommands()
        return {name: verbs[name] for name in ("fit", "validate")}

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Return the trainer with TensorBoard in the run directory, atomic checkpoints and the side outputs."""
        trainer = self._get(self.config_init, "trainer")
        root = trainer.get("default_root_dir") or "."
        if trainer.get("logger") in (None, True):
            kwargs["logger"] = TensorBoardLogger(root, name="", version="", default_hp_metric=False)
        plugins = trainer.get("plugins") or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        callbacks = [TrainingMonitor(), EvaluationFiles(), SampleTable(), AdapterExport()]
        if trainer.get("logger") is not False:
            callbacks.append(LearningRateMonitor())
        kwargs["callbacks"] = [*(trainer.get("callbacks") or []), *callbacks]
        return super().instantiate_trainer(**kwargs)


def main(args: ArgsType = None) -> None:
    """Run the command line.

    Args:
        args: Arguments instead of ``sys.argv``, for tests.
    """
    try:
        LemmaCLI(
            PolicyModule,
            MathDataModule,
            subclass_mode_model=True,
            save_config_callback=RunFiles,
            seed_everything_default=0,
            trainer_defaults={"use_distributed_sampler": False},
            parser_kwargs={"default_env": False},
            auto_configure_optimizers=False,
            args=args,
        )
    except InputError as error:
        sys.exit(f"lemma: error: {error}")
