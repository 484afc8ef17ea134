"""Decides how a corpus becomes problems: read, adapt, filter, cap, with every loss accounted for."""

import functools
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from lemma.corpora import arithmetic, mapped
from lemma.corpora.reading import files_sha256, locate, read_hub, read_local
from lemma.corpora.registry import ADAPTERS, ARITHMETIC, MAPPED, CorpusArgs
from lemma.corpora.rows import BadRow, Row, subject
from lemma.corpora.split import in_fold
from lemma.corpora.store import Placed, ProblemStore, cached_folder, code_hash, write_store
from lemma.types import InputError, Problem

GENERATED_ROWS = 2000
"""Problems of the arithmetic corpus where ``max_rows`` is null."""


@dataclass(frozen=True)
class Corpus:
    """A loaded corpus and the account of what is not in it."""

    args: CorpusArgs
    """What was asked for."""
    store: ProblemStore
    """Every row that could be read."""
    rows: np.ndarray
    """(N,) int64, the rows of the store that were asked for, in the order of the data, at least one."""
    num_filtered: int
    """Problems that `where` and `fold` left out."""
    num_capped: int
    """Problems that `max_rows` left out."""
    sha256: str
    """Hash of the local file's bytes; of all readable problems before filter and cap for hub and generated data."""

    @property
    def source(self) -> str:
        """Return the label in metrics and logs; every problem has it."""
        return self.store.source

    @property
    def bad_rows(self) -> list[str]:
        """Return ``where: reason`` of each row that could not be read; empty unless `on_bad_row` is skip."""
        return self.store.bad_rows

    @property
    def keys(self) -> np.ndarray:
        """Return (N,) uint64, ``problem_key`` of each problem."""
        return self.store.keys[self.rows]

    @functools.cached_property
    def problems(self) -> Sequence[Problem]:
        """Return the problems, read from disk when they are asked for."""
        return Selection(self.store, self.rows)


