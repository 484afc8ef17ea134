"""Each warning of a run on rollouts comes once, after enough values, names the remedy, and not where all is well."""

from types import SimpleNamespace

import pytest

from lemma.callbacks import RolloutMonitor
from lemma.modules import GRPOModule
from lemma.rewards import RewardArgs
from lemma.types import InputError

PATIENCE = 8
WELL = {"truncated": 0.1, "signal": 0.5, "correct": 0.4, "reward": 2.0}


@pytest.fixture
def said(monkeypatch):
    """Return the list of what was warned of."""
    messages: list[str] = []
    monkeypatch.setattr("lemma.callbacks.rollout_monitor.rank_zero_warn", messages.append)
    return messages


class Run:
    """Feeds a monitor with figures, in the order of a fit with two steps a rollout.

    Args:
        log_every_n_steps: Steps between two logged values.
    """

    def __init__(self, log_every_n_steps: int = 1) -> None:
        self.monitor = RolloutMonitor(PATIENCE)
        self.module = GRPOModule(rewards=[RewardArgs("correctness"), RewardArgs("length", weight=0.2)])
        self.trainer = SimpleNamespace(global_step=0, log_every_n_steps=log_every_n_steps, callback_metrics={})

    def rollout(self, **figures: float) -> None:
        """Make a rollout, whose figures are logged after its first batch, and train two batches on it."""
        self.module.rollout_number += 1
        for _ in range(2):
            self.monitor.on_train_batch_start(self.trainer, self.module, None, 0)
            self.trainer.callback_metrics |= {f"rollout/{name}": value for name, value in (WELL | figures).items()}

    def log(self, **figures: float) -> None:
        """Log figures of one step; then comes a micro-batch that ends no step."""
        self.trainer.callback_metrics |= {f"train/{name}": value for name, value in figures.items()}
        self.trainer.global_step += 1
        for _ in range(2):
            self.monitor.on_train_batch_end(self.trainer, self.module, None, None, 0)

    def end(self) -> None:
        """End the fit, so that the last rollout is looked at."""
        self.monitor.on_train_end(self.trainer, self.module)


def test_a_run_that_goes_well_is_not_warned_of(said):
    run = Run()
    for number in range(4 * PATIENCE):
        run.rollout(reward=2 + 0.1 * number, correct=0.4 + 0.01 * number, truncated=0.2, signal=float(number % 2))
        run.log(entropy=1 / (1 + 0.2 * number), kl=0.02 * number)
    run.end()
    assert said == []


def test_truncated_completions_are_warned_of_once_by_the_share_and_the_limit(said):
    run = Run()
    run.rollout(truncated=0.2)
    run.rollout(truncated=0.21)
    assert said == []
    run.rollout(truncated=0.9)
    run.end()
    assert len(said) == 1
    limit = run.module.sampling.max_new_tokens
    assert said[0].startswith(f"21% of the completions of a rollout were cut off at {limit} tokens")
    for remedy in ("--model.sampling.max_new_tokens", "--model.rewards+ overlong", "--model.mask_truncated true"):
        assert remedy in said[0]


def test_the_last_rollout_is_looked_at_when_training_ends(said):
    run = Run()
    run.rollout(truncated=0.5)
    assert said == []
    run.end()
    assert len(said) == 1


@pytest.mark.parametrize(
    ("correct", "remedy"), [(0.0, "on easier problems, raise"), (1.0, "on harder problems,"), (0.5, "now and then")]
)
def test_groups_alike_for_long_are_warned_of_once_with_a_remedy_by_correctness(said, correct, remedy):
    run = Run()
    for _ in range(PATIENCE - 1):
        run.rollout(signal=0.0, correct=correct)
    run.rollout(signal=0.1, correct=correct)
    for _ in range(PATIENCE):
        run.rollout(signal=0.0, correct=correct)
    assert said == [], "not before enough in a row: the last is yet to be looked at"
    run.rollout(signal=0.0, correct=correct)
    run.end()
    assert len(said) == 1
    assert f"In {PATIENCE} rollouts in a row" in said[0]
    assert remedy in said[0]
    assert "--model.dynamic_sampling" in said[0]


