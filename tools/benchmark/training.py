"""What the workloads share that train an adapter: both sides get the same rows, in the order that Lemma trains on.

Lemma decides the order and the token ids of the rows; the reference is given exactly those.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import yaml

from benchmark.base import MAX_LENGTH, BaseArgs, make_adapter, make_base
from benchmark.harness import Prepared, Run
from benchmark.options import expect
from benchmark.problems import (
    Lengthen,
    chat_encoder,
    load_problems,
    problem_corpus,
    problem_texts,
    write_problems,
)
from benchmark.work import check_adapters, check_steps
from lemma.corpora import CorpusArgs
from lemma.datamodule import MathDataModule
from lemma.encoding import LAYOUTS, Example, TokenizerArgs
from lemma.files import write_jsonl, write_text
from lemma.types import InputError

_CLIP = 1.0
_PROFILE = "--trainer.callbacks+=benchmark.lemma_side.Profile"


@dataclass(frozen=True)
class TrainingArgs(BaseArgs):
    """What a workload asks for that trains an adapter."""

    against: Literal["trl", "none"] = "trl"
    """The reference, in an environment that is made once, under .bench/ at the top of the checkout; none runs Lemma
    alone."""
    rows: str | None = None
    """File of the rows; null is what Lemma generates."""
    batch_size: int = 8
    """Rows an optimiser step, at least 1."""
    learning_rate: float = 2e-4
    """Of AdamW, constant, above 0."""
    layout: str | None = None
    """Lemma's --data.layout; null is its default."""
    profile: bool = False
    """Run Lemma once more, unmeasured, for the operations that take its time."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names option, rule and value.
        """
        super().__post_init__()
        self.expect_at_least(batch_size=1)
        expect(not self.profile or self.num_steps >= 2, "profile", "false, or 2 steps with the warm-up", self.profile)
        layouts = ("auto", *LAYOUTS)
        expect(self.layout in (None, *layouts), "layout", f"null or one of {', '.join(layouts)}", self.layout)
        expect(self.learning_rate > 0, "learning_rate", "more than 0", self.learning_rate)

    @property
    def num_rows(self) -> int:
        """Return the rows that a run takes."""
        return self.num_steps * self.batch_size


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
        profile=partial(lemma_command, folder, flags=[_PROFILE]) if args.profile else None,
    )


def prepare_problems(
    args: TrainingArgs, folder: Path, objective: Objective, lengthen: Lengthen, num_tokens: int | None
) -> Prepared:
    """Do what ``prepare_training`` does, on problems.

    Args:
        args: The options.
        folder: Where to.
        objective: What the adapter is trained for.
        lengthen: Makes problems longer.
        num_tokens: As long as this; None leaves them as they are.
    """
    plain = problem_corpus(args.rows, args.num_rows)
    problems = load_problems(plain, seed=args.seed)

    def corpus(base: Path) -> dict[str, Any]:
        if num_tokens is None:
            return plain
        long = lengthen(problems, chat_encoder(base), num_tokens)
        return write_problems(folder / "problems.jsonl", islice(long, 2 * args.num_rows))  # some may be left out

    return prepare_training(args, folder, objective, corpus, problem_texts(problems))


def lemma_command(folder: Path, run: Path, flags: Sequence[str] = ()) -> list[str]:
    """Return the command of Lemma's side.

    Args:
        folder: Where ``prepare_training`` wrote.
        run: Folder of the run.
        flags: Of ``lemma fit``, besides.
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
