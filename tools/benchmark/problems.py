"""Decides which problems a workload works on, and makes their prompts or solutions as long as is asked for."""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lemma.corpora import CorpusArgs, load_corpus
from lemma.encoding import ChatEncoder, TokenizerArgs, load_tokenizer
from lemma.files import write_jsonl
from lemma.prompts import PromptArgs, render_completion, render_messages
from lemma.types import Problem

Lengthen = Callable[[Sequence[Problem], ChatEncoder, int], Iterator[Problem]]
"""``with_long_prompts`` or ``with_long_solutions``."""
NUM_GENERATED = 2000  # rows where none are given, or as many as the steps take


def problem_corpus(rows: str | None, num_generated: int) -> dict[str, Any]:
    """Return the corpus of a workload as it stands in a configuration: GSM8K, or arithmetic.

    Args:
        rows: GSM8K in its own format; None for arithmetic.
        num_generated: Problems of arithmetic, if that are more than it makes anyway.
    """
    if rows is not None:
        return {"name": "gsm8k", "path": str(Path(rows).resolve())}
    return {"name": "arithmetic", "max_rows": max(NUM_GENERATED, num_generated)}


def load_problems(corpus: dict[str, Any], *, seed: int) -> Sequence[Problem]:
    """Return the problems of ``problem_corpus``."""
    return load_corpus(CorpusArgs(**corpus), root=None, seed=seed).problems


def problem_texts(problems: Iterable[Problem]) -> Iterator[tuple[list[dict[str, str]], str]]:
    """Yield the (messages, completion) of each problem, for the tokenizer to be trained on."""
    prompt = PromptArgs()
    return ((render_messages(each.problem, prompt), render_completion(each, prompt)) for each in problems)


def mistaken(problem: Problem, rng: random.Random) -> Problem:
    """Return a generated problem with a solution whose last result is off by one or by ten."""
    steps, result = problem.solution[: -len(problem.answer)], str(int(problem.answer) + rng.choice((1, 10)))
    return replace(problem, solution=steps + result, answer=result)


def chat_encoder(base: Path) -> ChatEncoder:
    """Return the encoder of a base model under the default prompt."""
    return ChatEncoder(load_tokenizer(TokenizerArgs(str(base))), PromptArgs())


def write_problems(path: Path, problems: Iterable[Problem]) -> dict[str, Any]:
    """Write problems as rows of GSM8K, and return the corpus that they are."""
    rows = ({"question": each.problem, "answer": f"{each.solution}\n#### {each.answer}"} for each in problems)
    write_jsonl(path, rows)
    return {"name": "gsm8k", "path": str(path)}


def with_long_prompts(problems: Sequence[Problem], encoder: ChatEncoder, num_tokens: int) -> Iterator[Problem]:
    """Yield problems with as much of others, worked, before them as prompts take.

    Args:
        problems: In turn; those after a problem are its worked examples.
        encoder: Of prompts.
        num_tokens: Of each prompt.
    """
    for problem, others in _with_others(problems, encoder):
        missing = num_tokens - len(encoder.encode_prompt(problem.problem))
        yield replace(problem, problem=others(missing) + problem.problem)


def with_long_solutions(problems: Sequence[Problem], encoder: ChatEncoder, num_tokens: int) -> Iterator[Problem]:
    """Yield problems with as much of others, worked, before their solutions as sequences take.

    Args:
        problems: In turn, as for ``with_long_prompts``.
        encoder: Of prompts and completions.
        num_tokens: Of each sequence, prompt and completion.
    """
    for problem, others in _with_others(problems, encoder):
        example = encoder.encode(problem)
        missing = num_tokens - len(example.prompt_ids) - len(example.completions[0])
        yield replace(problem, solution=others(missing) + problem.solution)


def _with_others(problems: Sequence[Problem], encoder: ChatEncoder) -> Iterator[tuple[Problem, Callable[[int], str]]]:
    """Yield each problem with a function of a number of tokens that returns the text of those after it."""
    tokenizer = encoder.tokenizer
    worked = [f"{each.problem}\n{each.solution}\n\n" for each in problems]
    ids = tokenizer(worked, add_special_tokens=False)["input_ids"]
    for number, problem in enumerate(problems):

        def others(missing: int, number: int = number) -> str:
            stream = itertools.chain.from_iterable(itertools.islice(itertools.cycle(ids), number + 1, None))
            return tokenizer.decode(list(itertools.islice(stream, max(0, missing))))

        yield problem, others
