"""Completions of groups: what GRPO draws with in Lemma against ``model.generate`` of transformers, as it is fastest.

Transformers is a dependency of Lemma, so the reference runs in Lemma's own environment, in a process of its own. It
has the adapter merged for good before the clock starts, all rows in one left-padded batch and a cache; Lemma merges
and unmerges in every step, as training does. The stop token is one that the model cannot draw, so every completion is
as long as it may be. What is drawn differs, for each side has random numbers of its own; so both decode the first
step's prompts greedily besides, unmeasured and in float32, and have to write the same tokens.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.base import MAX_LENGTH, BaseArgs, make_adapter, make_base
from benchmark.harness import Prepared, Run, Unit, Workload
from benchmark.options import expect
from benchmark.problems import chat_encoder, load_problems, problem_corpus, problem_texts, with_long_prompts
from benchmark.work import check_counts, check_greedy, expect_completions
from lemma.files import write_text
from lemma.types import InputError

_ADAPTER_SCALE = 0.02  # of what a new adapter has at 0, so that a side without it writes something else


@dataclass(frozen=True)
class GenerateBenchArgs(BaseArgs):
    """Drawing groups of completions: completions per second and peak memory of Lemma and of transformers."""

    against: Literal["hf", "none"] = "hf"
    """The reference, transformers' generate; none runs Lemma alone."""
    rows: str | None = None
    """GSM8K in its own format, such as train.jsonl; null is the arithmetic that Lemma generates."""
    steps: int = 5
    """Calls that are measured, at least 1, each for prompts of its own."""
    warmup: int = 1
    """Calls before those, compared but not measured, at least 1."""
    prompts: int = 4
    """Prompts of a call, at least 1."""
    group_size: int = 8
    """Completions of a prompt, at least 1."""
    prompt_tokens: int = 500
    """Tokens of every prompt, give or take a few, 1 to 8192, by worked examples before the problem, which is asked
    whole in any case."""
    new_tokens: int = 128
    """Tokens of every completion, 1 to 8192."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names option, rule and value.
        """
        super().__post_init__()
        self.expect_at_least(prompts=1, group_size=1)
        for name in ("prompt_tokens", "new_tokens"):
            value = getattr(self, name)
            expect(1 <= value <= MAX_LENGTH // 2, name, f"1 to {MAX_LENGTH // 2}", value)


def prepare(args: GenerateBenchArgs, folder: Path) -> Prepared:
    """Write base, adapter and prompts.

    Raises:
        InputError: If the rows cannot be read or do not suffice.
    """
    base, adapter, num_prompts = folder / "base", folder / "adapter", args.num_steps * args.prompts
    problems = load_problems(problem_corpus(args.rows, num_prompts), seed=args.seed)
    if num_prompts > len(problems):
        raise InputError(
            f"--steps: warmup + steps = {args.num_steps} calls take {num_prompts} prompts, but there are "
            f"{len(problems)} rows."
        )
    num_parameters = make_base(args, problem_texts(problems), base, seed=args.seed, endless=True)
    make_adapter(args, base, adapter, seed=args.seed, scale=_ADAPTER_SCALE)
    encoder = chat_encoder(base)
    long = with_long_prompts(problems[:num_prompts], encoder, args.prompt_tokens)
    ids = encoder.encode_prompts([problem.problem for problem in long])
    options = ("group_size", "new_tokens", "device", "precision", "seed")
    job = {
        "base": str(base),
        "adapter": str(adapter),
        "prompts": [ids[begin : begin + args.prompts] for begin in range(0, num_prompts, args.prompts)],
        "pad_id": encoder.pad_id,
        "stop_ids": encoder.stop_ids,
    }
    write_text(folder / "job.json", json.dumps(job | {name: getattr(args, name) for name in options}))
    return Prepared.of_modules(
        "generate_lemma",
        "generate_hf",
        folder / "job.json",
        facts={"parameters_without_input_embedding": num_parameters},
        flops_per_token=2.0 * num_parameters,  # a prompt counts with each completion, as the work is asked for
    )


def check(args: GenerateBenchArgs, folder: Path, lemma: Run, reference: Run) -> dict[str, float]:
    """Return how many greedy tokens both sides wrote alike.

    Raises:
        InputError: If a side drew fewer tokens or for other prompts, or a greedy token differs.
    """
    for side, run in (("Lemma", lemma), ("the reference", reference)):
        expect_completions(side, run.record, number=args.prompts * args.group_size, length=args.new_tokens)
    check_counts(lemma.record, reference.record, same="prompts")
    tokens = check_greedy(lemma.record, reference.record, number=args.prompts, length=args.new_tokens)
    return {"equal_greedy_tokens": tokens}


WORKLOAD = Workload(GenerateBenchArgs, prepare, check, {"completions": Unit("num_examples"), "tokens": Unit("tokens")})
