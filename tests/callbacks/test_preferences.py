"""Each warning comes once, after enough values, and not where all is well."""

from types import SimpleNamespace

import pytest

from lemma.callbacks import PreferenceMonitor
from lemma.modules import DPOModule

PATIENCE = 6


@pytest.fixture
def said(monkeypatch):
    """Return the list of what was warned of."""
    messages: list[str] = []
    monkeypatch.setattr("lemma.callbacks.preferences.rank_zero_warn", messages.append)
    return messages


class Run:
    """Feeds a monitor with figures, a logged step a call.

    Args:
        loss_type: Of the module.
        log_every_n_steps: Steps between two logged values.
    """

    def __init__(self, loss_type: str = "sigmoid", log_every_n_steps: int = 1) -> None:
        self.monitor = PreferenceMonitor(PATIENCE)
        self.module = DPOModule(loss_type=loss_type)
        self.trainer = SimpleNamespace(
            global_step=0, log_every_n_steps=log_every_n_steps, callback_metrics={}, sanity_checking=False,
            state=SimpleNamespace(fn="fit"),
        )  # fmt: skip

    def log(self, **figures: float) -> None:
        """Log figures of one step, ``a__b`` for a/b; then comes a micro-batch that ends no step."""
        names = {f"train/{name.replace('__', '/')}": value for name, value in figures.items()}
        self.trainer.callback_metrics |= names
        self.trainer.global_step += 1
        for _ in range(2):
            self.monitor.on_train_batch_end(self.trainer, self.module, None, None, 0)

    def validate(self, fn: str = "fit", **lengths: float) -> None:
        """Log lengths of completions by source, after a validation."""
        self.trainer.state.fn = fn
        metrics = {f"val/{source}/completion_length": value for source, value in lengths.items()}
        self.trainer.callback_metrics |= {**metrics, "val/light/given/length/chosen": 1e9, "val/x/pass@1": 0.5}
        self.monitor.on_validation_end(self.trainer, self.module)


def test_chosen_completions_that_become_ever_less_likely_are_warned_of_once(said):
    run = Run()
    for number in range(1, PATIENCE):
        run.log(log_ratio__chosen=-0.1 * number)
    assert said == [], "not before enough values"
    for number in range(PATIENCE, 4 * PATIENCE):
        run.log(log_ratio__chosen=-0.1 * number)
    assert len(said) == 1
    assert "6 logged values ago" in said[0]
    assert "-0.100 nats a token, now it is -0.600" in said[0]
    assert "--model.loss_type '{sigmoid: 1.0, sft: 0.2}'" in said[0]


@pytest.mark.parametrize("values", [[0.1, -0.1], [-0.2, -0.1, -0.2], [-0.1]], ids=["around 0", "up and down", "steady"])
def test_chosen_completions_that_do_not_become_less_likely_are_not_warned_of(said, values):
    run = Run()
    for number in range(4 * PATIENCE):
        run.log(log_ratio__chosen=values[number % len(values)])
    assert said == []


def test_rising_chosen_completions_are_not_warned_of_though_below_the_reference(said):
    run = Run()
    for number in range(4 * PATIENCE):
        run.log(log_ratio__chosen=-5 + 0.1 * number)
    assert said == []


def test_a_loss_without_reference_has_no_ratio_to_watch(said):
    run = Run("simpo")
    for number in range(4 * PATIENCE):
        run.log(log_ratio__chosen=-0.1 * number)
    assert said == []


def test_saturated_margins_are_warned_of_once(said):
    run = Run()
    for share in (0.95, 0.2, *[0.95] * (PATIENCE // 2 - 1)):
        run.log(rewards__saturated=share)
    assert said == [], "not before enough values in a row"
    for _ in range(PATIENCE):
        run.log(rewards__saturated=0.95)
    assert len(said) == 1
    assert said[0].startswith("95% of the pairs")
    assert "--model.label_smoothing 0.1" in said[0]


def test_a_value_counts_at_the_steps_at_which_it_is_logged(said):
    run = Run(log_every_n_steps=4)
    for _ in range(4 * (PATIENCE // 2) - 1):
        run.log(rewards__saturated=1.0)
    assert said == []
    run.log(rewards__saturated=1.0)
    assert len(said) == 1


def test_growing_completions_are_warned_of_once_a_source(said):
    run = Run()
    run.validate(gsm8k=100, math=200)
    run.validate(gsm8k=149, math=200)
    assert said == []
    run.validate(gsm8k=151, math=200)
    run.validate(gsm8k=170, math=301)
    run.validate(gsm8k=200, math=400)
    assert [message.split(" on average")[0] for message in said] == [
        "Completions of gsm8k have 151 tokens",
        "Completions of math have 301 tokens",
    ]
    assert "100 when they were first measured" in said[0]
    assert "--data.pairs.max_length_bias 0.05" in said[0]


def test_lengths_are_watched_in_fit_alone(said):
    run = Run()
    run.validate("validate", gsm8k=100)
    run.validate("validate", gsm8k=900)
    assert said == []
