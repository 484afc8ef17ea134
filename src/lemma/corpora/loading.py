"""Decides how a corpus becomes problems or pairs: read, adapt, filter, cap, with every loss accounted for."""

import functools
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from lemma.corpora import arithmetic, mapped
from lemma.corpora.corpus import Corpus
from lemma.corpora.pairing import pairing_report
from lemma.corpora.reading import files_sha256, locate, read_hub, read_local
from lemma.corpora.registry import ADAPTERS, ANSWERS, ARITHMETIC, MAPPED, CorpusArgs
from lemma.corpora.rows import BadRow, Row, subject
from lemma.corpora.split import Item, in_fold
from lemma.corpora.store import NOUNS, Account, Placed, Store, cached_folder, code_hash, write_store
from lemma.types import InputError

GENERATED_ROWS = 2000
"""Problems of the arithmetic corpus where ``max_rows`` is null."""


def load_corpus(args: CorpusArgs, *, root: str | None, seed: int, cache: Path | None = None) -> Corpus:
    """Load a corpus.

    Args:
        args: Which corpus, and what of it.
        root: Folder that relative paths may start from, or None.
        seed: Draws the rows that ``max_rows`` keeps, and the generated problems. A smaller cap keeps a subset.
        cache: Folder in which what was read is kept for the next time; None keeps it until the corpus is let go of.

    Raises:
        InputError: If there is nothing to read, a row is bad and not to be skipped, no problem has both a right
            and a wrong completion where pairs are to be made, or nothing is left.
    """
    source = args.source or args.name
    rows, sha256 = _open(args, root, seed)
    generated = {"num": args.max_rows, "seed": seed, "where": args.where} if args.name == ARITHMETIC else None
    noun = "preferences" if args.holds_pairs else "problems"
    key = {
        "kind": noun,
        "code": code_hash("corpora", "answers", "prompts"),
        "sha256": sha256,
        "generated": generated,
        "args": {name: value for name, value in asdict(args).items() if name in _DECISIVE},
    }
    temporary = cache is None or (sha256 is None and generated is None)  # hub data is kept by its own library
    place = Path(tempfile.mkdtemp(prefix="lemma-")) if temporary else cache

    def build(folder: Path) -> None:
        account = Account()
        items = _adapt(rows, args, source, account)
        write_store(folder, noun, items, account, skip_repeated=args.on_bad_row == "skip")

    try:
        store = Store(cached_folder(place, key, build), source)
        if temporary:
            weakref.finalize(store, shutil.rmtree, place, ignore_errors=True)
        return _select(store, args, seed, sha256 or store.sha256)
    except InputError:
        if temporary:
            shutil.rmtree(place, ignore_errors=True)
        raise


_DECISIVE = ("name", "path", "split", "columns", "subset", "revision", "on_bad_row", "pairs_per_problem")
"""Keys of ``CorpusArgs`` that decide what is read, besides the bytes of the file."""


_MORE = (
    "Pairs need problems that are solved sometimes: sample more completions of each, at a higher temperature or from "
    "a policy that is right more, or less, often."
)

_Adapted = tuple[Sequence[Item], str | None, Mapping[str, int]]
"""Fields of a ``Pairing``, whose list may also be a problem."""


def _open(args: CorpusArgs, root: str | None, seed: int) -> tuple[Iterable[Row | BadRow | Placed], str | None]:
    """Return (rows, hash of the local files that they are read from, if they are)."""
    if args.name == ARITHMETIC:
        levels = (args.where or {}).get("level", arithmetic.LEVELS)
        num_problems = args.max_rows or GENERATED_ROWS
        problems = arithmetic.generate(args.split, num_problems=num_problems, seed=seed, levels=levels)
        if args.subset == ANSWERS:
            problems = [replace(problem, solution=None) for problem in problems]
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
        read = functools.partial(read_local, path, args.split)
        rows = adapter.gather(read) if adapter is not None and adapter.gather is not None else read()
        return rows, files_sha256(path, args.split)
    own = adapter is not None and name == adapter.hub and args.subset is None
    subsets = adapter.subsets if own else (args.subset,)
    return _read_subsets(name, subsets, args, root), None


