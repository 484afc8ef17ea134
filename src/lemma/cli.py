"""The command line: a LightningCLI with its links, its built-in callbacks, and errors without tracebacks."""

import logging
import sys
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from jsonargparse.typing import register_type
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lemma.callbacks import (
    AdapterExport,
    AtomicCheckpointIO,
    DataMonitor,
    EngineCloser,
    EvaluationFiles,
    LastCheckpoint,
    PassAtKCurves,
    PreferenceMonitor,
    ProgressBars,
    RolloutFiles,
    RolloutMonitor,
    RolloutTable,
    RunFiles,
    SampleTable,
    TrainingMonitor,
    TrajectoryFiles,
    TrajectoryMonitor,
    refuse_missing_checkpoint,
    refuse_other_run,
)
from lemma.compatibility import check_compatibility, check_rollouts, setup_of
from lemma.corpora import CorpusArgs, corpus_args, given_args
from lemma.datamodule import MathDataModule
from lemma.encoding import TokenizerArgs
from lemma.modules import MeasuredModule
from lemma.modules.context import check_noun
from lemma.plan import cluster_of, plan
from lemma.rewards import RewardArgs, given_reward_args, reward_args
from lemma.types import InputError


class LemmaParser(LightningArgumentParser):
    """A parser whose errors are the error, not two screens of usage before it, and that completes no key by itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.allow_abbrev = False

    def print_usage(self, *args: Any, **kwargs: Any) -> None:
        """Print nothing; ``--help`` prints all."""


# As a plain dataclass, an item in a list that replaces another of the same length would inherit its unset keys.
register_type(CorpusArgs, serializer=given_args, deserializer=corpus_args, deserializer_exceptions=TypeError)
register_type(RewardArgs, serializer=given_reward_args, deserializer=reward_args, deserializer_exceptions=TypeError)


class LemmaCLI(LightningCLI):
    """LightningCLI for ``MeasuredModule`` and ``MathDataModule``."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link what must agree, and add the callbacks that every run has."""
        for field in fields(TokenizerArgs):  # the tokenizer is always the policy's own
            parser.link_arguments(f"model.init_args.policy.{field.name}", f"data.tokenizer.{field.name}")
        parser.link_arguments("model.init_args.policy.attn_implementation", "data.attention")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.add_argument(
            "--print_plan",
            action="store_true",
            help="Print what fit would be, its steps, trained parameters and memory, and exit; no weights are loaded.",
        )
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
        ours = {"weights_only", "verbose"}  # AtomicCheckpointIO and EvaluationFiles decide these
        ours |= {"return_predictions"}  # of predict: they are in a file
        return {name: verbs[name] | ours for name in ("fit", "validate", "predict")}

    def _parse_ckpt_path(self) -> None:
        """Take nothing from a checkpoint over the command line, as LightningCLI would, in silence."""

    def before_fit(self) -> None:
        """Refuse a missing checkpoint, and to write into the folder of another run, before anything is read."""
        config = self.config_init[self.subcommand]
        refuse_missing_checkpoint(config.ckpt_path)
        if not config.trainer.fast_dev_run:
            refuse_other_run(Path(config.trainer.default_root_dir or "."), resuming=bool(config.ckpt_path))

    def before_validate(self) -> None:
        """Refuse a missing checkpoint before anything is read."""
        refuse_missing_checkpoint(self.config_init[self.subcommand].ckpt_path)

    def before_predict(self) -> None:
        """Refuse a missing checkpoint before anything is read."""
        self.before_validate()

    def predict(self, **kwargs: Any) -> None:
        """Run the verb; what it gives is in a file."""
        self.trainer.predict(**kwargs, return_predictions=False)

    def validate(self, **kwargs: Any) -> None:
        """Run the verb; its table is ``EvaluationFiles``' own, with intervals."""
        self.trainer.validate(**kwargs, verbose=False)

    def _print_plan(self, trainer: Namespace) -> None:
        """Print what fit would be."""
        print(plan(cluster_of(trainer), self.model, self.datamodule))

    def _refuse_other_verbs(self) -> None:
        """Refuse what the module cannot do.

        Raises:
            InputError: Says what it can, or what could.
        """
        plans = self._get(self.config_init, "print_plan")
        if (self.subcommand == "fit" or plans) and self.model.untrained:
            raise InputError(f"model: {self.model.untrained}")
        if self.subcommand == "predict" and not self.model.draws_trajectories:
            raise InputError(
                f"model: {type(self.model).__name__} draws no trajectories; `lemma predict` is for "
                "lemma.modules.TrajectoryModule (configs/objective/trajectories.yaml)."
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Return the trainer with TensorBoard in the run directory, atomic checkpoints and the side outputs."""
        trainer = self._get(self.config_init, "trainer")
        self._refuse_other_verbs()
        settings = (self.model.policy_args, self.model.optimizer_args)
        check_compatibility(setup_of(trainer, *settings, loads_reference=self.model.loads_reference))
        if self.subcommand == "fit":
            check_rollouts(trainer, self.model, self.datamodule.batch_size)
        check_noun(self.datamodule.corpora, pairs=self.model.trains_on_pairs, module=type(self.model).__name__)
        if self._get(self.config_init, "print_plan"):
            self._print_plan(trainer)
            sys.exit()
        root = Path(trainer.get("default_root_dir") or ".")
        if trainer.get("logger") in (None, True):
            # apart from fit's curves, in which a policy measured by `validate` would stand at step 0
            folder = root if self.subcommand == "fit" else root / self.subcommand
            kwargs["logger"] = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
        plugins = trainer.get("plugins") or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        callbacks: list[Callback] = [
            TrainingMonitor(),
            DataMonitor(),
            PreferenceMonitor(),
            RolloutMonitor(),
            RolloutFiles(),
            RolloutTable(),
            EvaluationFiles(),
            SampleTable(),
            PassAtKCurves(),
            TrajectoryMonitor(),
            TrajectoryFiles(),
            AdapterExport(),
            EngineCloser(),
        ]
        given = trainer.get("callbacks") or []
        if trainer.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in given):
            callbacks.append(ProgressBars())
        own = {type(each) for each in given}  # replace the built-in ones
        kwargs["callbacks"] = [*given, *(each for each in callbacks if type(each) not in own)]
        return super().instantiate_trainer(**kwargs)


def main() -> None:
    """Run the command line on ``sys.argv``; bad input ends it with one line and status 1."""
    quieten()
    try:
        LemmaCLI(
            MeasuredModule,
            MathDataModule,
            subclass_mode_model=True,
            save_config_callback=RunFiles,
            seed_everything_default=0,
            trainer_defaults={"use_distributed_sampler": False},
            parser_kwargs={"default_env": False},
            parser_class=LemmaParser,
            auto_configure_optimizers=False,
        )
    except MisconfigurationException as error:  # Lightning's: flags that cannot work here, such as a GPU that is not
        hint = " Without a GPU, add --trainer.accelerator cpu." if "backend found" in str(error) else ""
        sys.exit(f"lemma: error: trainer: {error}{hint}")
    except ValueError as error:
        cause = input_error(error)
        if cause is None:
            raise
        sys.exit(f"lemma: error: {cause}")


def input_error(error: BaseException | None) -> InputError | None:
    """Return the InputError behind an error; jsonargparse wraps those raised while classes are instantiated."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def quieten() -> None:
    """Drop advertisement and deprecations inside libraries, on which a user cannot act."""
    for name in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.pytorch.{name}").addFilter(
            lambda record: not record.getMessage().startswith(("💡", "`weights_only` was not", "Loading `train_data"))
        )
    for name in ("backends.cpu.ops", "autograd._functions"):  # "please install kernels", "inputs will be cast"
        logging.getLogger(f"bitsandbytes.{name}").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing. is deprecated")
    warnings.filterwarnings("ignore", message=".torch.distributed.*is deprecated", category=FutureWarning)
    # every figure is computed from merged ranks and equal on each; a second reduction would only cost time
    warnings.filterwarnings("ignore", message="It is recommended to use .self.log.*sync_dist=True")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.")
