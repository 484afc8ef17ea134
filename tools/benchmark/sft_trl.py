"""TRL's side of ``sft``: its SFTTrainer on given token ids, in the given order, with a meter.

Runs where Lemma is not installed: python -m benchmark.sft_trl JOB RUN_FOLDER
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import torch
import trl
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback

from benchmark.meter import Meter, Sequence, write_record

IGNORED = -100


class MeteredSFTTrainer(trl.SFTTrainer):
    """TRL's trainer, which also keeps the last step's loss and batch."""

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Do what TRL does."""
        self.seen = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
        self.seen_loss = super().training_step(model, inputs, *args, **kwargs)
        return self.seen_loss


class Recorder(TrainerCallback):
    """Hands the steps of a trainer to a meter."""

    def __init__(self, meter: Meter, trainer: MeteredSFTTrainer) -> None:
        self.meter = meter
        self.trainer = trainer

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.meter.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the step."""
        self.meter.end_step(self.trainer.seen_loss, self.trainer.seen)


def sequences(batch: dict[str, torch.Tensor]) -> Iterator[Sequence]:
    """Yield prompt and completion of each row."""
    for ids, attended, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        real = ids[attended.bool()].tolist()
        counted = (labels[attended.bool()] != IGNORED).tolist()
        first = counted.index(True)
        yield real[:first], [token for token, counts in zip(real, counted, strict=True) if counts]


def train(job: dict[str, Any], run: Path) -> None:
    """Train, save the adapter and write the record.

    Args:
        job: What ``sft.prepare`` wrote.
        run: Folder for both.
    """
    mixed = job["precision"] == "bf16-mixed"
    rows = [json.loads(line) for line in Path(job["rows"]).read_text().splitlines()]
    config = trl.SFTConfig(
        str(run),
        per_device_train_batch_size=job["batch_size"],
        max_steps=job["num_steps"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        max_grad_norm=job["clip"],
        seed=job["seed"],
        bf16=mixed,
        use_cpu=job["device"] == "cpu",
        train_sampling_strategy="sequential",
        completion_only_loss=True,
        max_length=None,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    base = AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32)
    trainer = MeteredSFTTrainer(
        PeftModel.from_pretrained(base, job["adapter"], is_trainable=True),
        config,
        train_dataset=datasets.Dataset.from_list([_row(row) for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(job["base"]),
    )
    trainer.remove_callback(PrinterCallback)
    meter = Meter(job["device"])
    trainer.add_callback(Recorder(meter, trainer))
    trainer.train()
    write_record(run / "record.json", meter.record(sequences, ("trl", "accelerate")))
    trainer.model.save_pretrained(run / "adapter")


def _row(row: dict[str, list[int]]) -> dict[str, list[int]]:
    prompt, completion = row["prompt"], row["completion"]
    return {"input_ids": prompt + completion, "completion_mask": [0] * len(prompt) + [1] * len(completion)}


if __name__ == "__main__":
    train(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