def _read_subsets(name: str, subsets: tuple[str | None, ...], args: CorpusArgs, root: str | None) -> Iterator[Row]:
    for subset in subsets:
        yield from read_hub(
            name, split=args.split, subset=subset, revision=args.revision, root=root, streaming=args.streaming
        )


def _adapt(rows: Iterable[Row | BadRow | Placed], args: CorpusArgs, source: str, account: Account) -> Iterator[Placed]:
    """Yield the problem or the pairs of each row; put ``where: reason`` of a bad one into the account, or raise it."""
    if args.name == ARITHMETIC:
        yield from rows
        return
    adapt, wanted, left = _adapter_function(args), _wanted(args.where), args.max_rows if args.streaming else None
    for row in rows:
        try:
            if isinstance(row, BadRow):
                raise InputError(row.reason)
            items, outcome, unused = adapt(row, source)
        except ValueError as error:
            if args.on_bad_row == "error":
                raise InputError(f"{row.where}: {error} (`on_bad_row: skip` leaves out such rows.)") from error
            account.bad_rows.append(f"{row.where}: {error}")
            continue
        account.outcomes.update([outcome] if outcome else [])
        account.unused.update(unused)
        for item in items:
            yield Placed(item, row.where)
            if left is not None and all(_comparable(getattr(item, key)) in values for key, values in wanted.items()):
                left -= 1
                if not left:
                    return


def _adapter_function(args: CorpusArgs) -> Callable[[Row, str], _Adapted]:
    """Return a function of (row, source) → what the row gives: one problem, or any number of pairs."""
    if args.holds_pairs:
        to_preferences = ADAPTERS[args.name].to_preferences
        return lambda row, source: to_preferences(row, source, args.pairs_per_problem)
    if args.name == MAPPED:
        to_problem = functools.partial(mapped.to_problem, columns=args.columns)
    else:
        to_problem = ADAPTERS[args.name].to_problem
    return lambda row, source: ([to_problem(row, source)], None, {})


def _select(store: Store, args: CorpusArgs, seed: int, sha256: str) -> Corpus:
    """Filter and cap."""
    if not len(store):
        if store.outcomes:
            counts = pairing_report(store.source, store.outcomes, store.unused)
            raise InputError(f"corpus: {args.path} gives no preference pair. {counts} {_MORE}")
        raise InputError(f"{store.source}: every row is bad; the first: {store.bad_rows[0]}")
    for key in ("level", "subject"):
        if key in (args.columns or {}) and not any(value is not None for value in store.column(key)):
            raise InputError(f"{args.path}: no row has a value in column `{args.columns[key]}` (mapped to {key}).")
    kept = _matching(store, args.where)
    if args.fold is not None:
        kept = kept[in_fold(store.keys[kept], args.fold, args.folds)]
        if not len(kept):
            raise InputError(f"corpus: the fold {args.fold!r} of {args.folds} has no {_noun(store)} of {store.source}.")
    capped = kept
    if args.max_rows is not None and len(kept) > args.max_rows:
        capped = kept[np.sort(np.random.default_rng(seed).permutation(len(kept))[: args.max_rows])]
    return Corpus(args, store, capped, len(store) - len(store.repeated) - len(kept), len(kept) - len(capped), sha256)


def _matching(store: Store, where: dict[str, list] | None) -> np.ndarray:
    """Return the rows whose level and subject are among the values asked for, (N,) int64."""
    kept = np.ones(len(store), dtype=bool)
    kept[store.repeated] = False
    for key, values in _wanted(where).items():
        kept &= np.fromiter((_comparable(value) in values for value in store.column(key)), dtype=bool)
    if not kept.any():
        exist = "; ".join(f"{key}: {', '.join(_values(store, key))}" for key in where)
        raise InputError(f"corpus: `where` {where} leaves no {_noun(store)} of {store.source}, which has {exist}.")
    return np.flatnonzero(kept)


def _noun(store: Store) -> str:
    return NOUNS[store.noun].name


def _wanted(where: dict[str, list] | None) -> dict[str, set]:
    return {key: {_comparable(value) for value in values} for key, values in (where or {}).items()}


def _comparable(value: str | int | None) -> str | int | None:
    return subject(value) if isinstance(value, str) else value


def _values(store: Store, key: str) -> list[str]:
    return sorted({"null" if value is None else str(value) for value in store.column(key)})
