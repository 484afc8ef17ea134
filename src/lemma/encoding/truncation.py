"""Decides what happens to examples that are too long, and counts it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tabulate import tabulate

from lemma.encoding.chat import Example
from lemma.types import InputError

POLICIES = ("error", "drop", "keep_start")


@dataclass(frozen=True)
class Limits:
    """Longest prompt and completion, in tokens, and what to do beyond.

    Attributes:
        max_prompt_length: Tokens of the rendered chat, the generation prompt included.
        max_completion_length: Tokens of a completion, the stop token included.
        truncation: ``error`` refuses the data, ``drop`` leaves the example out, ``keep_start`` cuts the completion
            (and then the example has no stop token and no answer); a prompt that is too long is dropped, for a problem
            without its end is another problem, and so is a pair whose sides differ in nothing that is left.
    """

    max_prompt_length: int
    max_completion_length: int
    truncation: str

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            InputError: If a length is below 1 or the policy is unknown.
        """
        for name in ("max_prompt_length", "max_completion_length"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"data.{name}: expected at least 1, but got {value}.")
        if self.truncation not in POLICIES:
            raise InputError(f"data.truncation: expected one of {', '.join(POLICIES)}, but got {self.truncation!r}.")


def truncate(example: Example, limits: Limits) -> Example | None:
    """Return the example within the limits, or None if it is to be dropped.

    Raises:
        InputError: If it is too long and the policy is ``error``; names the example, the lengths and the flags.
    """
    prompt_length, longest = len(example.prompt_ids), max(map(len, example.completions))
    if prompt_length <= limits.max_prompt_length and longest <= limits.max_completion_length:
        return example
    if limits.truncation == "error":
        noun = "pair" if example.is_pair else "problem"
        raise InputError(
            f"{example.source}, {noun} {example.problem_id}: prompt of {prompt_length} and completion of {longest} "
            f"tokens, but max_prompt_length is {limits.max_prompt_length} and max_completion_length is "
            f"{limits.max_completion_length}. Raise them, or choose --data.truncation drop or keep_start."
        )
    if limits.truncation == "drop" or prompt_length > limits.max_prompt_length:
        return None
    cut = [ids[: limits.max_completion_length] for ids in example.completions]
    if example.is_pair and cut[0] == cut[1]:
        return None
    return replace(example, completions=cut, answer_cut=True)


@dataclass
class Census:
    """Counts of one corpus: rows, tokens, and what truncation did.

    Attributes:
        rows: Examples that remain.
        prompt_tokens: Prompt tokens in them.
        completion_tokens: Completion tokens in them, the ones that are trained on; of pairs those of both sides.
        longest: Tokens of the longest example.
        dropped: Examples left out because they were too long.
        answer_cut: Examples whose completion lost its end.
    """

    rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    longest: int = 0
    dropped: int = 0
    answer_cut: int = 0


def census_table(censuses: Sequence[tuple[str, Census]], per_epoch: Sequence[int], *, noun: str = "rows") -> str:
    """Return a table: examples, those used in an epoch, tokens, the share that is too long, what became of it.

    Args:
        censuses: Source and counts of each corpus.
        per_epoch: Examples of each corpus in one epoch of the mixture.
        noun: What an example is: ``rows``, ``pairs`` or ``prompts``, whose completions are yet to be drawn.
    """
    headers = [
        "corpus",
        noun,
        "per epoch",
        "share",
        "prompt tokens",
        "completion tokens",
        "longest",
        "too long",
        "dropped",
        "answer cut",
    ]
    rows = []
    for (source, counts), used in zip(censuses, per_epoch, strict=True):
        total = counts.rows + counts.dropped
        too_long = counts.dropped + counts.answer_cut
        shares = [f"{count / total:.1%}" for count in (too_long, counts.dropped, counts.answer_cut)]
        tokens = [counts.prompt_tokens, counts.completion_tokens, counts.longest]
        rows.append([source, counts.rows, used, f"{used / sum(per_epoch):.1%}", *tokens, *shares])
    of_completions = {"completion tokens", "answer cut"} if noun == "prompts" else set()
    shown = [number for number, header in enumerate(headers) if header not in of_completions]
    return tabulate([[row[number] for number in shown] for row in rows], [headers[number] for number in shown])
