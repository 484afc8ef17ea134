"""From corpora to what is trained on and what is held out: encode, truncate, keep clean, split, count."""

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from lemma.corpora import Corpus, Mixture, Selection, cached_folder, chunks, code_hash, held_out
from lemma.encoding.chat import ChatEncoder, Example
from lemma.encoding.examples import Examples, ExampleStore, Part, write_examples
from lemma.encoding.truncation import Census, Limits, census_table, truncate
from lemma.types import InputError

_CHUNK = 1024  # problems tokenised together


@dataclass(frozen=True)
class TrainingSet:
    """Encoded training data.

    Attributes:
        examples: All training examples, corpus after corpus.
        mixture: Orders them in each epoch.
        held_out: Examples that are never trained on.
        report: What a person should read before training: the census, and a decoded example of each corpus.
    """

    examples: Examples
    mixture: Mixture
    held_out: Examples
    report: str


@dataclass(frozen=True)
class HoldOut:
    """Which training problems are kept from training for the held-out loss.

    Attributes:
        share: Share of the problems, by hash, so that a problem is on the same side in every run; in [0, 1).
        max_examples: Most of them that are used.
    """

    share: float
    max_examples: int


def build_training_set(
    corpora: Sequence[Corpus],
    held: Sequence[Corpus],
    dropped: Sequence[np.ndarray],
    *,
    encoder: ChatEncoder,
    limits: Limits,
    hold_out: HoldOut,
    seed: int,
    epoch: str = "shortest",
    cache: Path | None = None,
) -> TrainingSet:
    """Encode the training corpora.

    Args:
        corpora: To train on; with or without mixture weights.
        held: For the held-out loss alone.
        dropped: For each training corpus, which of its problems must not be used; (N,) bool.
        encoder: Turns problems into token ids.
        limits: Longest prompt and completion.
        hold_out: Which training problems are kept back.
        seed: Of the mixture and of the choice among the kept back.
        epoch: Which corpus ends an epoch (see ``Mixture``).
        cache: Folder in which encoded examples are kept for the next time, or None.

    Raises:
        InputError: If nothing is left of a corpus, or an example is too long and truncation is ``error``.
    """
    train, kept_back, censuses = [], [], []
    for corpus, out in zip(corpora, dropped, strict=True):
        store = encode_corpus(corpus, encoder, limits, cache)
        aside = held_out(corpus.keys, hold_out.share)
        part = _part(corpus, store, ~out & ~aside)
        census = take_census(part, num_problems=int((~out & ~aside).sum()))
        if not len(part.index):
            raise InputError(
                f"data.corpora: nothing is left to train on in {corpus.source!r}: {int(out.sum())} of "
                f"{len(out)} problems come twice or are tested on (data.cleaning), {census.dropped} are too long, "
                f"{int((~out & aside).sum())} are held out."
            )
        train.append(part)
        kept_back.append(_part(corpus, store, ~out & aside))
        censuses.append((corpus.source, census))
    held_parts = [
        _part(corpus, encode_corpus(corpus, encoder, limits, cache), np.ones(len(corpus.rows), dtype=bool))
        for corpus in held
    ]
    mixture = Mixture([len(p.index) for p in train], [corpus.args.weight for corpus in corpora], seed, epoch)
    out = Examples([*_drawn(kept_back, hold_out.max_examples, seed), *held_parts])
    report = [f"Training data, beside {len(out)} held-out examples", census_table(censuses, mixture.counts)]
    for part in train:
        report.append(f"An example of {part.source}, the tokens that count in the loss between « and »:")
        report.append(encoder.describe(Examples([part])[0]))
    return TrainingSet(Examples(train), mixture, out, "\n".join(report))


def _drawn(parts: list[Part], most: int, seed: int) -> list[Part]:
    """Return at most so many examples, drawn from all parts together, each part's in its order."""
    corpus = np.repeat(np.arange(len(parts)), [len(part.index) for part in parts])
    index = np.concatenate([part.index for part in parts]) if parts else np.zeros(0, dtype=np.int64)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(index))[:most])
    return [
        Part(part.store, index[drawn[corpus[drawn] == number]], part.source, part.weight)
        for number, part in enumerate(parts)
    ]


def _part(corpus: Corpus, store: ExampleStore, chosen: np.ndarray) -> Part:
    """Return the chosen examples of a corpus, (N,) bool by problem; some problems have none."""
    return Part(store, np.flatnonzero(chosen[store.arrays["rows"]]), corpus.source, corpus.args.loss_weight)


def take_census(part: Part, *, num_problems: int) -> Census:
    """Count the examples of a part, and those that truncation left out of it.

    Args:
        part: What is left.
        num_problems: What it was made from.
    """
    return Census(
        rows=len(part.index),
        prompt_tokens=int(part.column("prompt_tokens").sum(dtype=np.int64)),
        completion_tokens=int(part.column("completion_tokens").sum(dtype=np.int64)),
        longest=int(part.column("lengths").max(initial=0)),
        dropped=num_problems - len(part.index),
        answer_cut=int(part.column("answer_cut").sum()),
    )


def encode_corpus(corpus: Corpus, encoder: ChatEncoder, limits: Limits, cache: Path | None) -> ExampleStore:
    """Return a corpus's examples within the limits, encoded now or taken from the cache.

    The store's ``rows`` count the corpus's problems, not the rows of its file.

    Args:
        corpus: Loaded.
        encoder: Turns problems into token ids.
        limits: What is too long, and what becomes of it.
        cache: Folder of caches; None encodes into a temporary one.

    Raises:
        InputError: If an example is too long and truncation is ``error``.
    """
    key = {
        "kind": "examples",
        "code": code_hash("encoding", "prompts", "answers"),
        "problems": corpus.store.sha256,
        "rows": hashlib.sha256(np.ascontiguousarray(corpus.rows).tobytes()).hexdigest(),
        "encoder": encoder.fingerprint,
        "limits": asdict(limits),
    }
    place = Path(tempfile.mkdtemp(prefix="lemma-")) if cache is None else cache
    try:
        folder = cached_folder(place, key, lambda folder: write_examples(folder, _encode(corpus, encoder, limits)))
        store = ExampleStore.open(folder)
    except InputError:
        if cache is None:
            shutil.rmtree(place, ignore_errors=True)
        raise
    if cache is None:
        weakref.finalize(store, shutil.rmtree, place, ignore_errors=True)
    return store


def _encode(corpus: Corpus, encoder: ChatEncoder, limits: Limits) -> Iterator[tuple[int, Example]]:
    """Yield (number of the problem, example) within the limits; say how far it has come every 50,000 problems."""
    number = 0
    for problems in chunks(Selection(corpus.store, corpus.rows), _CHUNK):
        for example in encoder.encode_all(problems):
            if (short := truncate(example, limits)) is not None:
                yield number, short
            number += 1
            if number % 50_000 == 0:
                rank_zero_info(f"{corpus.source}: {number:,} of {len(corpus.rows):,} problems encoded")
