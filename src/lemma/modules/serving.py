"""Decides what ranks do together where servers draw: they fail as one, give whole weights, and score what was drawn."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from lightning.pytorch import Trainer

from lemma.encoding import Example, padded
from lemma.generation import ServedArgs
from lemma.generation.served.errors import ServerError, SignalledError
from lemma.modules.resume import gather_objects
from lemma.modules.sharding import reshard, whole_weights
from lemma.policy import Policy, PolicyArgs
from lemma.policy.reference import evaluating
from lemma.types import InputError

if TYPE_CHECKING:
    from lemma.generation.served.adapters import AdapterWeights

T = TypeVar("T")


class AgreedServerError(ServerError):
    """Servers failed some rank; every rank raises it at the same point, so that what they still do they do together."""


class AgreedEnd(SystemExit):
    """A signal ended some rank's wait for servers; every rank raises it at the same point. Its code is 128 + signal."""


def agreed(work: Callable[[], T]) -> list[T]:
    """Return what the work of every rank gives, in rank order; a collective call.

    Raises:
        AgreedServerError: On every rank, if servers failed one.
        AgreedEnd: On every rank, if a signal ended the wait of one.
    """
    found, failure, signum = None, None, 0
    try:
        found = work()
    except SignalledError as error:
        signum = error.signum
    except ServerError as error:
        failure = str(error)
    told = gather_objects((found, failure, signum))
    if signum := max(number for _, _, number in told):
        raise AgreedEnd(128 + signum)
    for _, message, _ in told:
        if message is not None:
            raise AgreedServerError(message)
    return [value for value, _, _ in told]


@contextlib.contextmanager
def going_on_from(folder: Path | None) -> Iterator[None]:
    """Say, where servers fail, what the same command would go on from.

    Args:
        folder: Where finished completions are kept; None if they are not.

    Raises:
        ServerError: As it came, with a hint.
    """
    try:
        yield
    except ServerError as error:
        if folder is None:
            raise
        raise ServerError(f"{error}\nRun the same command again to go on from what is in {folder}.") from error


def adapter_weights(trainer: Trainer, args: ServedArgs) -> "AdapterWeights":
    """Return what brings the adapter of a run's policy to its servers.

    Args:
        trainer: Knows ranks, precision and data.
        args: Which servers.
    """
    from lemma.generation.served.adapters import AdapterWeights, Ranks  # needs an HTTP client, which the help does not

    def logps(policy: Policy, examples: list[Example]) -> list[list[float]]:
        batch = padded(examples, pad_id=trainer.datamodule.encoder.pad_id, window_weight=1.0)
        batch = batch.to(trainer.strategy.root_device)
        with torch.no_grad(), trainer.precision_plugin.forward_context(), evaluating(policy):
            rows = policy(batch)
        reshard(policy)
        return [row[mask].tolist() for row, mask in zip(rows.double(), batch.mask, strict=True)]

    folder = Path(args.adapter_folder or Path(trainer.default_root_dir) / "served").resolve()
    is_first = trainer.is_global_zero
    ranks = Ranks(is_first, agreed, lambda policy: whole_weights(policy, keep=is_first), logps)
    return AdapterWeights(args, folder, trainer.datamodule.encoder, ranks)


def check_servable(policy: PolicyArgs) -> None:
    """Refuse what servers cannot be given.

    Raises:
        InputError: Names the key.
    """
    if policy.method == "full":
        raise InputError(
            "model.engine: servers take an adapter's weights, not those of full fine-tuning. Use "
            "--model.policy.method lora, or --model.engine local."
        )
    if policy.lora.use_dora:
        raise InputError("model.policy.lora.use_dora: vLLM serves no DoRA adapters. Use LoRA, or --model.engine local.")


def check_served(trainer: Trainer, args: ServedArgs) -> None:
    """Refuse a deadline after which other ranks would have stopped waiting.

    Raises:
        InputError: Names both.
    """
    timeout = getattr(trainer.strategy, "_timeout", None)
    if trainer.world_size > 1 and timeout is not None and args.deadline >= timeout.total_seconds():
        raise InputError(
            f"model.served.deadline: expected less than the {timeout.total_seconds():.0f} s for which ranks wait for "
            f"one another (the strategy's timeout), but got {args.deadline}."
        )
