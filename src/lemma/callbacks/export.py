"""Exports the trained adapter in PEFT format, with tokenizer and chat template, when training ends."""

import shutil
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lemma.files import keep_previous
from lemma.modules.sharding import whole_weights


class AdapterExport(Callback):
    """Writes ``<run>/adapter`` at the end of fit; a folder that is there already is moved aside.

    Args:
        name: Folder in the run directory.
    """

    def __init__(self, name: str = "adapter") -> None:
        self.name = name

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save aside, then rename; ranks beside the first only give their shares of sharded weights."""
        if trainer.fast_dev_run:
            return
        weights = whole_weights(pl_module.policy, keep=trainer.is_global_zero)
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir) / self.name
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        pl_module.policy.save(partial, weights)
        trainer.datamodule.encoder.tokenizer.save_pretrained(partial)
        for path in partial.iterdir():  # safetensors writes files that only their owner can read
            shutil.copymode(partial / "tokenizer_config.json", path)
        keep_previous(folder)
        partial.rename(folder)
        rank_zero_info(f"Adapter: {folder}")
