"""Warns of what goes wrong in preference optimisation while the loss looks well, and names the remedy."""

import statistics
from collections import deque
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lemma.evaluation.scores import LENGTH
from lemma.modules import DPOModule

FALLING = (
    "The policy finds the chosen completions ever less likely: {count} logged values ago their mean log-ratio to the "
    "reference was {before:.3f} nats a token, now it is {now:.3f}. The margin grows by forgetting. Add the chosen "
    "side's likelihood (--model.loss_type '{{sigmoid: 1.0, sft: 0.2}}'), raise --model.beta, or lower "
    "--model.optimizer.lr."
)
SATURATED = (
    "{share:.0%} of the pairs have margins so large that they teach nothing any more (train/rewards/saturated). Stop "
    "here, add harder pairs, lower --model.optimizer.lr, or use a loss that stops at a margin: --model.loss_type ipo, "
    "or --model.label_smoothing 0.1."
)
LENGTHENING = (
    "Completions of {source} have {now:.0f} tokens on average, {before:.0f} when they were first measured: the policy "
    "learns to write more. Limit the pairs' length bias (--data.pairs.max_length_bias 0.05) or compare by token: "
    "--model.loss_type sigmoid_norm, or simpo."
)
_GROWTH = 1.5


class PreferenceMonitor(Callback):
    """Warns once each: chosen log-probabilities fall for long, margins are saturated, completions lengthen.

    Args:
        patience: Logged values that must agree before a warning, even.
    """

    def __init__(self, patience: int = 20) -> None:
        self._chosen: deque[float] = deque(maxlen=patience)
        self._saturated: deque[float] = deque(maxlen=patience // 2)
        self._first_lengths: dict[str, float] = {}
        self._said: set[str] = set()
        self._logged_at = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at what was logged last, at the steps that log: the module itself does so after its callbacks."""
        step = trainer.global_step
        if not isinstance(pl_module, DPOModule) or step == self._logged_at or step % trainer.log_every_n_steps:
            return
        self._logged_at = step
        figures = trainer.callback_metrics
        if pl_module.pair_objective.needs_reference and "train/log_ratio/chosen" in figures:
            self._look_at_chosen(float(figures["train/log_ratio/chosen"]))
        if "train/rewards/saturated" in figures:
            self._look_at_margins(float(figures["train/rewards/saturated"]))

    def _look_at_chosen(self, log_ratio: float) -> None:
        values = self._chosen
        values.append(log_ratio)
        half = values.maxlen // 2
        if len(values) < values.maxlen or max(values) >= 0:
            return
        before, now = statistics.mean(list(values)[:half]), statistics.mean(list(values)[half:])
        if now < before:
            self._say("falling", FALLING.format(count=values.maxlen, before=values[0], now=values[-1]))

    def _look_at_margins(self, share: float) -> None:
        values = self._saturated
        values.append(share)
        if len(values) == values.maxlen and min(values) > 0.9:
            self._say("saturated", SATURATED.format(share=share))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the lengths of what the policy writes with the first time."""
        if not isinstance(pl_module, DPOModule) or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        for name, value in trainer.callback_metrics.items():
            source = name.removeprefix("val/").removesuffix(f"/{LENGTH}")
            if name != f"val/{source}/{LENGTH}":
                continue
            first = self._first_lengths.setdefault(source, float(value))
            if float(value) > _GROWTH * first:
                self._say(f"lengthening {source}", LENGTHENING.format(source=source, now=float(value), before=first))

    def _say(self, what: str, message: str) -> None:
        if what not in self._said:
            self._said.add(what)
            rank_zero_warn(message)
