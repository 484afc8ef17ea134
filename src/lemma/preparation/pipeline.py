"""Writes a run's data for other tools, stage by stage; a stage that is finished is not done again."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lemma.corpora import code_hash, given_args
from lemma.datamodule import MathDataModule
from lemma.files import write_atomic, write_text
from lemma.preparation.card import account_table, data_card, rows_table
from lemma.preparation.figures import lengths_figure
from lemma.preparation.manifest import Manifest, check_folder
from lemma.preparation.near import num_compared, read_near_duplicates, write_near_duplicates
from lemma.preparation.options import PreparationArgs
from lemma.preparation.rows import write_csv, write_dataset, write_jsonl_lines, write_rows
from lemma.preparation.sides import SIDES, Sides, divide
from lemma.types import InputError

NEAR, DROPPED, LENGTHS, CARD, DATASET = (
    "near_duplicates.jsonl", "dropped.jsonl", "lengths.png", "README.md", "dataset",
)  # fmt: skip


def prepare(data: MathDataModule, options: PreparationArgs) -> None:
    """Write train, val and test of a configuration, and the card.

    Args:
        data: Not yet set up.
        options: Where to, and what.

    Raises:
        InputError: If there is no training corpus, one holds preference pairs, a side is empty, or the folder is of
            another configuration.
    """
    if not data.corpora:
        raise InputError("data.corpora: nothing to write; add a corpus, e.g. --config configs/corpora/arithmetic.yaml.")
    for args in (*data.corpora, *data.held_out_args):
        if args.holds_pairs:
            raise InputError(f"data: {args.source or args.name!r} holds preference pairs; only problems are written.")
    check_folder(Path(options.output))  # before anything is read
    data.setup("fit")
    manifest = Manifest(Path(options.output), _made_from(data, options))
    sides, near = _divide(manifest, data, options)
    _write_dropped(manifest, data, sides, near)
    _write_sides(manifest, data, options, sides)

    def write_lengths() -> None:
        figure = lengths_figure(_lengths(sides), _limits(data))
        write_atomic(manifest.folder / LENGTHS, lambda stream: figure.savefig(stream, format="png", dpi=150))

    manifest.stage([LENGTHS], write_lengths)
    manifest.files.pop(CARD, None)  # it names the others, and there may be more of them than before
    card = data_card(data, options, sides, near, manifest.files)
    manifest.stage([CARD], lambda: write_text(manifest.folder / CARD, card))
    print(f"\n{rows_table(sides)}\n\n{account_table(sides, data)}\n\nWritten: {manifest.folder}, see {CARD} there.")


def _made_from(data: MathDataModule, options: PreparationArgs) -> dict[str, Any]:
    corpora = {kind: [given_args(corpus.args) for corpus in group] for kind, group in data.loaded.items()}
    limits = {"limits": asdict(data.limits), "hold_out": asdict(data.hold_out)}
    return {
        "split": options.split,
        "near_duplicates": options.near_duplicates,
        "corpora": corpora,
        "data": data.data_hashes,
        "cleaning": asdict(data.cleaning_args),
        "prompt and tokenizer": data.encoder.fingerprint,
        "limits": limits,
        "mixture": {"seed": data.seed, "epoch": data.epoch},
        "version of Lemma": code_hash("answers", "corpora", "encoding", "preparation", "prompts"),
    }


def _divide(manifest: Manifest, data: MathDataModule, options: PreparationArgs) -> tuple[Sides, list[dict[str, Any]]]:
    """Return where the problems go, and the near duplicates among them."""
    near, lines = [np.zeros(0, dtype=np.int64)] * len(data.corpora), []
    if options.near_duplicates is not None:

        def look() -> None:
            with tqdm(total=num_compared(data), desc="near duplicates", unit="row") as bar:
                write_near_duplicates(manifest.folder / NEAR, data, options.near_duplicates, bar.update)

        manifest.stage([NEAR], look)
        near, lines = read_near_duplicates(manifest.folder / NEAR, len(data.corpora))
    return divide(data, options.split, near), lines


def _write_sides(manifest: Manifest, data: MathDataModule, options: PreparationArgs, sides: Sides) -> None:
    folder, filled = manifest.folder, [side for side in SIDES if sides.pieces[side]]
    for side in filled:
        name, pieces = f"{side}.jsonl", sides.pieces[side]
        manifest.stage([name], lambda name=name, pieces=pieces: write_rows(folder / name, pieces, data.encoder))
    if "csv" in options.formats:
        for side in filled:
            name, pieces = f"{side}.csv", sides.pieces[side]
            manifest.stage([name], lambda name=name, pieces=pieces: _csv(folder / name, pieces))
    if "datasets" in options.formats:
        files = {side: folder / f"{side}.jsonl" for side in filled}
        manifest.stage([DATASET], lambda: write_dataset(folder / DATASET, files, data.encoder))


def _csv(path: Path, pieces: list) -> None:
    if left_out := write_csv(path, pieces):
        print(f"{path.name}: {left_out:,} problems without a question or an answer are not in it.")


def _write_dropped(manifest: Manifest, data: MathDataModule, sides: Sides, near: list[dict[str, Any]]) -> None:
    manifest.stage([DROPPED], lambda: write_jsonl_lines(manifest.folder / DROPPED, _dropped(data, sides, near)))


def _dropped(data: MathDataModule, sides: Sides, near: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a line for each row of the training corpora that is not to be used, whatever the reason."""
    for account in sides.accounts:
        for reason in account.corpus.bad_rows:
            yield {"source": account.corpus.source, "reason": "bad row", "what": reason}
    yield from data.cleaning.rows
    for account in sides.accounts:
        corpus = account.corpus
        for index in account.too_long:
            problem, where = corpus.problems[index], corpus.store.where(int(corpus.rows[index]))
            yield {"source": corpus.source, "id": problem.id, "where": where, "reason": "too long"}
    for row in near:
        like = {f"resembles_{key}": row["resembles"][key] for key in ("source", "id", "where")}
        kept = {key: row[key] for key in ("source", "id", "where", "similarity", "estimated")}
        yield {**kept, "reason": "near duplicate", **like}


def _lengths(sides: Sides) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Return the lengths of all rows by kind, side and corpus."""
    lengths: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for kind, column in (("prompt", "prompt_tokens"), ("target", "completion_tokens")):
        for side in SIDES:
            groups: dict[str, list[np.ndarray]] = {}
            for piece in sides.pieces[side]:
                repeated = np.repeat(getattr(piece, column), piece.times)
                groups.setdefault(piece.corpus.source, []).append(repeated)
            if groups:
                joined = {source: np.concatenate(arrays) for source, arrays in groups.items()}
                lengths.setdefault(kind, {})[side] = joined
    return lengths


def _limits(data: MathDataModule) -> dict[str, int]:
    return {"prompt": data.limits.max_prompt_length, "target": data.limits.max_completion_length}
