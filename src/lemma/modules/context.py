"""Refuses data of the other noun, and what does not fit into the model's context, before any of it is computed."""

from collections.abc import Mapping, Sequence

from torch import nn

from lemma.encoding import ChatEncoder, Examples, TrainingSet, longest_example, sequence_lengths
from lemma.types import InputError, Problem


def context_length(causal_lm: nn.Module) -> int | None:
    """Return the positions that a transformers model was made for, or None if its configuration names no number."""
    return getattr(causal_lm.config.get_text_config(), "max_position_embeddings", None)


def check_noun(training: TrainingSet | None, *, pairs: bool, module: str) -> None:
    """Refuse preference pairs where solutions are trained on, and the other way round.

    Args:
        training: What is trained on, if anything.
        pairs: Whether the module trains on pairs.
        module: Name of its class.

    Raises:
        InputError: Says which module and which corpora go together.
    """
    if training is None or training.examples.holds_pairs == pairs:
        return
    names = ", ".join(sorted({part.source for part in training.examples.parts}))
    if pairs:
        raise InputError(
            f"model.class_path: {module} trains on preference pairs (preferences, graded, gsm8k_solutions), but "
            f"data.corpora ({names}) holds problems."
        )
    raise InputError(
        f"model.class_path: {module} trains on solutions, but data.corpora ({names}) holds preference pairs; train on "
        "them with lemma.modules.DPOModule."
    )


def check_examples(*groups: Examples, context: int | None) -> None:
    """Refuse training examples that are longer than the context.

    Args:
        *groups: Training and held-out examples.
        context: Positions of the model, or None for no limit.

    Raises:
        InputError: Names the longest example, its length and the flags that bound it.
    """
    longest = longest_example(*groups)
    if context is not None and longest is not None and max(sequence_lengths(longest)) > context:
        raise InputError(
            f"{longest.source}, problem {longest.problem_id}: {max(sequence_lengths(longest))} tokens do not fit into "
            f"the model's context of {context}. Lower --data.max_prompt_length or --data.max_completion_length."
        )


def check_benchmarks(
    benchmarks: Mapping[str, Sequence[Problem]], encoder: ChatEncoder, *, max_new_tokens: int, context: int | None
) -> None:
    """Refuse benchmark problems whose prompt and completion may outgrow the context.

    Args:
        benchmarks: Problems by source.
        encoder: Makes the prompts.
        max_new_tokens: Tokens of the longest completion.
        context: Positions of the model, or None for no limit.

    Raises:
        InputError: Names the problem with the longest prompt, the lengths and the flag.
    """
    problems = [problem for group in benchmarks.values() for problem in group]
    if context is None or not problems:
        return
    length, longest = max(((len(encoder.encode_prompt(p.problem)), p) for p in problems), key=lambda pair: pair[0])
    if length + max_new_tokens > context:
        raise InputError(
            f"{longest.source}, problem {longest.id}: a prompt of {length} tokens and {max_new_tokens} new ones do not "
            f"fit into the model's context of {context}. Lower --model.evaluation.sampling.max_new_tokens."
        )
