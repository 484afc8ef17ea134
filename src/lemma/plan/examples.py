"""Decides what is said of a run on examples that are there before it starts: problems with solutions, or pairs."""

from lemma.datamodule import MathDataModule
from lemma.plan.cluster import Cluster
from lemma.plan.steps import Steps, Work, run_text


def examples_work(cluster: Cluster, data: MathDataModule) -> Work:
    """Return what the optimiser steps compute; upper bounds where the data could not be read.

    Args:
        cluster: What the trainer's flags say.
        data: Set up, if that can be done.
    """
    lengths = _lengths(data)
    pairs = any(corpus.holds_pairs for corpus in data.corpora)
    upper_bound = data.limits.max_prompt_length + (1 + pairs) * data.limits.max_completion_length
    longest = max(lengths, default=upper_bound)
    steps = Steps(
        batch_size=data.batch_size,
        accumulate=cluster.accumulate,
        ranks=cluster.ranks,
        examples=len(lengths) or None,
        max_steps=cluster.max_steps,
        max_epochs=cluster.max_epochs,
    )
    mean = sum(lengths) / len(lengths) if lengths else None
    positions = data.arrangement.most_positions if data.arrangement is not None else data.batch_size * longest
    return Work(_text(steps, mean, longest, pairs=pairs), positions)


def _lengths(data: MathDataModule) -> list[int]:
    """Return the tokens of each example of the first epoch, a prompt once, or nothing if there is no data."""
    if data.training is None:
        return []
    return data.training.examples.shared_lengths[data.training.mixture.epoch_order(0)].tolist()


def _text(steps: Steps, mean: float | None, longest: int, *, pairs: bool) -> str:
    nouns, one = ("pairs", "a pair") if pairs else ("examples", "an example")
    lines = [
        f"An optimiser step sees {steps.window} {nouns}: batch_size {steps.batch_size} x accumulate "
        f"{steps.accumulate} x ranks {steps.ranks}."
    ]
    if mean is None:
        lines.append(f"At most {steps.window * longest:,} tokens a step ({longest:,} {one}).")
    else:
        lines.append(f"{round(steps.window * mean):,} tokens a step on average ({mean:.0f} {one}, {longest:,} most).")
    if steps.per_epoch is not None:
        lines.append(f"An epoch is {steps.examples:,} {nouns} in {steps.per_epoch:,} steps.")
    lines.append(run_text(steps.total, max_steps=steps.max_steps, max_epochs=steps.max_epochs))
    return "\n".join(lines)
