"""Supervised fine-tuning of an adapter: ``lemma fit`` against TRL's SFTTrainer, unpacked, as it is fastest on a CPU.

Lemma decides the order and the token ids of the rows; the reference is given exactly those.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmark.base import MAX_LENGTH, BaseArgs, make_adapter, make_base
from benchmark.harness import Prepared, Run, Workload
from benchmark.options import BenchArgs, expect
from benchmark.work import check_adapters, check_steps
from lemma.corpora import CorpusArgs, load_corpus
from lemma.datamodule import MathDataModule
from lemma.encoding import Example, TokenizerArgs
from lemma.files import write_jsonl, write_text
from lemma.types import InputError

_NUM_GENERATED = 2000  # problems where no rows are given, or as many as the steps take
_CLIP = 1.0


@dataclass(frozen=True)
class SFTBenchArgs(BenchArgs, BaseArgs):
    """Supervised fine-tuning with LoRA: tokens per second and peak memory of Lemma and of TRL on the same work."""

    rows: str | None = None
    """GSM8K in its own format, such as train.jsonl; null is the arithmetic that Lemma generates."""
    batch_size: int = 8
    """Sequences an optimiser step, at least 1."""
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


def prepare(args: SFTBenchArgs, folder: Path) -> Prepared:
    """Write base, adapter, rows, and the configuration of either side.

    Args:
        args: The options.
        folder: Where to.

    Raises:
        InputError: If the rows cannot be read or do not suffice.
    """
    base, adapter, rows = folder / "base", folder / "adapter", folder / "rows.jsonl"
    corpus = _corpus(args)
    problems = load_corpus(CorpusArgs(**corpus), root=None, seed=args.seed).problems
    num_parameters = make_base(args, problems, base, seed=args.seed)
    make_adapter(args, base, adapter, seed=args.seed)
    data = {
        "batch_size": args.batch_size,
        "max_prompt_length": MAX_LENGTH // 2,
        "max_completion_length": MAX_LENGTH // 2,
        "held_out_share": 0.0,
    }
    examples = _in_order(args, MathDataModule(TokenizerArgs(str(base)), [CorpusArgs(**corpus)], seed=args.seed, **data))
    write_jsonl(rows, ({"prompt": e.prompt_ids, "completion": e.completions[0]} for e in examples))
    config = _lemma_config(args, base, adapter, data | {"corpora": [corpus]})
    write_text(folder / "lemma.yaml", yaml.safe_dump(config))
    options = ("batch_size", "num_steps", "learning_rate", "device", "precision", "seed")
    job = {"base": str(base), "adapter": str(adapter), "rows": str(rows), "clip": _CLIP}
    write_text(folder / "job.json", json.dumps(job | {name: getattr(args, name) for name in options}))
    lemma = [sys.executable, "-m", "lemma", "fit", "--config", str(folder / "lemma.yaml"), "--trainer.default_root_dir"]
    return Prepared(
        lemma=lambda run: [*lemma, str(run)],
        reference=lambda run, python: [python, "-m", "benchmark.sft_trl", str(folder / "job.json"), str(run)],
        flops_per_token=4.0 * num_parameters,  # forward 2, backward 2: nothing to compute for frozen weights
        facts={"parameters_without_input_embedding": num_parameters},
    )


def check(args: SFTBenchArgs, folder: Path, lemma: Run, reference: Run) -> dict[str, float]:
    """Return how far a repeat's two runs are apart.

    Raises:
        InputError: If they did not do the same work; says which step, and the numbers.
    """
    loss = check_steps(lemma.record, reference.record, precision=args.precision)
    folders = (folder / "adapter", lemma.folder / "adapter", reference.folder / "adapter")
    adapter = check_adapters(*folders, precision=args.precision)
    return {"loss_relative_difference": loss} | {f"adapter_{name}": value for name, value in adapter.items()}


WORKLOAD = Workload(SFTBenchArgs, prepare, check)


def _corpus(args: SFTBenchArgs) -> dict[str, Any]:
    if args.rows is not None:
        return {"name": "gsm8k", "path": str(Path(args.rows).resolve())}
    return {"name": "arithmetic", "max_rows": max(_NUM_GENERATED, args.num_steps * args.batch_size)}


def _in_order(args: SFTBenchArgs, data: MathDataModule) -> list[Example]:
    """Return the examples that Lemma will train on, in its order."""
    data.setup("validate")
    order = data.training.mixture.epoch_order(0)
    needed = args.num_steps * args.batch_size
    if needed > len(order):
        raise InputError(
            f"--steps: warmup + steps = {args.num_steps} steps of {args.batch_size} take {needed} rows, but there are "
            f"{len(order)}."
        )
    return [data.training.examples[i] for i in order[:needed]]


def _lemma_config(args: SFTBenchArgs, base: Path, adapter: Path, data: dict[str, Any]) -> dict[str, Any]:
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
            "callbacks": [{"class_path": "benchmark.sft_lemma.Recorder"}],
        },
        "checkpoint": {"save_top_k": 0},
        "last_checkpoint": {"every_n_steps": args.num_steps},
        "model": {
            "class_path": "lemma.modules.SFTModule",
            "init_args": {
                "policy": {"base": str(base), "adapter": str(adapter)},
                "optimizer": {"lr": args.learning_rate, "schedule": "constant"},
            },
        },
        "data": data if args.layout is None else data | {"layout": args.layout},
    }
