"""What the workloads share that train an adapter: both sides get the same rows, in the order that Lemma trains on.

Lemma decides the order and the token ids of the rows; the reference is given exactly those.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmark.base import MAX_LENGTH, BaseArgs, make_adapter, make_base
from benchmark.harness import Prepared, Run
from benchmark.options import BenchArgs, expect
from benchmark.work import check_adapters, check_steps
from lemma.corpora import CorpusArgs, load_corpus
from lemma.datamodule import MathDataModule
from lemma.encoding import Example, TokenizerArgs
from lemma.files import write_jsonl, write_text
from lemma.prompts import PromptArgs, render_completion, render_messages
from lemma.types import InputError, Problem

_NUM_GENERATED = 2000  # rows where none are given, or as many as the steps take
_CLIP = 1.0


@dataclass(frozen=True)
class TrainingArgs(BenchArgs, BaseArgs):
    """What a workload asks for that trains an adapter."""

    rows: str | None = None
    """File of the rows; null is what Lemma generates."""
    batch_size: int = 8
    """Rows an optimiser step, at least 1."""
    learning_rate: float = 2e-4
    """Of AdamW, constant, above 0."""
    layout: str | None = None
    """Lemma's --data.layout; null is its default."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names option, rule and value.
        """
        BaseArgs.__post_init__(self)
        BenchArgs.__post_init__(self)
        expect(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        expect(self.learning_rate > 0, "learning_rate", "more than 0", self.learning_rate)

    @property
    def num_steps(self) -> int:
        """Return the optimiser steps of a run."""
        return self.warmup + self.steps

    @property
    def num_rows(self) -> int:
        """Return the rows that a run takes."""
        return self.num_steps * self.batch_size

    @property
    def num_generated(self) -> int:
        """Return the rows to generate where none are given."""
        return max(_NUM_GENERATED, self.num_rows)


@dataclass(frozen=True)
class Objective:
    """What an adapter is trained for.

    Attributes:
        module: Lemma's, without policy and optimiser, as it stands in a configuration.
        reference: Name of the Python module that is the other side.
        row: Example → the ids that the other side is given.
        flops_per_weight: For a token of a sequence, all passes together.
        job: What the other side has to know besides.
        adapter_scale: Standard deviation of the weights that a new adapter leaves at 0.
        endless: Whether no completion that is drawn ends before the length limit.
        recorder: Callback of Lemma's side.
    """

    module: dict[str, Any]
    reference: str
    row: Callable[[Example], dict[str, list[int]]]
    flops_per_weight: float
    job: dict[str, Any]
    adapter_scale: float = 0.0
    endless: bool = False
    recorder: str = "Recorder"


def problem_corpus(args: TrainingArgs) -> dict[str, Any]:
    """Return the corpus of a workload on problems, as it stands in a configuration: GSM8K, or arithmetic."""
    if args.rows is not None:
        return {"name": "gsm8k", "path": str(Path(args.rows).resolve())}
    return {"name": "arithmetic", "max_rows": args.num_generated}


def load_problems(args: TrainingArgs) -> Sequence[Problem]:
    """Return the problems of ``problem_corpus``."""
    return load_corpus(CorpusArgs(**problem_corpus(args)), root=None, seed=args.seed).problems


def problem_texts(problems: Iterable[Problem]) -> Iterator[tuple[list[dict[str, str]], str]]:
    """Yield the (messages, completion) of each problem, for the tokenizer to be trained on."""
    prompt = PromptArgs()
    return ((render_messages(each.problem, prompt), render_completion(each, prompt)) for each in problems)


def prepare_training(
    args: TrainingArgs,
    folder: Path,
    objective: Objective,
    corpus: Callable[[Path], dict[str, Any]],
    texts: Iterable[tuple[list[dict[str, str]], str]],
) -> Prepared:
    """Write base, adapter, rows, and the configuration of either side.

    Args:
        args: The options.
        folder: Where to.
        objective: What the adapter is trained for.
        corpus: Folder of the base → the rows, as they stand in a configuration.
        texts: (messages, completion) that the tokenizer is trained on.

    Raises:
        InputError: If the rows cannot be read or do not suffice.
    """
    base, adapter, rows = folder / "base", folder / "adapter", folder / "rows.jsonl"
    num_parameters = make_base(args, texts, base, seed=args.seed, endless=objective.endless)
    corpora = [corpus(base)]
    make_adapter(args, base, adapter, seed=args.seed, scale=objective.adapter_scale)
    data = {
        "batch_size": args.batch_size,
        "max_prompt_length": MAX_LENGTH // 2,
        "max_completion_length": MAX_LENGTH // 2,
        "held_out_share": 0.0,
        "cache_dir": str(folder / "cache"),
    }
    examples = _in_order(
        args, MathDataModule(TokenizerArgs(str(base)), [CorpusArgs(**corpora[0])], seed=args.seed, **data)
    )
    write_jsonl(rows, map(objective.row, examples))
    config = _lemma_config(args, objective, base, adapter, data | {"corpora": corpora})
    write_text(folder / "lemma.yaml", yaml.safe_dump(config))
    options = ("batch_size", "num_steps", "learning_rate", "device", "precision", "seed")
    job = {"base": str(base), "adapter": str(adapter), "rows": str(rows), "clip": _CLIP} | objective.job
    write_text(folder / "job.json", json.dumps(job | {name: getattr(args, name) for name in options}))
    return Prepared(
        lemma=lambda run: lemma_command(folder, run),
        reference=lambda run, python: [python, "-m", objective.reference, str(folder / "job.json"), str(run)],
        flops_per_token=objective.flops_per_weight * num_parameters,
        facts={"parameters_without_input_embedding": num_parameters},
    )


def lemma_command(folder: Path, run: Path, *flags: str) -> list[str]:
    """Return the command of Lemma's side.

    Args:
        folder: Where ``prepare_training`` wrote.
        run: Folder of the run.
        *flags: Of ``lemma fit``, besides.
    """
    fit = [sys.executable, "-m", "lemma", "fit", "--config", str(folder / "lemma.yaml")]
    return [*fit, "--trainer.default_root_dir", str(run), *flags]


def check_training(args: TrainingArgs, folder: Path, lemma: Run, reference: Run) -> dict[str, float]:
    """Return how far a repeat's two runs are apart.

    Raises:
        InputError: If they did not do the same work; says which step, and the numbers.
    """
    loss = check_steps(lemma.record, reference.record, precision=args.precision)
    return {"loss_relative_difference": loss} | check_update(args, folder, lemma, reference)


def check_update(args: TrainingArgs, folder: Path, lemma: Run, reference: Run) -> dict[str, float]:
    """Return how far two runs' adapters are apart.

    Raises:
        InputError: If rounding does not explain it.
    """
    folders = (folder / "adapter", lemma.folder / "adapter", reference.folder / "adapter")
    adapter = check_adapters(*folders, precision=args.precision)
    return {f"adapter_{name}": value for name, value in adapter.items()}


def _in_order(args: TrainingArgs, data: MathDataModule) -> list[Example]:
    """Return the examples that Lemma will train on, in its order."""
    data.setup("validate")
    order = data.training.mixture.epoch_order(0)
    if args.num_rows > len(order):
        raise InputError(
            f"--steps: warmup + steps = {args.num_steps} steps take {args.num_rows} rows, but there are {len(order)}."
        )
    return [data.training.examples[i] for i in order[: args.num_rows]]


def _lemma_config(
    args: TrainingArgs, objective: Objective, base: Path, adapter: Path, data: dict[str, Any]
) -> dict[str, Any]:
    start = {
        "policy": {"base": str(base), "adapter": str(adapter)},
        "optimizer": {"lr": args.learning_rate, "schedule": "constant"},
    }
    return {
        "seed_everything": args.seed,
        "trainer": {
            "accelerator": "gpu" if args.device == "cuda" else "cpu",
            "devices": 1,
            "precision": args.precision,
            "max_steps": args.num_steps,
            "gradient_clip_val": _CLIP,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [{"class_path": f"benchmark.lemma_side.{objective.recorder}"}],
        },
        "checkpoint": {"save_top_k": 0},
        "last_checkpoint": {"every_n_steps": args.num_steps},
        "model": objective.module | {"init_args": objective.module.get("init_args", {}) | start},
        "data": data if args.layout is None else data | {"layout": args.layout},
    }
