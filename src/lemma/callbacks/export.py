"""Exports the trained adapter in PEFT format, with tokenizer and chat template, when training ends."""

import shutil
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from lemma.files import keep_previous


class AdapterExport(Callback):
    """Writes ``<run>/adapter`` at the end of fit; a folder that is there already is moved aside.

    Args:
        name: Folder in the run directory.
    """

    def __init__(self, name: str = "adapter") -> None:
        self.name = name

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save aside, then rename."""
        if trainer.fast_dev_run:
            return
        folder = Path(trainer.default_root_dir) / self.name
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        pl_module.policy.save(partial)
        trainer.datamodule.encoder.tokenizer.save_pretrained(partial)
        keep_previous(folder)
        partial.rename(folder)
        rank_zero_info(f"Adapter: {folder}")
