"""Warns of what goes wrong in learning from rollouts while the reward looks well, and names the remedy."""

import statistics
from collections import deque
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lemma.callbacks.rollouts import RolloutCallback
from lemma.modules import GRPOModule
from lemma.types import InputError

TRUNCATED = (
    "{share:.0%} of the completions of a rollout were cut off at {limit} tokens (rollout/truncated): most of them earn "
    "what a wrong answer earns, however good they were. Raise --model.sampling.max_new_tokens, punish length before "
    "the limit (--model.rewards+ overlong), or leave them out of the loss: --model.mask_truncated true."
)
COLLAPSED = (
    "The policy's entropy fell from {before:.3g} to {now:.3g} nats a token (train/entropy): completions of a group are "
    "almost the same, and there is little left to compare. Raise --model.clip_high, add an entropy bonus "
    "(--model.entropy_coef 0.001), sample at a higher --model.sampling.temperature, or lower --model.optimizer.lr."
)
ALIKE = (
    "In {count} rollouts in a row no group had both right and wrong completions (rollout/signal), {correct:.0%} of all "
    "were right: correctness teaches nothing. {remedy}, or replace such groups: --model.dynamic_sampling 3."
)
EASIER = "Train on easier problems, raise --model.group_size, or begin with a policy that solves some (an SFT adapter)"
HARDER = "Train on harder problems"
MIXED = "Train on problems that the policy solves now and then, raise --model.group_size"
DRIFTED = (
    "The policy's KL to the reference jumped to {now:.3g} nats a token, {median:.3g} was its median (train/kl). Lower "
    "--model.optimizer.lr, raise --model.kl_coef, or go back to a checkpoint from before."
)
HACKED = (
    "Over the last {count} rollouts the reward rose ({reward[0]:.3g} to {reward[1]:.3g}) while fewer completions were "
    "right ({correct[0]:.1%} to {correct[1]:.1%}): the policy earns {others} instead. Lower their weights in "
    "--model.rewards, or raise that of correctness."
)
_MOST_TRUNCATED = 0.2
_NUM_ENTROPIES = 3  # logged values that a mean is of
_LEAST_ENTROPY = 0.1  # of the first ones
_NUM_KLS = 1000
_LEAST_KLS = 5
_KL_JUMP = 10.0
_LEAST_KL = 1.0  # nats a token
_TREND = 0.5  # correlation with time; of 20 independent values one in 40 is above it


class RolloutMonitor(RolloutCallback):
    """Warns once each: completions cut off, entropy gone, groups alike, KL jumping, reward up while correctness falls.

    Args:
        patience: Rollouts that must agree before a warning of groups that are alike, or of a trend; at least 4.

    Raises:
        InputError: If ``patience`` is below 4.
    """

    def __init__(self, patience: int = 20) -> None:
        super().__init__()
        if patience < 4:
            raise InputError(f"RolloutMonitor.patience: expected at least 4, but got {patience}.")
        self._signals: deque[float] = deque(maxlen=patience)
        self._earned: deque[tuple[float, float]] = deque(maxlen=patience)  # reward, share that is right
        self._first_entropies: list[float] = []
        self._entropies: deque[float] = deque(maxlen=_NUM_ENTROPIES)
        self._kls: deque[float] = deque(maxlen=_NUM_KLS)
        self._said: set[str] = set()
        self._logged_at = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the first entropies, too."""
        state = super().state_dict()
        return {**state, "first_entropies": list(self._first_entropies)} if state else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare with the run's first entropies, not with those after it was resumed."""
        super().load_state_dict(state_dict)
        self._first_entropies = list(state_dict["first_entropies"])

    def on_rollout(self, trainer: Trainer, pl_module: GRPOModule) -> None:
        """Look at the figures of the rollout before: the module logs them after its first batch."""
        figures = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("rollout/")
        }
        if "rollout/truncated" in figures:
            self._look_at_lengths(figures["rollout/truncated"], pl_module)
        if {"rollout/signal", "rollout/correct"} <= figures.keys():
            self._look_at_signal(figures["rollout/signal"], figures["rollout/correct"])
        if {"rollout/reward", "rollout/correct"} <= figures.keys():
            self._look_at_trend(figures["rollout/reward"], figures["rollout/correct"], pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last rollout."""
        if pl_module.makes_rollouts:
            self.on_rollout(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at what was logged last, at the steps that log: the module itself does so after its callbacks."""
        step = trainer.global_step
        if not pl_module.makes_rollouts or step == self._logged_at or step % trainer.log_every_n_steps:
            return
        self._logged_at = step
        figures = trainer.callback_metrics
        if "train/entropy" in figures:
            self._look_at_entropy(float(figures["train/entropy"]))
        if "train/kl" in figures:
            self._look_at_kl(float(figures["train/kl"]))

    def _look_at_lengths(self, share: float, pl_module: GRPOModule) -> None:
        if share > _MOST_TRUNCATED:
            self._say("truncated", TRUNCATED.format(share=share, limit=pl_module.sampling.max_new_tokens))

    def _look_at_signal(self, signal: float, correct: float) -> None:
        values = self._signals
        values.append(signal)
        if len(values) == values.maxlen and max(values) == 0:
            remedy = EASIER if correct < 0.1 else HARDER if correct > 0.9 else MIXED
            self._say("alike", ALIKE.format(count=len(values), correct=correct, remedy=remedy))

    def _look_at_trend(self, reward: float, correct: float, pl_module: GRPOModule) -> None:
        self._earned.append((reward, correct))
        if len(self._earned) < self._earned.maxlen:
            return
        rewards, rights = zip(*self._earned, strict=True)
        if _trend(rewards) > _TREND and _trend(rights) < -_TREND:
            others = [each.key for each in pl_module.rewards if each.name != "correctness" and each.weight]
            self._say(
                "hacked",
                HACKED.format(
                    count=len(rewards),
                    reward=_ends(rewards),
                    correct=_ends(rights),
                    others=" and ".join(others) or "other rewards",
                ),
            )

    def _look_at_entropy(self, entropy: float) -> None:
        self._entropies.append(entropy)
        if len(self._first_entropies) < _NUM_ENTROPIES:
            self._first_entropies.append(entropy)
            return
        before, now = statistics.fmean(self._first_entropies), statistics.fmean(self._entropies)
        if len(self._entropies) == _NUM_ENTROPIES and now < _LEAST_ENTROPY * before:
            self._say("collapsed", COLLAPSED.format(before=before, now=now))

    def _look_at_kl(self, kl: float) -> None:
        if len(self._kls) >= _LEAST_KLS and kl > _LEAST_KL and kl > _KL_JUMP * (median := statistics.median(self._kls)):
            self._say("drifted", DRIFTED.format(now=kl, median=median))
        self._kls.append(kl)

    def _say(self, what: str, message: str) -> None:
        if what not in self._said:
            self._said.add(what)
            rank_zero_warn(message)


def _trend(values: Sequence[float]) -> float:
    """Return the correlation with time, 0 for values that do not change."""
    return 0.0 if min(values) == max(values) else statistics.correlation(range(len(values)), values)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the means of the first and the last quarter."""
    quarter = max(1, len(values) // 4)
    return statistics.fmean(values[:quarter]), statistics.fmean(values[-quarter:])
