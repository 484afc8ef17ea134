"""What the terminal shows of training, of a validation under way, and of trajectories."""

import sys
import time

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm, convert_inf

from lemma.evaluation import Progress


class ProgressBars(TQDMProgressBar):
    """Lightning's bars, and in validation the accuracy so far.

    The bar of training counts micro-batches, up to those after which the epoch or training ends, and tells when
    completions are drawn to train on.

    Under an engine that streams, the bar of validation counts completions instead of batches, and tells problems,
    tokens a second and the time left. All are those of rank 0.
    """

    def __init__(self, refresh_rate: int = 1, process_position: int = 0) -> None:
        super().__init__(refresh_rate, process_position)
        self._completions: Tqdm | None = None
        self._began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the bar, in the middle of an epoch where a run is resumed there."""
        super().on_train_start(trainer, pl_module)
        bar, done = self.train_progress_bar, trainer.fit_loop.epoch_loop.batch_progress.current.processed
        bar.total = convert_inf(last_batch(trainer, done))
        bar.initial = bar.n = done
        self._describe("")
        if pl_module.makes_rollouts:
            pl_module.listeners.append(self._describe)

    @property
    def total_train_batches(self) -> int | float:
        """Return the micro-batches of an epoch that begins."""
        return last_batch(self.trainer, done=0)

    def _describe(self, work: str) -> None:
        """Say what is done besides training."""
        epoch = f"Epoch {self.trainer.current_epoch}"
        self.train_progress_bar.set_description(f"{epoch}, {work}" if work else epoch)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to the evaluator, which stands by now; begin the bar of completions, if that is the one."""
        if self.is_disabled or trainer.sanity_checking:
            return
        if pl_module.streams:
            self.val_progress_bar.close()
            self.val_progress_bar = Tqdm(disable=True)  # it would count one batch
            self._begin_completions(whole=trainer.state.fn == "validate")
        pl_module.evaluator.listeners.append(self._show_stream if pl_module.streams else self._show_accuracy)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the bars."""
        self._end_completions()
        super().on_validation_end(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar of completions; Lightning's own, of rounds, is not shown."""
        self.predict_progress_bar = Tqdm(disable=True)
        if not self.is_disabled:
            self._begin_completions(whole=True)
            pl_module.listeners.append(self._show_stream)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the bar, before a table is printed."""
        self._end_completions()

    def _end_completions(self) -> None:
        if self._completions is not None:
            self._completions.close()
            self._completions = None

    def _begin_completions(self, *, whole: bool) -> None:
        position = 2 * self.process_position + (not whole)
        self._completions = Tqdm(
            desc="Completions",
            total=0,
            unit="",
            smoothing=0,
            position=position,
            leave=whole,
            dynamic_ncols=True,
            file=sys.stdout,
        )
        self._began = time.monotonic()

    def _show_stream(self, progress: Progress) -> None:
        bar = self._completions
        if not bar.total:
            bar.initial = bar.n = progress.num_resumed  # the rate is of what is drawn now
        bar.total = progress.num_completions
        rate = progress.tokens / max(time.monotonic() - self._began, 1e-3)
        parts = [f"{progress.problems_done}/{progress.num_problems} problems", f"{rate:,.0f} tokens/s"]
        bar.set_postfix_str(", ".join([*parts, *_accuracy(progress)]), refresh=False)
        bar.update(progress.completions_done - bar.n)

    def _show_accuracy(self, progress: Progress) -> None:
        self.val_progress_bar.set_postfix_str(", ".join(_accuracy(progress)), refresh=False)


def last_batch(trainer: Trainer, done: int) -> int | float:
    """Return the micro-batch of this epoch after which it ends, or training does by ``max_steps``.

    Args:
        trainer: Whose loader may have no end; then infinity is possible.
        done: Micro-batches of the epoch that were trained on.
    """
    if trainer.max_steps == -1:
        return trainer.num_training_batches
    windows = done // trainer.accumulate_grad_batches + trainer.max_steps - trainer.global_step
    return min(trainer.num_training_batches, windows * trainer.accumulate_grad_batches)


def _accuracy(progress: Progress) -> list[str]:
    return [] if progress.accuracy is None else [f"pass@1 {progress.accuracy:.1%}"]
