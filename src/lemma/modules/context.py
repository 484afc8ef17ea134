"""Refuses data of the other noun, and what does not fit into the model's context, before any of it is computed."""

from collections.abc import Mapping, Sequence

from torch import nn

from lemma.corpora import CorpusArgs
from lemma.encoding import ChatEncoder, Examples, longest_example, sequence_lengths
from lemma.rollouts import Arm
from lemma.types import InputError, Problem


def context_length(causal_lm: nn.Module) -> int | None:
    """Return the positions that a transformers model was made for, or None if its configuration names no number."""
    return getattr(causal_lm.config.get_text_config(), "max_position_embeddings", None)


def check_noun(corpora: Sequence[CorpusArgs], *, pairs: bool, module: str) -> None:
    """Refuse preference pairs where problems are trained on, and the other way round.

    Args:
        corpora: To train on.
        pairs: Whether the module trains on pairs.
        module: Name of its class.

    Raises:
        InputError: Says which module and which corpora go together.
    """
    wrong = sorted({corpus.source or corpus.name for corpus in corpora if corpus.holds_pairs != pairs})
    if not wrong:
        return
    if pairs:
        raise InputError(
            f"model.class_path: {module} trains on preference pairs (preferences, graded, gsm8k_solutions), but "
            f"data.corpora ({', '.join(wrong)}) holds problems; train on them with lemma.modules.SFTModule."
        )
    raise InputError(
        f"model.class_path: {module} trains on problems, but data.corpora ({', '.join(wrong)}) holds preference pairs; "
        "train on them with lemma.modules.DPOModule."
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


def check_prompts(examples: Examples, *, max_new_tokens: int, context: int | None) -> None:
    """Refuse prompts whose rollouts may outgrow the context.

    Args:
        examples: Prompts to draw completions for.
        max_new_tokens: Tokens of the longest completion.
        context: Positions of the model, or None for no limit.

    Raises:
        InputError: Names the longest prompt, its length and the flag.
    """
    longest = longest_example(examples)
    if context is not None and longest is not None and len(longest.prompt_ids) + max_new_tokens > context:
        raise InputError(
            f"{longest.source}, problem {longest.problem_id}: a prompt of {len(longest.prompt_ids)} tokens and "
            f"{max_new_tokens} new ones do not fit into the model's context of {context}. Lower "
            "--model.sampling.max_new_tokens."
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


def check_arms_context(
    arms: Sequence[Arm], problems: Sequence[Problem], *, max_new_tokens: int, context: int | None
) -> None:
    """Refuse problems whose prompt by some arm, and its completion, may outgrow the context.

    Args:
        arms: Each makes prompts its own way.
        problems: The longest ones.
        max_new_tokens: Tokens of the longest completion.
        context: Positions of the model, or None for no limit.

    Raises:
        InputError: Names the problem with the longest prompt, the arm and the flag.
    """
    for arm in arms if context is not None else ():
        prompts = arm.encoder.encode_prompts([problem.problem for problem in problems])
        length, number = max((len(ids), number) for number, ids in enumerate(prompts))
        if length + max_new_tokens > context:
            raise InputError(
                f"{problems[number].source}, problem {problems[number].id}: a prompt of {length} tokens by the arm "
                f"{arm.args.name} and {max_new_tokens} new ones do not fit into the model's context of {context}. "
                "Lower --model.max_new_tokens, or give the arm fewer shots."
            )
