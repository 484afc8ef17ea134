"""Lemma's side of ``sft``: a callback that notes the steps of ``lemma fit``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from benchmark.meter import Meter, Sequence, write_record
from lemma.encoding import Batch


class Recorder(Callback):
    """Writes ``record.json`` into the run directory; a step is a micro-batch."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._meter = Meter(pl_module.device.type)
        self._meter.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Note the step; its window is this batch alone, so that the share in the window's loss is the mean."""
        self._meter.end_step(outputs["loss"], batch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record."""
        packages = ("lemma", "lightning")
        write_record(Path(trainer.default_root_dir) / "record.json", self._meter.record(sequences, packages))


def sequences(batch: Batch) -> Iterator[Sequence]:
    """Yield prompt and completion of each sequence, in any layout of one completion a prompt."""
    ids = batch.input_ids.flatten().tolist()
    length = batch.input_ids.shape[1]
    positions = None if batch.position_ids is None else batch.position_ids.flatten().tolist()
    index = iter(batch.completion_index.tolist())
    for count in batch.mask.sum(-1).tolist():
        places = [next(index) for _ in range(count)]
        first = places[0]
        prompt_length = first % length if positions is None else positions[first]
        yield ids[first - prompt_length : first], [ids[place] for place in places]
