"""Decides which benchmark problems a rank measures, and in which batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lemma.corpora import problem_key
from lemma.types import Problem


@dataclass(frozen=True)
class BenchmarkItem:
    """A benchmark's problem and its index there."""

    index: int
    problem: Problem


class BenchmarkBatch:
    """Some problems of a validation step, none if other ranks have more; opaque to Lightning, which would copy into it.

    Args:
        items: The problems.
    """

    def __init__(self, items: Sequence[BenchmarkItem]) -> None:
        self.items = items


def benchmark_batches(
    benchmarks: Mapping[str, Sequence[Problem]], *, limit: int | None, batch_size: int, rank: int, num_ranks: int
) -> list[BenchmarkBatch]:
    """Return one rank's problems in batches, as many batches on every rank, empty ones if need be.

    Args:
        benchmarks: The problems of each source.
        limit: Problems of each source that are measured: the first by hash, the same ones every time; None for all.
        batch_size: Problems a batch.
        rank: This process, from 0.
        num_ranks: Processes that share the problems.
    """
    items = [item for problems in benchmarks.values() for item in _subset(problems, limit)]
    items.sort(key=lambda item: len(item.problem.problem))
    mine = items[rank::num_ranks]
    num_batches = -(-len(items[::num_ranks]) // batch_size)  # rank 0 has the most
    return [BenchmarkBatch(mine[i * batch_size : (i + 1) * batch_size]) for i in range(num_batches)]


def _subset(problems: Sequence[Problem], limit: int | None) -> list[BenchmarkItem]:
    items = [BenchmarkItem(index, problem) for index, problem in enumerate(problems)]
    return items if limit is None else sorted(items, key=lambda item: problem_key(item.problem.problem))[:limit]
