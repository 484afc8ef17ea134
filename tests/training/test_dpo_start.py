"""A policy that has not moved is its own reference: the first loss is ln 2, and no reward is other than 0."""

import math

import pytest

VALIDATED = ("--trainer.limit_val_batches", "1.0", "--trainer.val_check_interval", "1")
# one step at a rate that changes nothing, so that validation after it still sees the policy at the start
STILL = (*VALIDATED, "--trainer.max_steps", "1", "--model.optimizer.lr", "1e-30", "--data.batch_size", "21")
STARTS = {
    "fresh": (),
    "gradient checkpointing": ("--model.policy.gradient_checkpointing", "true"),
    "dora": ("--model.policy.lora.use_dora", "true"),
    "nf4": ("--model.policy.quantization.method", "nf4"),
    "int8": ("--model.policy.quantization.method", "int8"),
    "full": ("--model.policy.method", "full"),
    "precomputed": ("--model.reference", "precomputed"),
    "mixed precision": ("--trainer.precision", "bf16-mixed"),
    "precomputed in mixed precision": ("--trainer.precision", "bf16-mixed", "--model.reference", "precomputed"),
    "label smoothing": ("--model.label_smoothing", "0.2"),
    "padded": ("--data.layout", "padded"),
}


@pytest.fixture
def adapter(dpo, tmp_path):
    """Return the folder of an adapter that has moved away from its base, and says that it has dropout."""
    dropout = ("--model.disable_dropout", "false", "--model.policy.lora.dropout", "0.5")
    return str(dpo("fit", "before", "--trainer.max_steps", "2", *dropout) / "adapter")


def assert_starts_at_ln2(steps):
    assert [step["step"] for step in steps] == [1, 1], "a validation, and the end"
    for prefix in ("train", "val"):
        found = steps[-1]
        assert found[f"{prefix}/loss"] == pytest.approx(math.log(2), abs=1e-6)
        for side in ("chosen", "rejected", "margin"):
            assert found[f"{prefix}/rewards/{side}"] == pytest.approx(0, abs=1e-6)
        assert found[f"{prefix}/log_ratio/chosen"] == pytest.approx(0, abs=1e-6)
        assert found[f"{prefix}/logps/chosen"] < -1


@pytest.mark.parametrize("start", STARTS)
def test_the_first_loss_is_ln_2(dpo, figures, start):
    assert_starts_at_ln2(figures(dpo("fit", "run", *STILL, *STARTS[start])))


@pytest.mark.parametrize("flags", [(), STARTS["nf4"], STARTS["precomputed"]], ids=["live", "nf4", "precomputed"])
def test_the_first_loss_of_a_continued_adapter_is_ln_2(dpo, figures, adapter, flags):
    assert_starts_at_ln2(figures(dpo("fit", "run", *STILL, *flags, "--model.policy.adapter", adapter)))