class Selection(Sequence[Problem]):
    """Some rows of a store, in order."""

    def __init__(self, store: ProblemStore, rows: np.ndarray) -> None:
        """See the class."""
        self._store, self._rows = store, rows

    def __len__(self) -> int:
        """Return the number of problems."""
        return len(self._rows)

    def __getitem__(self, index: int | slice) -> Problem | list[Problem]:
        """Return a problem, or a list of them."""
        if isinstance(index, slice):
            return [self._store[row] for row in self._rows[index]]
        return self._store[self._rows[index]]

    def __eq__(self, other: object) -> bool:
        """Return whether the other has equal problems in the same order."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None


def load_corpus(args: CorpusArgs, *, root: str | None, seed: int, cache: Path | None = None) -> Corpus:
    """Load a corpus.

    Args:
        args: Which corpus, and what of it.
        root: Folder that relative paths may start from, or None.
        seed: Draws the rows that ``max_rows`` keeps, and the generated problems. A smaller cap keeps a subset.
        cache: Folder in which what was read is kept for the next time; None keeps it until the corpus is let go of.

    Raises:
        InputError: If there is nothing to read, a row is bad and not to be skipped, or no problem is left.
    """
    source = args.source or args.name
    rows, sha256 = _open(args, root, seed)
    generated = {"num": args.max_rows, "seed": seed, "where": args.where} if args.name == ARITHMETIC else None
    key = {
        "kind": "problems",
        "code": code_hash("corpora", "answers"),
        "sha256": sha256,
        "generated": generated,
        "args": {name: value for name, value in asdict(args).items() if name in _DECISIVE},
    }
    temporary = cache is None or (sha256 is None and generated is None)  # hub data is kept by its own library
    place = Path(tempfile.mkdtemp(prefix="lemma-")) if temporary else cache

    def build(folder: Path) -> None:
        bad_rows: list[str] = []
        write_store(folder, _adapt(rows, args, source, bad_rows), bad_rows, skip_repeated=args.on_bad_row == "skip")

    try:
        store = ProblemStore(cached_folder(place, key, build), source)
        if temporary:
            weakref.finalize(store, shutil.rmtree, place, ignore_errors=True)
        return _select(store, args, seed, sha256 or store.sha256)
    except InputError:
        if temporary:
            shutil.rmtree(place, ignore_errors=True)
        raise


def reading_report(corpora: dict[str, list[Corpus]]) -> str:
    """Return what was read, as a table, and each row that was skipped, with its place and the reason.

    Args:
        corpora: Corpora by what they are for, e.g. train or benchmark.
    """
    rows = [
        [kind, corpus.source, len(corpus.rows), len(corpus.bad_rows), corpus.num_filtered, corpus.num_capped]
        for kind, group in corpora.items()
        for corpus in group
    ]
    table = tabulate(rows, ["for", "corpus", "read", "bad rows", "filtered out", "over the cap"])
    skipped = [f"skipped {reason}" for group in corpora.values() for corpus in group for reason in corpus.bad_rows]
    return "\n".join([table, *skipped])


_DECISIVE = ("name", "path", "split", "columns", "subset", "revision", "on_bad_row")
"""Keys of ``CorpusArgs`` that decide what is read, besides the bytes of the file."""


def _open(args: CorpusArgs, root: str | None, seed: int) -> tuple[Iterable[Row | BadRow | Placed], str | None]:
    """Return (rows, hash of the local files that they are read from, if they are)."""
    if args.name == ARITHMETIC:
        levels = (args.where or {}).get("level", arithmetic.LEVELS)
        num_problems = args.max_rows or GENERATED_ROWS
        problems = arithmetic.generate(args.split, num_problems=num_problems, seed=seed, levels=levels)
        return (Placed(problem, problem.id) for problem in problems), None
    adapter = ADAPTERS.get(args.name)
    name = args.path or adapter.hub
    if name is None:
        raise InputError(f"corpus: expected `path` to be a file or folder for {args.name}, but got None.")
    path = locate(name, root)
    if path is not None:
        for key in ("subset", "revision", "streaming"):
            if value := getattr(args, key):
                raise InputError(f"corpus: expected no `{key}` for local {path}, but got {value!r}.")
        return read_local(path, args.split), files_sha256(path, args.split)
    own = adapter is not None and name == adapter.hub and args.subset is None
    subsets = adapter.subsets if own else (args.subset,)
    return _read_subsets(name, subsets, args, root), None


def _read_subsets(name: str, subsets: tuple[str | None, ...], args: CorpusArgs, root: str | None) -> Iterator[Row]:
    for subset in subsets:
        yield from read_hub(
            name, split=args.split, subset=subset, revision=args.revision, root=root, streaming=args.streaming
        )


def _adapt(
    rows: Iterable[Row | BadRow | Placed], args: CorpusArgs, source: str, bad_rows: list[str]
) -> Iterator[Placed]:
    """Yield the problem of each row; append ``where: reason`` of a bad one to ``bad_rows``, or raise it."""
    if args.name == ARITHMETIC:
        yield from rows
        return
    to_problem, wanted, left = _adapter_function(args), _wanted(args.where), args.max_rows if args.streaming else None
    for row in rows:
        try:
            if isinstance(row, BadRow):
                raise InputError(row.reason)
            problem = to_problem(row, source)
        except ValueError as error:
            if args.on_bad_row == "error":
                raise InputError(f"{row.where}: {error} (`on_bad_row: skip` leaves out such rows.)") from error
            bad_rows.append(f"{row.where}: {error}")
            continue
        yield Placed(problem, row.where)
        if left is not None and all(_comparable(getattr(problem, key)) in values for key, values in wanted.items()):
            left -= 1
            if not left:
                return


def _adapter_function(args: CorpusArgs) -> Callable[[Row, str], Problem]:
    if args.name == MAPPED:
        return functools.partial(mapped.to_problem, columns=args.columns)
    return ADAPTERS[args.name].to_problem


def _select(store: ProblemStore, args: CorpusArgs, seed: int, sha256: str) -> Corpus:
    """Filter and cap."""
    if not len(store):
        raise InputError(f"{store.source}: every row is bad; the first: {store.bad_rows[0]}")
    for key in ("level", "subject"):
        if key in (args.columns or {}) and not any(value is not None for value in store.column(key)):
            raise InputError(f"{args.path}: no row has a value in column `{args.columns[key]}` (mapped to {key}).")
    kept = _matching(store, args.where)
    if args.fold is not None:
        kept = kept[in_fold(store.keys[kept], args.fold, args.folds)]
        if not len(kept):
            raise InputError(f"corpus: the fold {args.fold!r} of {args.folds} has no problem of {store.source}.")
    capped = kept
    if args.max_rows is not None and len(kept) > args.max_rows:
        capped = kept[np.sort(np.random.default_rng(seed).permutation(len(kept))[: args.max_rows])]
    return Corpus(args, store, capped, len(store) - len(store.repeated) - len(kept), len(kept) - len(capped), sha256)


def _matching(store: ProblemStore, where: dict[str, list] | None) -> np.ndarray:
    """Return the rows whose level and subject are among the values asked for, (N,) int64."""
    kept = np.ones(len(store), dtype=bool)
    kept[store.repeated] = False
    for key, values in _wanted(where).items():
        kept &= np.fromiter((_comparable(value) in values for value in store.column(key)), dtype=bool)
    if not kept.any():
        exist = "; ".join(f"{key}: {', '.join(_values(store, key))}" for key in where)
        raise InputError(f"corpus: `where` {where} leaves no problem of {store.source}, which has {exist}.")
    return np.flatnonzero(kept)


def _wanted(where: dict[str, list] | None) -> dict[str, set]:
    return {key: {_comparable(value) for value in values} for key, values in (where or {}).items()}


def _comparable(value: str | int | None) -> str | int | None:
    return subject(value) if isinstance(value, str) else value


def _values(store: ProblemStore, key: str) -> list[str]:
    return sorted({"null" if value is None else str(value) for value in store.column(key)})
