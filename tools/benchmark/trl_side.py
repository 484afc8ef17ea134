"""TRL's side of every workload that trains: its trainers on given token ids, in the given order, with a meter.

Runs where Lemma is not installed.
"""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, Trainer, TrainerCallback

from benchmark.meter import Meter, Sequence
from benchmark.process import write_record

Batch = dict[str, torch.Tensor]
Row = dict[str, list[int]]


class Metered:
    """Mixed into a trainer, keeps the last step's loss and batch."""

    kept: tuple[str, ...]
    """Names of a batch's tensors by which its sequences are known."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Do what TRL does."""
        self.seen_loss = super().training_step(*args, **kwargs)
        return self.seen_loss

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Do what TRL does."""
        self.seen = {name: inputs[name] for name in self.kept}
        return super().compute_loss(model, inputs, *args, **kwargs)


class Recorder(TrainerCallback):
    """Hands the steps of a trainer to a meter."""

    def __init__(self, meter: Meter, trainer: Metered) -> None:
        self.meter = meter
        self.trainer = trainer

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.meter.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the step."""
        self.meter.end_step(self.trainer.seen, self.trainer.seen_loss)


def options(job: dict[str, Any], run: Path) -> dict[str, Any]:
    """Return what any trainer is configured with: as fast as it can, and nothing but training.

    Args:
        job: What ``training.prepare_training`` wrote.
        run: Folder of the run.
    """
    return {
        "output_dir": str(run),
        "per_device_train_batch_size": job["batch_size"],
        "max_steps": job["num_steps"],
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "constant",
        "max_grad_norm": job["clip"],
        "seed": job["seed"],
        "bf16": job["precision"] == "bf16-mixed",
        "use_cpu": job["device"] == "cpu",
        "train_sampling_strategy": "sequential",
        "gradient_checkpointing": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def train(
    make: Callable[..., Trainer],
    config: Callable[[dict[str, Any], Path], Any],
    row: Callable[[Row], Row],
    examples: Callable[[Batch], Iterable[list[Sequence]]],
) -> Meter:
    """Train as the command line says (JOB RUN_FOLDER), save the adapter, write the record and return what it is of.

    Args:
        make: The trainer's class, with ``Metered`` in it.
        config: (job, run) → its configuration.
        row: Ids as in the job's file → as the trainer takes them.
        examples: Takes a batch apart.
    """
    job, run = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    rows = [json.loads(line) for line in Path(job["rows"]).read_text().splitlines()]
    base = AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32)
    trainer = make(
        PeftModel.from_pretrained(base, job["adapter"], is_trainable=True),
        args=config(job, run),
        train_dataset=datasets.Dataset.from_list(list(map(row, rows))),
        processing_class=AutoTokenizer.from_pretrained(job["base"]),
    )
    trainer.remove_callback(PrinterCallback)
    meter = Meter(job["device"])
    trainer.add_callback(Recorder(meter, trainer))
    trainer.train()
    write_record(run / "record.json", meter.record(examples, ("trl", "accelerate")))
    trainer.model.save_pretrained(run / "adapter")
    return meter
