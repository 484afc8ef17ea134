"""Decides which options of the data go together, before anything is read."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer

from lemma.corpora import CorpusArgs
from lemma.corpora.mixture import EPOCHS
from lemma.encoding import LAYOUTS, TrainingSet
from lemma.prompts import PromptArgs
from lemma.types import InputError


def check_options(
    *,
    batch_size: int,
    layout: str,
    row_length: int | None,
    group_by_length: bool | None,
    held_out_share: float,
    benchmark_batch_size: int,
    fit_problems: int | None,
    epoch: str,
) -> None:
    """Refuse options that cannot work; they are those of ``MathDataModule``.

    Raises:
        InputError: Names the key, the rule and the value.
    """
    _check(batch_size >= 1, "batch_size", "at least 1", batch_size)
    layouts = ("auto", *LAYOUTS)
    _check(layout in layouts, "layout", f"one of {', '.join(layouts)}", layout)
    _check(row_length is None or layout != "padded", "row_length", "null under layout padded", row_length)
    rule = f"false under layout {layout}"
    _check(not group_by_length or layout in ("auto", "padded"), "group_by_length", rule, group_by_length)
    _check(0 <= held_out_share < 1, "held_out_share", "a value in [0, 1)", held_out_share)
    _check(benchmark_batch_size >= 1, "benchmark_batch_size", "at least 1", benchmark_batch_size)
    _check(fit_problems is None or fit_problems >= 1, "fit_problems", "null or at least 1", fit_problems)
    _check(epoch in EPOCHS, "epoch", f"one of {', '.join(EPOCHS)}", epoch)


def check_corpora(training: Sequence[CorpusArgs], held_out: Sequence[CorpusArgs]) -> None:
    """Refuse corpora of which just some have a weight, and problems beside preference pairs.

    Args:
        training: To train on.
        held_out: For the held-out loss.

    Raises:
        InputError: Names the corpora.
    """
    unweighted = [_label(corpus) for corpus in training if corpus.weight is None]
    rule = "a weight in every corpus or in none"
    _check(len(unweighted) in (0, len(training)), "corpora", rule, f"none in {', '.join(unweighted)}")
    every = [(key, corpus) for key, group in (("corpora", training), ("held_out", held_out)) for corpus in group]
    pairs, problems = ([each for each in every if each[1].holds_pairs is holds] for holds in (True, False))
    if pairs and problems:
        named = [f"data.{key}: {_label(corpus)} ({corpus.name})" for key, corpus in (pairs[0], problems[0])]
        raise InputError(
            f"{named[0]} holds preference pairs, but {named[1]} holds problems; a run takes one or the other, for "
            "training and held out alike."
        )


def check_answer_format(corpora: Sequence[CorpusArgs], answer_format: str) -> None:
    """Refuse pairs whose answers are written otherwise than the prompt asks for.

    Args:
        corpora: To train on, and for the held-out loss.
        answer_format: The run's own.

    Raises:
        InputError: Names the corpus and the format it has.
    """
    own = PromptArgs().answer_format
    for corpus in corpora:
        if corpus.name == "gsm8k_solutions" and answer_format != own:
            raise InputError(
                f"data.prompt.answer_format: the answers of {_label(corpus)} (gsm8k_solutions) are written as {own}, "
                f"but the prompt would ask for {answer_format}; leave it at {own}."
            )


def check_trainable(training: TrainingSet | None, trainer: Trainer) -> None:
    """Refuse to train on nothing, and a sampler of Lightning's own in the place of ours.

    Raises:
        InputError: Says what to add or to switch off.
    """
    if training is None:
        raise InputError(
            "data.corpora: nothing to train on; add a corpus, e.g. --config configs/corpora/arithmetic.yaml."
        )
    if trainer.world_size > 1 and trainer._accelerator_connector.use_distributed_sampler:
        raise InputError("trainer.use_distributed_sampler: expected false; MathDataModule shards windows itself.")


def _label(corpus: CorpusArgs) -> str:
    return corpus.source or corpus.name


def _check(holds: bool, name: str, rule: str, value: Any) -> None:
    if not holds:
        raise InputError(f"data.{name}: expected {rule}, but got {value!r}.")
