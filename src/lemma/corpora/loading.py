"""Decides how a corpus becomes a list of problems: read, adapt, filter, cap, with every loss accounted for."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace

import numpy as np
from tabulate import tabulate

from lemma.corpora import arithmetic, mapped
from lemma.corpora.reading import files_sha256, locate, read_hub, read_local
from lemma.corpora.registry import ADAPTERS, ARITHMETIC, MAPPED, CorpusArgs
from lemma.corpora.rows import BadRow, Row, subject
from lemma.types import InputError, Problem

GENERATED_ROWS = 2000
"""Problems of the arithmetic corpus where ``max_rows`` is null."""


@dataclass(frozen=True)
class Corpus:
    """A loaded corpus and the account of what is not in it."""

    args: CorpusArgs
    """What was asked for."""
    source: str
    """Label in metrics and logs; every problem has it."""
    problems: list[Problem]
    """In the order of the data, at least one."""
    bad_rows: list[str]
    """`where: reason` of each row that could not be read; empty unless `on_bad_row` is skip."""
    num_filtered: int
    """Problems that `where` left out."""
    num_capped: int
    """Problems that `max_rows` left out."""
    sha256: str
    """Hash of the local file's bytes; of all readable problems before filter and cap for hub and generated data."""


def load_corpus(args: CorpusArgs, *, root: str | None, seed: int) -> Corpus:
    """Load a corpus.

    Args:
        args: Which corpus, and what of it.
        root: Folder that relative paths may start from, or None.
        seed: Draws the rows that ``max_rows`` keeps, and the generated problems. A smaller cap keeps a subset.

    Raises:
        InputError: If there is nothing to read, a row is bad and not to be skipped, or no problem is left.
    """
    source = args.source or args.name
    bad_rows: list[str] = []
    if args.name == ARITHMETIC:
        problems, sha256 = _generate(args, source, seed), None
    else:
        rows, sha256 = _open(args, root)
        problems = list(_adapt(rows, args, source, bad_rows))
    if not problems:
        raise InputError(f"{source}: every row is bad; the first: {bad_rows[0]}")
    for key in ("level", "subject"):
        if key in (args.columns or {}) and all(getattr(problem, key) is None for problem in problems):
            raise InputError(f"{args.path}: no row has a value in column `{args.columns[key]}` (mapped to {key}).")
    kept = _matching(problems, args.where, source)
    capped = _draw(kept, args.max_rows, seed)
    return Corpus(
        args=args,
        source=source,
        problems=capped,
        bad_rows=bad_rows,
        num_filtered=len(problems) - len(kept),
        num_capped=len(kept) - len(capped),
        sha256=sha256 or _problems_sha256(problems),
    )


def reading_report(corpora: dict[str, list[Corpus]]) -> str:
    """Return what was read, as a table, and each row that was skipped, with its place and the reason.

    Args:
        corpora: Corpora by what they are for, e.g. train or benchmark.
    """
    rows = [
        [kind, corpus.source, len(corpus.problems), len(corpus.bad_rows), corpus.num_filtered, corpus.num_capped]
        for kind, group in corpora.items()
        for corpus in group
    ]
    table = tabulate(rows, ["for", "corpus", "read", "bad rows", "filtered out", "over the cap"])
    skipped = [f"skipped {reason}" for group in corpora.values() for corpus in group for reason in corpus.bad_rows]
    return "\n".join([table, *skipped])


def _generate(args: CorpusArgs, source: str, seed: int) -> list[Problem]:
    levels = (args.where or {}).get("level", arithmetic.LEVELS)
    num_problems = args.max_rows or GENERATED_ROWS
    problems = arithmetic.generate(args.split, num_problems=num_problems, seed=seed, levels=levels)
    return [replace(problem, source=source) for problem in problems]


def _open(args: CorpusArgs, root: str | None) -> tuple[Iterator[Row | BadRow], str | None]:
    """Return (rows, hash of the files); the hash is None for hub data."""
    adapter = ADAPTERS.get(args.name)
    name = args.path or adapter.hub
    if name is None:
        raise InputError(f"corpus: expected `path` to be a file or folder for {args.name}, but got None.")
    path = locate(name, root)
    if path is not None:
        for key, value in (("subset", args.subset), ("revision", args.revision)):
            if value is not None:
                raise InputError(f"corpus: expected `{key}` to be null for local {path}, but got {value!r}.")
        return read_local(path, args.split), files_sha256(path, args.split)
    own = adapter is not None and name == adapter.hub and args.subset is None
    subsets = adapter.subsets if own else (args.subset,)
    return _read_subsets(name, subsets, args, root), None


def _read_subsets(name: str, subsets: tuple[str | None, ...], args: CorpusArgs, root: str | None) -> Iterator[Row]:
    for subset in subsets:
        yield from read_hub(name, split=args.split, subset=subset, revision=args.revision, root=root)


def _adapt(rows: Iterable[Row | BadRow], args: CorpusArgs, source: str, bad_rows: list[str]) -> Iterator[Problem]:
    """Yield the problem of each row; append ``where: reason`` of a bad one to ``bad_rows``, or raise it."""
    to_problem = _adapter_function(args)
    first_seen: dict[str, str] = {}
    for row in rows:
        try:
            if isinstance(row, BadRow):
                raise InputError(row.reason)
            problem = to_problem(row, source)
            if problem.id in first_seen:
                raise InputError(f"id {problem.id!r} occurs twice, first at {first_seen[problem.id]}.")
        except ValueError as error:
            if args.on_bad_row == "error":
                raise InputError(f"{row.where}: {error} (`on_bad_row: skip` leaves out such rows.)") from error
            bad_rows.append(f"{row.where}: {error}")
            continue
        first_seen[problem.id] = row.where
        yield problem


def _adapter_function(args: CorpusArgs) -> Callable[[Row, str], Problem]:
    if args.name == MAPPED:
        return functools.partial(mapped.to_problem, columns=args.columns)
    return ADAPTERS[args.name].to_problem


def _matching(problems: list[Problem], where: dict[str, list] | None, source: str) -> list[Problem]:
    """Return the problems whose level and subject are among the values asked for."""
    wanted = {key: {_comparable(value) for value in values} for key, values in (where or {}).items()}
    kept = [
        problem
        for problem in problems
        if all(_comparable(getattr(problem, key)) in values for key, values in wanted.items())
    ]
    if not kept:
        exist = "; ".join(f"{key}: {', '.join(_values(problems, key))}" for key in wanted)
        raise InputError(f"corpus: `where` {where} leaves no problem of {source}, which has {exist}.")
    return kept


def _comparable(value: str | int | None) -> str | int | None:
    return subject(value) if isinstance(value, str) else value


def _values(problems: list[Problem], key: str) -> list[str]:
    return sorted({"null" if getattr(problem, key) is None else str(getattr(problem, key)) for problem in problems})


def _draw(problems: list[Problem], max_rows: int | None, seed: int) -> list[Problem]:
    """Return at most ``max_rows`` problems in their order, drawn by seed."""
    if max_rows is None or len(problems) <= max_rows:
        return problems
    drawn = np.random.default_rng(seed).permutation(len(problems))[:max_rows]
    return [problems[index] for index in sorted(drawn)]


def _problems_sha256(problems: list[Problem]) -> str:
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(json.dumps(astuple(problem)).encode() + b"\n")
    return digest.hexdigest()
