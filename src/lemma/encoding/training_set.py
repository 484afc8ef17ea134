"""From corpora to what is trained on and what is held out: overlaps out, split, encode, truncate, census."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lemma.corpora import Corpus, Mixture, exact_overlaps, held_out, identity, problem_key
from lemma.encoding.chat import ChatEncoder, Example
from lemma.encoding.truncation import Census, Limits, census_table, truncate_all
from lemma.types import InputError, Problem


@dataclass(frozen=True)
class TrainingSet:
    """Encoded training data.

    Attributes:
        examples: All training examples, corpus after corpus.
        mixture: Orders them in each epoch.
        held_out: Examples that are never trained on.
        report: What a person should read before training: the census, and a decoded example of each corpus.
    """

    examples: list[Example]
    mixture: Mixture
    held_out: list[Example]
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
    dropped: set[str],
    *,
    encoder: ChatEncoder,
    limits: Limits,
    hold_out: HoldOut,
    seed: int,
) -> TrainingSet:
    """Encode the training corpora.

    Args:
        corpora: To train on; with or without mixture weights.
        held: For the held-out loss alone.
        dropped: Keys of problems that must not be trained on.
        encoder: Turns problems into token ids.
        limits: Longest prompt and completion.
        hold_out: Which training problems are kept back.
        seed: Of the mixture and of the choice among the kept back.

    Raises:
        InputError: If nothing is left of a corpus, or an example is too long and truncation is ``error``.
    """
    examples, kept_back, sizes, censuses = [], [], [], []
    for corpus in corpora:
        problems = [p for p in corpus.problems if problem_key(identity(p)) not in dropped]
        sides = {True: [], False: []}
        for problem in problems:
            sides[held_out(identity(problem), hold_out.share)].append(problem)
        train, counts = _encode(sides[False], corpus, encoder, limits)
        if not train:
            raise InputError(f"data.corpora: nothing is left to train on in {corpus.source!r}: {counts}.")
        kept_back += _encode(sides[True], corpus, encoder, limits)[0]
        examples += train
        sizes.append(len(train))
        censuses.append((corpus.source, counts))
    picked = np.random.default_rng(seed).permutation(len(kept_back))[: hold_out.max_examples]
    out = [kept_back[i] for i in picked]
    for corpus in held:
        out += _encode(corpus.problems, corpus, encoder, limits)[0]
    mixture = Mixture(sizes, [corpus.args.weight for corpus in corpora], seed)
    report = [f"Training data, beside {len(out)} held-out examples", census_table(censuses, mixture.counts)]
    for corpus, first in zip(corpora, np.cumsum([0, *sizes[:-1]]), strict=True):
        report.append(f"An example of {corpus.source}, the tokens that count in the loss between « and »:")
        report.append(encoder.describe(examples[first]))
    return TrainingSet(examples, mixture, out, "\n".join(report))


def find_overlaps(
    corpora: Iterable[Corpus], tested: Iterable[Problem], *, on_overlap: str
) -> list[tuple[Problem, Problem]]:
    """Return the pairs of a training problem and the same problem among those that measure it.

    Args:
        corpora: To train on.
        tested: Benchmark and held-out problems.
        on_overlap: ``error`` or ``drop``.

    Raises:
        InputError: If there is a pair and ``on_overlap`` is ``error``.
    """
    overlaps = exact_overlaps((problem for corpus in corpora for problem in corpus.problems), tested)
    if overlaps and on_overlap == "error":
        mine, theirs = overlaps[0]
        raise InputError(
            f"{len(overlaps)} training problems are also benchmark or held-out problems, first {mine.source} {mine.id} "
            f"= {theirs.source} {theirs.id}: {mine.problem[:80]!r}. Remove them, or set --data.on_overlap drop."
        )
    return overlaps


def _encode(
    problems: Iterable[Problem], corpus: Corpus, encoder: ChatEncoder, limits: Limits
) -> tuple[list[Example], Census]:
    weight = corpus.args.loss_weight
    return truncate_all((encoder.encode(problem, weight=weight) for problem in problems), limits)
