"""Decides how a tool reads the configuration of a run: as `lemma fit` does, without a trainer or any weights."""

import logging
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from lemma.cli import LemmaCLI, LemmaParser, input_error, quieten
from lemma.datamodule import MathDataModule
from lemma.modules import PolicyModule

_DEFAULT_MODEL = {"class_path": "lemma.modules.SFTModule"}  # on the tiny policy


class _RunCLI(LemmaCLI):
    """The keys of ``lemma fit`` beside the tool's own; no trainer is made and no weights are loaded."""

    options: type

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Put the tool's own arguments first."""
        parser = super().init_parser(**kwargs)
        parser.add_class_arguments(self.options)
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take what a run's own ``config.yaml`` holds, and a configuration without a model."""
        super().add_arguments_to_parser(parser)
        parser.add_argument("--ckpt_path", default=None, help="Of no use here; a run's config.yaml holds it.")
        parser.set_defaults({"model": _DEFAULT_MODEL})

    def instantiate_classes(self) -> None:
        """Make the module, the data and the options."""
        self.config_init = self.parser.instantiate_classes(self.config)
        self.model, self.datamodule = self.config_init.model, self.config_init.data
        self.made = self.options(**{field.name: self.config_init[field.name] for field in fields(self.options)})


def configured_data(options: type, description: str, args: list[str] | None = None) -> tuple[MathDataModule, Any]:
    """Return the data of a configuration, not yet set up, and the tool's own options; see ``configured_run``."""
    _, data, made = configured_run(options, description, args)
    return data, made


def configured_run(
    options: type, description: str, args: list[str] | None = None
) -> tuple[PolicyModule, MathDataModule, Any]:
    """Return module and data of a configuration, not yet set up, and the tool's own options.

    Args:
        options: Dataclass of the tool's arguments; no field may be called as a key of ``lemma fit``.
        description: For ``--help``.
        args: Command line; None is the process's.

    Raises:
        ValueError: If a value is refused; ``run_tool`` makes a line of it.
    """
    named = type("RunCLI", (_RunCLI,), {"options": options})
    cli = named(
        PolicyModule,
        MathDataModule,
        args=args,
        run=False,
        subclass_mode_model=True,
        save_config_callback=None,
        seed_everything_default=0,
        trainer_defaults={"use_distributed_sampler": False},
        parser_kwargs={"default_env": False, "description": description},
        parser_class=LemmaParser,
        auto_configure_optimizers=False,
    )
    return cli.model, cli.datamodule, cli.made


def run_tool(name: str, run: Callable[[], None], *, verbose: bool) -> None:
    """Run a tool; bad input ends it with one line and status 1.

    Args:
        name: Of the tool, for that line.
        run: What it does.
        verbose: Let through what ``lemma fit`` says while it reads data.
    """
    quieten()
    for logger in ("utilities.rank_zero", "utilities.seed", "fabric.utilities.seed"):
        prefix = "lightning" if logger.startswith("fabric") else "lightning.pytorch"
        seed = logger.endswith("seed")
        logging.getLogger(f"{prefix}.{logger}").setLevel(logging.INFO if verbose and not seed else logging.WARNING)
    try:
        run()
    except ValueError as error:
        cause = input_error(error)
        if cause is None:
            raise
        sys.exit(f"{name}: error: {cause}")
