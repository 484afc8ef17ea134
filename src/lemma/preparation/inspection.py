"""Decides what is shown of a run's data before anything is trained."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from lemma.corpora import reading_report
from lemma.datamodule import MathDataModule
from lemma.encoding import Batch, Example, Examples, balance_table, census_table
from lemma.encoding.examples import Part
from lemma.preparation.figures import lengths_text
from lemma.preparation.options import InspectionArgs
from lemma.preparation.sides import levels_of
from lemma.types import InputError

_DROPPED = 3  # dropped rows shown of each corpus and reason


def inspection(data: MathDataModule, options: InspectionArgs) -> str:
    """Return what a run would train on: the census, what is left out and why, shares, layout, lengths and examples.

    Args:
        data: Set up.
        options: Which corpus, and how many examples.

    Raises:
        InputError: If there is no training corpus, or none of that name.
    """
    if data.training is None:
        raise InputError("data.corpora: nothing to show; add a corpus, e.g. --config configs/corpora/arithmetic.yaml.")
    parts = chosen_parts(data, options.source)
    sections = [
        reading_report(data.loaded),
        _census(data),
        data.cleaning.report(),
        *_dropped(data, options.source),
        f"One epoch, {len(data.training.mixture):,} examples:\n{shares_table(data)}",
        f"Layout on one device: {data.arrangement.describe()}.",
    ]
    for part in parts:
        sections.append(lengths_text(part.column("lengths"), f"Tokens of an example of {part.source}"))
    for part in parts:
        for example in islice(Examples([part]), options.num_examples):
            sections.append(show_example(data, example))
    return "\n\n".join(sections)


def chosen_parts(data: MathDataModule, source: str | None) -> list[Part]:
    """Return the training examples of one corpus, or of each.

    Raises:
        InputError: If there is no such corpus.
    """
    parts = data.training.examples.parts
    if source is not None and source not in {part.source for part in parts}:
        raise InputError(f"--source: expected one of {', '.join(part.source for part in parts)}, but got {source!r}.")
    return [part for part in parts if source in (None, part.source)]


def shares_table(data: MathDataModule) -> str:
    """Return what an epoch holds of each corpus and level: examples, tokens that count, and their shares."""
    examples, order = data.training.examples, data.training.mixture.epoch_order(0)
    times = np.bincount(order, minlength=len(examples))
    tokens = times * np.concatenate([part.column("completion_tokens") for part in examples.parts])
    rows, start = [], 0
    for corpus, part in zip(data.loaded["train"], examples.parts, strict=True):
        here = slice(start, start + len(part.index))
        start = here.stop
        levels = levels_of(corpus)[part.column("rows")]
        masks = [("all", np.ones(len(levels), dtype=bool))]
        masks += [(f"{level:.0f}", levels == level) for level in np.unique(levels[~np.isnan(levels)])]
        for name, mask in masks:
            count, of_tokens = times[here][mask].sum(), tokens[here][mask].sum()
            shares = (f"{count / times.sum():.1%}", f"{of_tokens / tokens.sum():.1%}")
            rows.append([part.source, name, int(count), shares[0], int(of_tokens), shares[1]])
    return tabulate(rows, ["corpus", "level", "examples", "share", "tokens that count", "share of them"])


def show_example(data: MathDataModule, example: Example) -> str:
    """Return an example as the run's own layout lays it out, the tokens that count in the loss between « and »."""
    batch: Batch = data.arrangement.layout(data.encoder.pad_id)([example], 1.0)
    number = torch.zeros(batch.num_positions, dtype=torch.long)  # of the completion that a token belongs to, from 1
    number[batch.completion_index] = torch.repeat_interleave(torch.arange(1, len(batch.mask) + 1), batch.mask.sum(1))
    ids, numbers = batch.input_ids.flatten().tolist(), number.tolist()
    text = ""
    for completion, run in _runs(ids, numbers):
        decoded = data.encoder.tokenizer.decode(run)
        text += f"«{decoded}»" if completion else decoded
    cut = ", its end cut off" if example.answer_cut else ""
    return f"--- {example.source} {example.problem_id}: {len(ids)} tokens, {int(batch.mask.sum())} count{cut}\n{text}"


def _runs(ids: list[int], numbers: list[int]) -> Iterator[tuple[int, list[int]]]:
    start = 0
    for end in range(1, len(ids) + 1):
        if end == len(ids) or numbers[end] != numbers[start]:
            yield numbers[start], ids[start:end]
            start = end


def _census(data: MathDataModule) -> str:
    training = data.training
    noun = "pairs" if training.examples.holds_pairs else "rows"
    table = census_table(training.censuses, training.mixture.counts, noun=noun)
    tables = [table, balance_table(training.balances)] if training.balances else [table]
    return "\n".join([*tables, f"Held out for the loss: {len(training.held_out):,} examples."])


def _dropped(data: MathDataModule, source: str | None) -> Iterator[str]:
    """Yield a few of the rows that are left out, for each corpus and reason."""
    shown: Counter[tuple[str, str]] = Counter()
    lines: list[str] = []
    for row in data.cleaning.rows:
        key = row["source"], row["reason"]
        if source in (None, row["source"]) and shown[key] < _DROPPED:
            shown[key] += 1
            lines.append(_line(row))
    if lines:
        yield "For example:\n" + "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    tested = (
        f" as {row['tested_source']} {row['tested_id']} ({row['kind']}, {row['overlap']:.0%})" if "kind" in row else ""
    )
    return f"{row['source']} {row['id']} ({row['where']}): {row['reason']}{tested}"
