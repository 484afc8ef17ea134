"""Decides that servers and threads are given back when a run ends by an error, too."""

from lightning.pytorch import Callback, LightningModule, Trainer


class EngineCloser(Callback):
    """Closes the module's engine after an error, where Lightning calls no ``teardown`` of the module."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the policy's adapter from the servers, and end the client's thread."""
        pl_module.teardown(trainer.state.fn)
