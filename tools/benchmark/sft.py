"""Supervised fine-tuning of an adapter: ``lemma fit`` against TRL's SFTTrainer, unpacked, as it is fastest on a CPU."""

from dataclasses import dataclass
from pathlib import Path

from benchmark.harness import Prepared, Workload
from benchmark.training import Objective, TrainingArgs, check_training, prepare_training
from lemma.corpora import CorpusArgs, load_corpus
from lemma.encoding import Example
from lemma.prompts import PromptArgs, render_completion, render_messages


@dataclass(frozen=True)
class SFTBenchArgs(TrainingArgs):
    """Supervised fine-tuning with LoRA: tokens per second and peak memory of Lemma and of TRL on the same work."""

    rows: str | None = None
    """GSM8K in its own format, such as train.jsonl; null is the arithmetic that Lemma generates."""


def prepare(args: SFTBenchArgs, folder: Path) -> Prepared:
    """Write what both sides read; see ``prepare_training``."""
    corpus = {"name": "arithmetic", "max_rows": args.num_generated}
    if args.rows is not None:
        corpus = {"name": "gsm8k", "path": str(Path(args.rows).resolve())}
    prompt = PromptArgs()
    texts = (
        (render_messages(problem.problem, prompt), render_completion(problem, prompt))
        for problem in load_corpus(CorpusArgs(**corpus), root=None, seed=args.seed).problems
    )
    return prepare_training(args, folder, _OBJECTIVE, corpus, texts)


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
