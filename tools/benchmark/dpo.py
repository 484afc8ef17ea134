"""Preference optimisation of an adapter: ``lemma fit`` with DPOModule against TRL's DPOTrainer, as it is fastest.

The reference is what the adapter is at the start. Both sides keep a frozen copy of it beside the one that is trained:
Lemma because an adapter is continued, TRL because it is given one (its adapter ``ref``). TRL pads every sequence of a
step to the longest, prompts twice: 1.16 has no other way (``padding_free`` falls back to padding). Nothing is
recomputed, offloaded or logged there.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.harness import Prepared, Unit, Workload
from benchmark.problems import NUM_GENERATED, mistaken
from benchmark.training import Objective, TrainingArgs, check_training, prepare_training
from lemma.corpora import CorpusArgs, arithmetic, load_corpus
from lemma.encoding import Example
from lemma.files import write_jsonl
from lemma.prompts import PromptArgs, render_completion, render_messages

_LOSS = {"loss_type": "sigmoid", "beta": 0.1}
_ADAPTER_SCALE = 0.02  # of what a new adapter has at 0, so that its frozen copy is another reference than the base


@dataclass(frozen=True)
class DPOBenchArgs(TrainingArgs):
    """Preference optimisation with LoRA: pairs per second and peak memory of Lemma and of TRL on the same work."""

    rows: str | None = None
    """OpenAI's example_model_solutions.jsonl; null is arithmetic that Lemma generates, right over wrong."""
    batch_size: int = 8
    """Pairs an optimiser step, at least 1."""
    precompute: bool = False
    """Compute the reference's log-probabilities before training, on both sides; that time is not measured."""


def prepare(args: DPOBenchArgs, folder: Path) -> Prepared:
    """Write what both sides read; see ``prepare_training``."""
    corpus = _corpus(args, folder)
    preferences = load_corpus(CorpusArgs(**corpus), root=None, seed=args.seed).preferences
    texts = (
        (render_messages(preference.prompt, PromptArgs()), completion)
        for preference in preferences
        for completion in (preference.chosen, preference.rejected)
    )
    return prepare_training(args, folder, _objective(args), lambda base: corpus, texts)


def generated_pairs(num_pairs: int, *, seed: int) -> Iterator[dict[str, str]]:
    """Yield arithmetic as rows of a preference file: a solution, and one whose last result is off by one or by ten.

    Args:
        num_pairs: How many.
        seed: Of problems and mistakes.
    """
    rng = random.Random(seed)
    for problem in arithmetic.generate("train", num_problems=num_pairs, seed=seed):
        chosen, rejected = (render_completion(each, PromptArgs()) for each in (problem, mistaken(problem, rng)))
        yield {"prompt": problem.problem, "chosen": chosen, "rejected": rejected}


def _corpus(args: DPOBenchArgs, folder: Path) -> dict[str, Any]:
    if args.rows is not None:
        return {"name": "gsm8k_solutions", "path": str(Path(args.rows).resolve())}
    path = folder / "pairs.jsonl"
    write_jsonl(path, generated_pairs(max(NUM_GENERATED, args.num_rows), seed=args.seed))
    return {"name": "preferences", "path": str(path)}


def _objective(args: DPOBenchArgs) -> Objective:
    reference = "precomputed" if args.precompute else "live"
    return Objective(
        module={"class_path": "lemma.modules.DPOModule", "init_args": _LOSS | {"reference": reference}},
        reference="benchmark.dpo_trl",
        row=_row,
        # As for sft, and the reference's forward 2. A prompt counts with each completion, as the work is asked for:
        # who computes it once needs fewer.
        flops_per_weight=4.0 if args.precompute else 6.0,
        job=_LOSS | {"precompute": args.precompute},
        adapter_scale=_ADAPTER_SCALE,
    )


def _row(example: Example) -> dict[str, list[int]]:
    chosen, rejected = example.completions
    return {"prompt_ids": example.prompt_ids, "chosen_ids": chosen, "rejected_ids": rejected}


WORKLOAD = Workload(DPOBenchArgs, prepare, check_training, {"pairs": Unit("num_examples"), "tokens": Unit("tokens")})
