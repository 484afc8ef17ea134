"""Lemma's side of every workload that trains: callbacks for the steps of ``lemma fit``, and for where its time goes."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile

from benchmark.meter import Meter, Sequence
from benchmark.process import write_record
from lemma.encoding import Batch
from lemma.files import write_json


def examples(batch: Batch) -> Iterator[list[Sequence]]:
    """Yield the sequences of each example: one, or the chosen and the rejected one of a pair."""
    found = sequences(batch)
    return (list(islice(found, count)) for count in batch.num_completions)


def completions(batch: Batch) -> Iterator[list[Sequence]]:
    """Yield each sequence as an example of its own: the completions of a group stand in any parts of it."""
    return ([sequence] for sequence in sequences(batch))


class Recorder(Callback):
    """Writes ``record.json`` into the run directory; a step is a micro-batch."""

    examples = staticmethod(examples)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._meter = Meter(pl_module.device.type)
        self._meter.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Note the step; its window is this batch alone, so that the share in the window's loss is the mean."""
        self._meter.end_step(batch, outputs["loss"])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record."""
        packages = ("lemma", "lightning")
        write_record(Path(trainer.default_root_dir) / "record.json", self._meter.record(self.examples, packages))


class Profile(Callback):
    """Writes ``profile.json`` into the run directory: operations by their share of the time after the first step.

    Times are of the operation itself, without what it calls: of the GPU's kernels on a GPU, of the CPU elsewhere.
    """

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Begin after the first step; what is drawn for the steps that follow counts, too."""
        if trainer.global_step == 1:
            on_gpu = pl_module.device.type == "cuda"
            self._kind = "device" if on_gpu else "cpu"
            self._profiler = profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU])
            self._profiler.start()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the shares, largest first."""
        self._profiler.stop()
        seconds = {
            event.key: (getattr(event, f"self_{self._kind}_time_total") / 1e6, event.count)
            for event in self._profiler.key_averages()
        }
        total = sum(own for own, _ in seconds.values())
        rows = [
            {"operation": name, "share": own / total, "seconds": own, "calls": calls}
            for name, (own, calls) in sorted(seconds.items(), key=lambda each: -each[1][0])
        ]
        write_json(Path(trainer.default_root_dir) / "profile.json", rows)


class RolloutRecorder(Recorder):
    """The same of rollouts."""

    examples = staticmethod(completions)


def sequences(batch: Batch) -> Iterator[Sequence]:
    """Yield prompt and completion of each of the N sequences, in any layout.

    A completion's first token says by its position how long the prompt is, and by the token before it where that ends.
    """
    ids = batch.input_ids.flatten().tolist()
    length = batch.input_ids.shape[1]
    positions = None if batch.position_ids is None else batch.position_ids.flatten().tolist()
    index = batch.completion_index
    before = index - 1 if batch.previous_index is None else batch.previous_index
    tokens = zip(index.tolist(), before.tolist(), strict=True)
    for count in batch.mask.sum(-1).tolist():
        places = list(islice(tokens, count))
        first, last_of_prompt = places[0]
        prompt_length = first % length if positions is None else positions[first]
        yield ids[last_of_prompt + 1 - prompt_length : last_of_prompt + 1], [ids[place] for place, _ in places]
