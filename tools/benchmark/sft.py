"""Supervised fine-tuning of an adapter: ``lemma fit`` against TRL's SFTTrainer, unpacked, as it is fastest on a CPU."""

from dataclasses import dataclass
from pathlib import Path

from benchmark.harness import Prepared, Workload
from benchmark.training import (
    Objective,
    TrainingArgs,
    check_training,
    load_problems,
    prepare_training,
    problem_corpus,
    problem_texts,
)
from lemma.encoding import Example


@dataclass(frozen=True)
class SFTBenchArgs(TrainingArgs):
    """Supervised fine-tuning with LoRA: tokens per second and peak memory of Lemma and of TRL on the same work."""

    rows: str | None = None
    """GSM8K in its own format, such as train.jsonl; null is the arithmetic that Lemma generates."""


def prepare(args: SFTBenchArgs, folder: Path) -> Prepared:
    """Write what both sides read; see ``prepare_training``."""
    texts = problem_texts(load_problems(args))
    return prepare_training(args, folder, _OBJECTIVE, lambda base: problem_corpus(args), texts)


def _row(example: Example) -> dict[str, list[int]]:
    return {"prompt": example.prompt_ids, "completion": example.completions[0]}


_OBJECTIVE = Objective(
    module={"class_path": "lemma.modules.SFTModule"},
    reference="benchmark.sft_trl",
    row=_row,
    flops_per_weight=4.0,  # forward 2, backward 2: nothing to compute for frozen weights
    job={},
)

WORKLOAD = Workload(SFTBenchArgs, prepare, check_training, {"tokens": lambda record: record["tokens"]})
