"""Reinforcement learning of an adapter: ``lemma fit`` with GRPOModule against TRL's GRPOTrainer, as it is fastest.

Every step draws completions for some prompts and trains on them once. The stop token is one that the model cannot draw,
so every completion is as long as it may be. What is drawn differs, for each side has random numbers of its own; so
Lemma is trained on TRL's completions besides, unmeasured, and has to arrive at TRL's adapter.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmark.base import MAX_LENGTH
from benchmark.harness import Prepared, Run, Unit, Workload, read_run, run_process
from benchmark.options import expect
from benchmark.problems import with_long_prompts
from benchmark.training import Objective, TrainingArgs, check_update, lemma_command, prepare_problems
from benchmark.work import check_counts, expect_completions
from lemma.encoding import Example
from lemma.files import write_text


@dataclass(frozen=True)
class GRPOBenchArgs(TrainingArgs):
    """Reinforcement learning with LoRA: completions per second and peak memory of Lemma and of TRL on the same work."""

    rows: str | None = None
    """GSM8K in its own format, such as train.jsonl; null is the arithmetic that Lemma generates."""
    steps: int = 8
    """Optimiser steps that are measured, at least 1; each has a rollout of its own."""
    warmup: int = 2
    """Optimiser steps before those, compared but not measured, at least 1."""
    batch_size: int = 32
    """Completions an optimiser step, a multiple of group_size."""
    group_size: int = 8
    """Completions a prompt, at least 2."""
    new_tokens: int = 128
    """Tokens of every completion, 1 to 8192."""
    prompt_tokens: int | None = None
    """Tokens of every prompt, give or take a few, up to 8192, by worked examples before the problem, which is asked
    whole in any case; null is the problem alone."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names option, rule and value.
        """
        super().__post_init__()
        self.expect_at_least(group_size=2)
        fits = self.batch_size % self.group_size == 0
        expect(fits, "batch_size", f"a multiple of group_size {self.group_size}", self.batch_size)
        expect(1 <= self.new_tokens <= MAX_LENGTH // 2, "new_tokens", f"1 to {MAX_LENGTH // 2}", self.new_tokens)
        short = self.prompt_tokens is None or 1 <= self.prompt_tokens <= MAX_LENGTH // 2
        expect(short, "prompt_tokens", f"null or 1 to {MAX_LENGTH // 2}", self.prompt_tokens)

    @property
    def num_rows(self) -> int:
        """Return the rows that a run takes: a prompt for each group."""
        return self.num_steps * self.batch_size // self.group_size


def prepare(args: GRPOBenchArgs, folder: Path) -> Prepared:
    """Write what both sides read; see ``prepare_problems``."""
    return prepare_problems(args, folder, _objective(args), with_long_prompts, args.prompt_tokens)


def check(args: GRPOBenchArgs, folder: Path, lemma: Run, reference: Run) -> dict[str, float]:
    """Return how far Lemma is from the reference after a run on the reference's completions.

    Raises:
        InputError: If the sides did not draw as many tokens for the same prompts, or the reference's completions did
            not teach both the same.
    """
    for side, run in (("Lemma", lemma), ("the reference", reference)):
        expect_completions(side, run.record, number=args.batch_size, length=args.new_tokens)
    check_counts(lemma.record, reference.record, same="prompts")
    run, config = lemma.folder.with_name(f"{lemma.folder.name}-replay"), folder / "replay.yaml"
    replay = {
        "class_path": "benchmark.grpo_replay.Replay",
        "init_args": {"path": str(reference.folder / "rollouts.jsonl")},
    }
    write_text(config, yaml.safe_dump({"trainer": {"callbacks+": [replay]}}))
    run_process(lemma_command(folder, run, ["--config", str(config)]), args)
    replayed = read_run(run)
    check_counts(replayed.record, reference.record, same="examples")
    return check_update(args, folder, replayed, reference)  # on-policy both losses are 0; the adapters tell


def _objective(args: GRPOBenchArgs) -> Objective:
    module = {
        "group_size": args.group_size,
        "problems_per_rollout": args.batch_size // args.group_size,
        "rewards": [{"name": "benchmark.grpo_reward.letters"}],
        "sampling": {
            "temperature": 1.0,
            "max_new_tokens": args.new_tokens,
            "max_batch_tokens": args.batch_size * MAX_LENGTH,  # all at once, as TRL does
        },
    }
    return Objective(
        module={"class_path": "lemma.modules.GRPOModule", "init_args": module},
        reference="benchmark.grpo_trl",
        row=_row,
        flops_per_weight=6.0,  # forward 2 to draw, forward 2, backward 2; a prompt counts with each completion
        job={"group_size": args.group_size, "new_tokens": args.new_tokens},
        endless=True,
        recorder="RolloutRecorder",
    )


def _row(example: Example) -> dict[str, list[int]]:
    return {"prompt": example.prompt_ids}


WORKLOAD = Workload(GRPOBenchArgs, prepare, check, {"completions": Unit("num_examples"), "tokens": Unit("tokens")})
