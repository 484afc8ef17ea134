"""From corpora to what is trained on and what is held out: encode, truncate, keep clean, split, balance, count."""

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from lemma.corpora import Corpus, Mixture, cached_folder, chunks, code_hash, held_out
from lemma.encoding.chat import ChatEncoder, Example
from lemma.encoding.example_store import ExampleStore, write_examples
from lemma.encoding.examples import Examples, Part
from lemma.encoding.pairs import LengthBalance, PairArgs, balance, balance_table, length_differences, within_bias
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
        censuses: Source and counts of each training corpus.
        balances: Source and lengths of the sides of each corpus of pairs.
    """

    examples: Examples
    mixture: Mixture
    held_out: Examples
    report: str
    censuses: list[tuple[str, Census]] = field(default_factory=list)
    balances: list[tuple[str, LengthBalance]] = field(default_factory=list)

    @property
    def groups(self) -> tuple[Examples, Examples]:
        """Return what is trained on and what is held out."""
        return self.examples, self.held_out


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
    pairs: PairArgs = PairArgs(),  # noqa: B008 (frozen)
    seed: int,
    epoch: str = "shortest",
    cache: Path | None = None,
) -> TrainingSet:
    """Encode the training corpora.

    Args:
        corpora: To train on; with or without mixture weights.
        held: For the held-out loss alone.
        dropped: For each training corpus, which of its problems must not be used; (N,) bool.
        encoder: Turns problems, or pairs, into token ids.
        limits: Longest prompt and completion.
        hold_out: Which training problems are kept back.
        pairs: What is left out of pairs that are trained on; those held out stay as they are.
        seed: Of the mixture and of the choice among the kept back.
        epoch: Which corpus ends an epoch (see ``Mixture``).
        cache: Folder in which encoded examples are kept for the next time, or None.

    Raises:
        InputError: If nothing is left of a corpus, or an example is too long and truncation is ``error``.
    """
    shares = [
        _shares(corpus, encode_corpus(corpus, encoder, limits, cache), out, hold_out, pairs)
        for corpus, out in zip(corpora, dropped, strict=True)
    ]
    held_parts = [
        _part(corpus, encode_corpus(corpus, encoder, limits, cache), np.ones(len(corpus.rows), dtype=bool))
        for corpus in held
    ]
    train = [share.train for share in shares]
    mixture = Mixture([len(p.index) for p in train], [corpus.args.weight for corpus in corpora], seed, epoch)
    out = Examples([*_drawn([share.aside for share in shares], hold_out.max_examples, seed), *held_parts])
    censuses = [(share.train.source, share.census) for share in shares]
    balances = [(share.train.source, share.balance) for share in shares if share.balance is not None]
    examples, held_out_noun, noun = Examples(train), "examples", encoder.noun
    if examples.holds_pairs:
        held_out_noun = noun = "pairs"
    report = [f"Training data, beside {len(out)} held-out {held_out_noun}"]
    report.append(census_table(censuses, mixture.counts, noun=noun))
    report += [balance_table(balances)] if balances else []
    for part in train:
        report.append(f"An example of {part.source}{encoder.legend}:")
        report.append(encoder.describe(Examples([part])[0]))
    return TrainingSet(examples, mixture, out, "\n".join(report), censuses, balances)


class _Shares(NamedTuple):
    """What becomes of one corpus: trained on, kept back, and the account of it."""

    train: Part
    aside: Part
    census: Census
    balance: LengthBalance | None


def _shares(corpus: Corpus, store: ExampleStore, out: np.ndarray, hold_out: HoldOut, pairs: PairArgs) -> _Shares:
    """Return the parts of a corpus without what is dropped, ``out`` (N,) bool; refuse one of which nothing is left."""
    aside = held_out(corpus.keys, hold_out.share)
    num_chosen = int((~out & ~aside).sum())
    part, sides = _part(corpus, store, ~out & ~aside), None
    too_long, unbalanced = num_chosen - len(part.index), 0
    if corpus.holds_pairs and len(part.index):
        lengths = store.completion_lengths(part.index)
        kept = within_bias(length_differences(lengths), pairs.max_length_bias)
        sides = balance(lengths, kept) if kept.any() else None
        part, unbalanced = replace(part, index=part.index[kept]), int((~kept).sum())
    if not len(part.index):
        noun = "pairs" if corpus.holds_pairs else "problems"
        limited = f", {unbalanced} are left out by data.pairs.max_length_bias" if unbalanced else ""
        raise InputError(
            f"data.corpora: nothing is left to train on in {corpus.source!r}: {int(out.sum())} of {len(out)} {noun} "
            f"come twice or are tested on (data.cleaning), {too_long} are too long, {int((~out & aside).sum())} are "
            f"held out{limited}."
        )
    census = take_census(part, num_problems=len(part.index) + too_long)
    return _Shares(part, _part(corpus, store, ~out & aside), census, sides)


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
        encoder: Turns problems, or pairs, into token ids.
        limits: What is too long, and what becomes of it.
        cache: Folder of caches; None encodes into a temporary one.

    Raises:
        InputError: If an example is too long and truncation is ``error``.
    """
    key = {
        "kind": "pair examples" if corpus.holds_pairs else "examples",
        "code": code_hash("encoding", "prompts", "answers"),
        "store": corpus.store.sha256,
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
    """Yield (number of the row, example) within the limits; say how far it has come every 50,000 rows."""
    number = 0
    encode = encoder.encode_pairs if corpus.holds_pairs else encoder.encode_all
    for rows in chunks(corpus.items, _CHUNK):
        for example in encode(rows):
            if (short := truncate(example, limits)) is not None:
                yield number, short
            number += 1
            if number % 50_000 == 0:
                noun = "pairs" if corpus.holds_pairs else "problems"
                rank_zero_info(f"{corpus.source}: {number:,} of {len(corpus.rows):,} {noun} encoded")
