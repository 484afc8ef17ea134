"""A callback for tests that kills its own process in the middle of training."""

import os

from lightning.pytorch import Callback


class SignalAt(Callback):
    """Sends a signal to this process after a number of micro-batches.

    Args:
        batches: Micro-batches of this process before the signal.
        signum: The signal.
        rank: The rank that sends it to itself.
    """

    def __init__(self, batches: int, signum: int, rank: int = 0) -> None:
        self.batches = batches
        self.signum = signum
        self.rank = rank
        self.seen = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen += 1
        if self.seen == self.batches and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.signum)
