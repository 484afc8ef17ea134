"""Decides what a run reads, and what of it is measured and so neither trained on nor shown.

Corpora stand in a mapping from what they are for, ``train``, ``benchmark`` or ``held out``, to a list.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from lemma.corpora import Corpus, CorpusArgs, load_corpus, problem_key
from lemma.prompts import PromptArgs, choose_shots
from lemma.types import Preference, Problem

CACHE = os.environ.get("LEMMA_CACHE") or "~/.cache/lemma"
"""Folder of what was read and encoded, where the configuration names no other."""

Sources = dict[str, list[Corpus]]


def load_sources(
    training: Sequence[CorpusArgs],
    benchmarks: Sequence[CorpusArgs],
    held_out: Sequence[CorpusArgs],
    *,
    root: str | None,
    seed: int,
    cache: Path | None,
) -> Sources:
    """Return all corpora of a run; what measures it is the same whatever its seed.

    Args:
        training: To train on.
        benchmarks: To evaluate on.
        held_out: For the held-out loss.
        root: Folder that relative paths may start from, or None.
        seed: Draws what caps keep of the training corpora.
        cache: Folder in which what was read is kept, or None.

    Raises:
        InputError: As ``load_corpus``.
    """
    groups = (("train", training, seed), ("benchmark", benchmarks, 0), ("held out", held_out, 0))
    return {
        kind: [load_corpus(args, root=root, seed=number, cache=cache) for args in group]
        for kind, group, number in groups
    }


def tested_items(benchmarks: Mapping[str, Sequence[Problem]], held_out: Sequence[Corpus]) -> list[Problem | Preference]:
    """Return all that a run is measured on: benchmark problems, and held-out problems or pairs.

    Args:
        benchmarks: Problems by source.
        held_out: Corpora for the held-out loss.
    """
    return [item for group in (*benchmarks.values(), *(corpus.items for corpus in held_out)) for item in group]


def untested_shots(prompt: PromptArgs, sources: Sources) -> list[Problem]:
    """Return the prompt's worked examples, none of which the run is measured on.

    Raises:
        InputError: If too few are left.
    """
    tested = {int(key) for kind in ("benchmark", "held out") for corpus in sources[kind] for key in corpus.keys}
    return choose_shots(prompt, lambda text: problem_key(text) in tested)


def data_hashes(sources: Sources) -> dict[str, str]:
    """Return the hash of each corpus by ``<what it is for>/<number>/<source>``."""
    return {
        f"{kind.replace(' ', '_')}/{i}/{corpus.source}": corpus.sha256
        for kind, corpora in sources.items()
        for i, corpus in enumerate(corpora)
    }
