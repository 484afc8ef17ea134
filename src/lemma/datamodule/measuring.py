"""Decides how a rank is handed the benchmark problems that it measures, and whether it measures held-out data."""

from collections.abc import Mapping, Sequence

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from lemma.encoding import Geometry
from lemma.evaluation import benchmark_batches
from lemma.types import Problem


def benchmark_loader(
    benchmarks: Mapping[str, Sequence[Problem]],
    geometry: Geometry,
    trainer: Trainer,
    *,
    limit: int | None,
    batch_size: int,
) -> DataLoader:
    """Return a rank's problems in batches; see ``benchmark_batches``.

    All are one batch where the module's engine takes any number, so that it never waits; unless the trainer limits
    how many batches are measured.

    Args:
        benchmarks: The problems of each source.
        geometry: Says which rank this is, of how many.
        trainer: In fit, problems are limited.
        limit: Problems of each source at most in fit; None for all.
        batch_size: Problems a batch.
    """
    if _of_module(trainer, "streams", False) and _takes_all(trainer.limit_val_batches):
        batch_size = max(1, sum(map(len, benchmarks.values())))
    batches = benchmark_batches(
        benchmarks,
        limit=limit if trainer.state.fn == "fit" else None,
        batch_size=batch_size,
        rank=geometry.rank,
        num_ranks=geometry.num_ranks,
    )
    return DataLoader(
        batches, batch_size=None, generator=torch.Generator()
    )  # of its own: the global one stays as it is


def measures_held_out(trainer: Trainer) -> bool:
    """Return whether the module has a likelihood of held-out data."""
    return _of_module(trainer, "measures_held_out", True)


def _takes_all(limit_val_batches: float) -> bool:
    return isinstance(limit_val_batches, float) and limit_val_batches == 1.0  # 1 is one batch


def _of_module(trainer: Trainer, name: str, default: bool) -> bool:
    """Return what the module says of itself; where there is none, the data is only looked at."""
    return getattr(getattr(trainer, "lightning_module", None), name, default)
