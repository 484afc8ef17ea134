"""Lemma's side of ``data``: python -m benchmark.data_lemma JOB RUN_FOLDER"""

from collections.abc import Iterator
from pathlib import Path

from lightning.pytorch import Trainer

from benchmark.data_side import measure, read_job
from benchmark.lemma_side import sequences
from lemma.corpora import CorpusArgs
from lemma.datamodule import MathDataModule
from lemma.encoding import Batch, TokenizerArgs


def main() -> None:
    """Set the data module up as ``lemma fit`` does, and take its training batches."""
    job = read_job()
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)

    def start(cache: Path) -> Iterator[Batch]:
        corpora, options = [CorpusArgs(**job["corpus"])], job["options"]
        data = MathDataModule(TokenizerArgs(job["base"]), corpora, cache_dir=str(cache), **options)
        data.trainer = trainer
        data.setup("fit")
        yield from data.train_dataloader()

    measure(job["num_steps"], start, sequences, ("lemma", "torch", "transformers", "datasets"))


if __name__ == "__main__":
    main()
