"""Decides which benchmark problems can be graded, which of them a rank measures, and in which batches.

A benchmark whose source begins with ``aime``, in any case, is taken for the AIME, and its answers must be whole numbers
from 0 to 999 (``073`` is 73).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning.pytorch.utilities import rank_zero_info

from lemma.answers import Grader
from lemma.corpora import Corpus, problem_key
from lemma.types import InputError, Problem

_SHOWN = 5  # problems that a message names


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


def gradable_benchmarks(corpora: Sequence[Corpus]) -> dict[str, list[Problem]]:
    """Return the problems of each benchmark, by source, and say which are left out.

    Args:
        corpora: One for each benchmark.

    Raises:
        InputError: If one holds preference pairs, two have the same source, and as ``gradable``.
    """
    benchmarks: dict[str, list[Problem]] = {}
    with Grader() as grader:
        for corpus in corpora:
            if corpus.source in benchmarks:
                raise InputError(f"data.benchmarks: two are called {corpus.source!r}; give one another `source`.")
            if corpus.holds_pairs:
                raise InputError(
                    f"data.benchmarks: {corpus.source!r} ({corpus.args.name}) holds preference pairs, but a benchmark "
                    "is of problems with answers; move it to data.corpora or data.held_out."
                )
            problems, left_out = gradable(list(corpus.problems), grader, on_bad_row=corpus.args.on_bad_row)
            for complaint in left_out:
                rank_zero_info(f"left out of the benchmark: {complaint}")
            benchmarks[corpus.source] = problems
    return benchmarks


def gradable(problems: Sequence[Problem], grader: Grader, *, on_bad_row: str) -> tuple[list[Problem], list[str]]:
    """Return the problems whose gold answer can be graded against, and a complaint about each of the others.

    Args:
        problems: Of one benchmark, at least one.
        grader: Says which golds it cannot read.
        on_bad_row: What a gold that cannot be read does: error, or skip.

    Raises:
        InputError: If there is such a problem and it is not to be skipped, or none is left; names source, problem and
            answer.
    """
    complaints = {
        index: "no answer to grade against" for index, p in enumerate(problems) if not (p.answer or "").strip()
    }
    read = [index for index in range(len(problems)) if index not in complaints]
    for number in grader.unreadable([problems[index].answer for index in read]):
        complaints[read[number]] = f"the grader can make nothing of the answer {problems[read[number]].answer!r}"
    for index in read:
        if is_aime(problems[index].source) and not re.fullmatch(r"[0-9]{1,3}", problems[index].answer.strip()):
            answer = problems[index].answer
            complaints[index] = f"an AIME answer is a whole number from 0 to 999, but this one is {answer!r}"
    told = [f"{problems[i].source}, problem {problems[i].id}: {complaints[i]}" for i in sorted(complaints)]
    if told and (on_bad_row == "error" or len(told) == len(problems)):
        more = f" And {len(told) - _SHOWN} more." if len(told) > _SHOWN else ""
        advice = "" if len(told) == len(problems) else " (`on_bad_row: skip` leaves out such problems.)"
        raise InputError(f"data.benchmarks: {'; '.join(told[:_SHOWN])}.{more}{advice}")
    return [problem for index, problem in enumerate(problems) if index not in complaints], told


def is_aime(source: str) -> bool:
    """Return whether a benchmark is taken for the AIME: its source begins with ``aime``, in any case."""
    return source.casefold().startswith("aime")


def _subset(problems: Sequence[Problem], limit: int | None) -> list[BenchmarkItem]:
    items = [BenchmarkItem(index, problem) for index, problem in enumerate(problems)]
    return items if limit is None else sorted(items, key=lambda item: problem_key(item.problem.problem))[:limit]
