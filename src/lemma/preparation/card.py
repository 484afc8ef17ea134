"""Decides what the data card of an output says, so that a finder knows what is in it and what is not."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from tabulate import tabulate

from lemma.corpora import ADAPTERS, Corpus, given_args
from lemma.corpora.registry import ARITHMETIC
from lemma.datamodule import MathDataModule
from lemma.preparation.options import OWN, PreparationArgs
from lemma.preparation.sides import SIDES, TEST, TRAIN, VAL, Piece, Sides, levels_of
from lemma.preparation.splits import split_report

_TABLE = "github"
_SHOWN = 3  # near duplicates in the card


def data_card(
    data: MathDataModule,
    options: PreparationArgs,
    sides: Sides,
    near: Sequence[Mapping[str, Any]],
    files: Mapping[str, str],
) -> str:
    """Return the card, in Markdown, with the header that lets ``datasets.load_dataset`` read the folder.

    Args:
        data: Set up.
        options: What was asked for.
        sides: Where the problems went.
        near: Near duplicates, as in their file.
        files: Name → SHA-256 of each file of the output.
    """
    parts = [
        _header(sides),
        "# Data made by Lemma",
        _columns(data),
        "## Rows and tokens",
        rows_table(sides),
        f"Tokens are those of `{data.tokenizer_args.base}`; the stop token of a target is one of them. "
        f"{_order(sides, options)}",
        *([_levels(sides)] if any(_levels_of(sides)) else []),
        "![Lengths of prompts and targets](lengths.png)",
        "## Split",
        _split(sides, options),
        "## What is left out",
        account_table(sides, data),
        "`dropped.jsonl` says of each row which it was, where it stood and why it is not here.",
        *([_near(near, options)] if options.near_duplicates is not None else []),
        "## Where it comes from",
        _corpora(data),
        "A licence is that of the published data set whose format a corpus has; whether it is the one that you gave is "
        "yours to check.",
        "## Files",
        tabulate(sorted(files.items()), ["file", "SHA-256"], tablefmt=_TABLE),
        "A folder's is of the names and contents of its files.",
    ]
    return "\n\n".join(parts) + "\n"


def rows_table(sides: Sides) -> str:
    """Return rows and tokens of each side by source, repetitions included, with shares of train."""
    rows = []
    for side in SIDES:
        groups = _by_source(sides.pieces[side])
        counted = {
            source: sum((_tokens(piece) for piece in pieces), np.zeros(3, np.int64)) for source, pieces in groups
        }
        total = sum(counted.values(), np.zeros(3, np.int64))
        for source, counts in counted.items():
            shares = [f"{count / max(1, all_):.1%}" for count, all_ in zip(counts[[0, 2]], total[[0, 2]], strict=True)]
            rows.append([side, source, *(f"{count:,}" for count in counts), *shares])
    headers = ["side", "corpus", "rows", "prompt tokens", "target tokens", "share of rows", "share of target tokens"]
    return tabulate(rows, headers, tablefmt=_TABLE, disable_numparse=True, colalign=("left", "left", *["right"] * 5))


def account_table(sides: Sides, data: MathDataModule) -> str:
    """Return what became of the rows of each training corpus: how many were read, left out and why, and are here."""
    reasons: dict[str, Counter[str]] = {}
    for account in sides.accounts:
        counts = reasons.setdefault(account.corpus.source, Counter())
        counts.update(account.dropped)
        counts["read"] += len(account.corpus.rows)
    for name, count in data.cleaning.counts().items():
        source, _, reason = name.partition("/")
        reasons[source][reason] += count
    own = {id(account.corpus) for account in sides.accounts}
    for side in SIDES:
        for piece in sides.pieces[side]:
            if id(piece.corpus) in own:
                reasons[piece.corpus.source][f"in {side}"] += int((piece.times > 0).sum())
    first = ["bad row", "filtered out", "over the cap", "read"]
    last = [f"in {side}" for side in SIDES]
    found = {reason for counts in reasons.values() for reason in counts}
    middle = sorted(found - {*first, *last})
    headers = [name for name in (*first, *middle, *last) if name in found]
    rows = [[source, *(counts[name] for name in headers)] for source, counts in reasons.items()]
    table = tabulate(rows, ["corpus", *headers], tablefmt=_TABLE)
    return f"{table}\n\nOf what was read, every problem is in one of the columns to the right of it."


def _header(sides: Sides) -> str:
    files = "\n".join(f"  - split: {side}\n    path: {side}.jsonl" for side in SIDES if sides.pieces[side])
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}\n---"


def _columns(data: MathDataModule) -> str:
    names = ", ".join(f"{key} {value}" for key, value in asdict(data.prompt).items() if value)
    return (
        "`prompt` is what the user says, `target` the completion to train on, and `messages`, where the chat begins "
        "with more than the prompt, all that stands before the target. No chat template is applied. Rendered with: "
        f"{names}."
    )


def _order(sides: Sides, options: PreparationArgs) -> str:
    weights = any(piece.corpus.args.weight is not None for piece in sides.pieces[TRAIN])
    epoch = "Train is one epoch of the weighted mixture." if weights else "Train is every row once."
    return f"{epoch} Rows stand corpus after corpus, in the order of the data: shuffle before training."


def _by_source(pieces: Sequence[Piece]) -> list[tuple[str, list[Piece]]]:
    groups: dict[str, list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(piece.corpus.source, []).append(piece)
    return list(groups.items())


def _tokens(piece: Piece) -> np.ndarray:
    columns = (np.ones_like(piece.times), piece.prompt_tokens, piece.completion_tokens)
    return np.array([(column * piece.times).sum() for column in columns])


def _levels_of(sides: Sides) -> list[tuple[str, str, Counter[float]]]:
    found = []
    for side in SIDES:
        for source, pieces in _by_source(sides.pieces[side]):
            counts: Counter[float] = Counter()
            for piece in pieces:
                levels = levels_of(piece.corpus)[piece.index]
                known = ~np.isnan(levels)
                for level, times in zip(levels[known], piece.times[known], strict=True):
                    counts[float(level)] += int(times)
            if counts:
                found.append((side, source, counts))
    return found


def _levels(sides: Sides) -> str:
    found = _levels_of(sides)
    levels = sorted({level for _, _, counts in found for level in counts})
    rows = [[side, source, *(counts[level] for level in levels)] for side, source, counts in found]
    table = tabulate(rows, ["side", "corpus", *(f"level {level:.0f}" for level in levels)], tablefmt=_TABLE)
    return f"Rows by level, where a corpus has levels:\n\n{table}"


def _split(sides: Sides, options: PreparationArgs) -> str:
    if options.split == OWN:
        return (
            f"The run's own: {VAL} is what it holds out for its loss, {TEST} its benchmarks. No problem of {TRAIN} is "
            "in either."
        )
    by_hash = (
        "By a hash of the problem's text without case, white space and punctuation: the same problem is on one side "
        "only, in every corpus and in any later version of the data."
    )
    return f"{by_hash}\n\n{split_report(sides.accounts, options.split)}"


def _near(near: Sequence[Mapping[str, Any]], options: PreparationArgs) -> str:
    text = (
        f"Near duplicates: {len(near):,} rows share at least {options.near_duplicates:.0%} of their runs of five words "
        "and signs with an earlier or a tested problem that has the same numbers and signs, and the same answer "
        "(MinHash finds candidates, the share itself decides). All are in `near_duplicates.jsonl`."
    )
    for row in near[:_SHOWN]:
        like = row["resembles"]
        text += f"\n\n- {row['source']} {row['id']} resembles {like['source']} {like['id']} ({row['similarity']:.2f})"
    return text


def _corpora(data: MathDataModule) -> str:
    rows = []
    for kind, corpora in data.loaded.items():
        for number, corpus in enumerate(corpora):
            key = f"{kind.replace(' ', '_')}/{number}/{corpus.source}"
            arguments = ", ".join(f"{name}: {value}" for name, value in given_args(corpus.args).items())
            rows.append([kind, corpus.source, arguments, licence(corpus), data.data_hashes[key]])
    return tabulate(rows, ["for", "corpus", "asked for", "licence", "SHA-256 of the data"], tablefmt=_TABLE)


def licence(corpus: Corpus) -> str:
    """Return the licence of the data set that a corpus is, as far as it is known."""
    if corpus.args.name == ARITHMETIC:
        return "generated"
    adapter = ADAPTERS.get(corpus.args.name)
    return (adapter.licence if adapter is not None else None) or "unknown"
