"""Decides how a rank is handed the benchmark problems that it measures."""

from collections.abc import Mapping, Sequence

import torch
from torch.utils.data import DataLoader

from lemma.encoding import Geometry
from lemma.evaluation import benchmark_batches
from lemma.types import Problem


def benchmark_loader(
    benchmarks: Mapping[str, Sequence[Problem]], geometry: Geometry, limit: int | None, batch_size: int
) -> DataLoader:
    """Return a rank's problems in batches; see ``benchmark_batches``.

    Args:
        benchmarks: The problems of each source.
        geometry: Says which rank this is, of how many.
        limit: Problems of each source at most; None for all.
        batch_size: Problems a batch.
    """
    batches = benchmark_batches(
        benchmarks, limit=limit, batch_size=batch_size, rank=geometry.rank, num_ranks=geometry.num_ranks
    )
    return DataLoader(
        batches, batch_size=None, generator=torch.Generator()
    )  # of its own: the global one stays as it is