def test_a_reward_that_rises_while_correctness_falls_is_warned_of_once_by_the_other_rewards(said):
    run = Run()
    for number in range(PATIENCE):
        run.rollout(reward=2 + number, correct=0.8 - 0.1 * number)
    assert said == []
    for number in range(PATIENCE, 2 * PATIENCE):
        run.rollout(reward=2 + number, correct=0.0)
    assert len(said) == 1
    assert "the reward rose (2.5 to 8.5) while fewer completions were right (75.0% to 15.0%)" in said[0]
    assert "the policy earns length instead" in said[0]


@pytest.mark.parametrize(
    ("reward", "correct"),
    [(0.1, 0.01), (-0.1, -0.01), (-0.1, 0.01), (0.0, -0.01)],
    ids=["both rise", "both fall", "the other way round", "steady reward"],
)
def test_other_trends_are_not_warned_of(said, reward, correct):
    run = Run()
    for number in range(3 * PATIENCE):
        run.rollout(reward=2 + reward * number, correct=0.5 + correct * number)
    assert said == []


def test_noise_around_a_level_is_no_trend(said):
    run = Run()
    for number in range(6 * PATIENCE):
        run.rollout(reward=2 + (number * 7 % 5 - 2), correct=0.5 - 0.1 * (number * 7 % 5 - 2))
    assert said == []


def test_entropy_below_a_tenth_of_its_first_values_is_warned_of_once(said):
    run = Run()
    for entropy in (0.8, 1.0, 1.2, 0.01, 0.5, 0.09, 0.12, 0.1):
        run.log(entropy=entropy)
    assert said == [], "single low values are no collapse"
    run.log(entropy=0.05)
    run.log(entropy=0.01)
    assert len(said) == 1
    assert "from 1 to 0.09 nats a token" in said[0]
    for remedy in ("--model.clip_high", "--model.entropy_coef", "--model.sampling.temperature"):
        assert remedy in said[0]


def test_a_resumed_run_compares_with_the_first_entropies_of_all(said):
    before, after = Run(), Run()
    before.rollout()
    for _ in range(3):
        before.log(entropy=1.0)
    after.monitor.load_state_dict(before.monitor.state_dict())
    for _ in range(3):
        after.log(entropy=0.05)
    assert len(said) == 1
    assert "from 1 to 0.05" in said[0]


def test_kl_that_jumps_above_1_and_ten_times_its_median_is_warned_of_once(said):
    run = Run()
    for kl in (0.0, 0.1, 0.2, 0.3, 0.2, 0.9, 1.9):
        run.log(kl=kl)
    assert said == [], "0.9 is below 1, and 1.9 is below ten times 0.2"
    run.log(kl=2.5)
    run.log(kl=9.0)
    assert len(said) == 1
    assert "jumped to 2.5 nats a token, 0.2 was its median" in said[0]
    for remedy in ("--model.optimizer.lr", "--model.kl_coef"):
        assert remedy in said[0]


def test_a_first_kl_is_no_jump(said):
    run = Run()
    for _ in range(10):
        run.log(kl=5.0)
    assert said == []


def test_a_value_counts_at_the_steps_at_which_it_is_logged(said):
    run = Run(log_every_n_steps=4)
    for _ in range(12):
        run.log(entropy=1.0)
    for _ in range(11):
        run.log(entropy=0.01)
    assert said == []
    run.log(entropy=0.01)
    assert len(said) == 1


def test_other_objectives_are_left_alone(said):
    run = Run()
    run.module = SimpleNamespace(makes_rollouts=False)
    run.trainer.callback_metrics = {"rollout/truncated": 1.0, "train/entropy": 1.0}
    run.monitor.on_train_batch_start(run.trainer, run.module, None, 0)
    for _ in range(5):
        run.log(entropy=1.0)
    run.log(entropy=0.0)
    run.end()
    assert said == []


def test_too_little_patience_is_refused():
    with pytest.raises(InputError, match=r"RolloutMonitor\.patience: expected at least 4, but got 3"):
        RolloutMonitor(3)
