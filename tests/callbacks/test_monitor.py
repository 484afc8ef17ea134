"""Tokens per second by a clock that the test moves."""

from types import SimpleNamespace

import pytest

from lemma.callbacks import TrainingMonitor


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("lemma.callbacks.monitor.time.perf_counter", lambda: now.seconds)
    return now


@pytest.fixture
def run(clock):
    """Return a function that waits for a batch of 60 tokens, trains on it, and returns what has been logged last."""
    monitor, logged = TrainingMonitor(), {}
    module = SimpleNamespace(device="cpu", log=lambda name, value, **_: logged.update({name: value}))
    trainer = SimpleNamespace(
        global_step=0, log_every_n_steps=2, fit_loop=SimpleNamespace(_should_accumulate=lambda: False),
        strategy=SimpleNamespace(reduce=lambda counts, reduce_op: counts),
    )  # fmt: skip
    monitor.on_train_start(trainer, module)

    def step(*, wait: float, train: float, validate: float = 0.0) -> dict[str, float]:
        clock.seconds += wait
        monitor.on_train_batch_start(trainer, module, None, 0)
        clock.seconds += train
        trainer.global_step += 1
        monitor.on_train_batch_end(trainer, module, None, SimpleNamespace(num_tokens=60, num_positions=80), 0)
        monitor.on_validation_start(trainer, module)
        clock.seconds += validate
        monitor.on_validation_end(trainer, module)
        return dict(logged)

    return step


def test_time_covers_all_between_logs_the_first_rollout_after_each_included(run):
    run(wait=8.0, train=1.0)
    assert run(wait=0.0, train=1.0) == {"train/tokens_per_second": 120 / 10, "train/padding": pytest.approx(0.25)}
    run(wait=18.0, train=1.0)
    assert run(wait=0.0, train=1.0)["train/tokens_per_second"] == 120 / 20


def test_validation_is_left_out_even_right_after_a_log(run):
    run(wait=0.0, train=1.0, validate=50.0)
    assert run(wait=0.0, train=1.0, validate=70.0)["train/tokens_per_second"] == 120 / 2
    run(wait=0.0, train=2.0)
    assert run(wait=0.0, train=2.0)["train/tokens_per_second"] == 120 / 4
