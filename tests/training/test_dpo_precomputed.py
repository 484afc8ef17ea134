"""A reference that was computed once trains the same policy as one that is computed for each batch."""

import pytest
from safetensors.torch import load_file

VALIDATED = ("--trainer.limit_val_batches", "1.0")
GRADUAL = ("--model.optimizer.eps", "1.0", "--model.optimizer.lr", "0.2")
FOUND = "pairs found in"


@pytest.fixture
def adapter(dpo):
    """Return the folder of an adapter that has moved away from its base."""
    return str(dpo("fit", "before", "--trainer.max_steps", "2") / "adapter")


@pytest.mark.parametrize("mode", ["fresh", "continued", "full"])
def test_precomputed_and_live_references_train_alike_and_what_was_computed_is_found_again(
    dpo, figures, caplog, request, tmp_path, assert_close, mode
):
    flags = [*VALIDATED, *GRADUAL, "--trainer.precision", "64-true", "--data.cache_dir", str(tmp_path / "cache")]
    if mode == "continued":
        flags += ["--model.policy.adapter", request.getfixturevalue("adapter")]
    elif mode == "full":
        flags += ["--model.policy.method", "full"]
    live = dpo("fit", "live", *flags)
    caplog.clear()
    once = dpo("fit", "once", *flags, "--model.reference", "precomputed")
    assert FOUND not in caplog.text
    again = dpo("fit", "again", *flags, "--model.reference", "precomputed")
    assert caplog.text.count(FOUND) == 2, "those trained on, and those held out"

    for other in (once, again):
        for ours, theirs in zip(figures(live), figures(other), strict=True):
            for name in ("train/loss", "train/rewards/margin", "val/loss", "val/rewards/margin"):
                assert (name in ours) == (name in theirs)
                assert ours.get(name, 0) == pytest.approx(theirs.get(name, 0), abs=1e-6), (ours["step"], name)
        weights = "model.safetensors" if mode == "full" else "adapter_model.safetensors"
        assert_close(load_file(live / "adapter" / weights), load_file(other / "adapter" / weights), 1e-6)
    assert figures(live)[-1]["val/loss"] < 0.69


def test_an_adapter_that_has_changed_in_its_folder_has_its_own_values(dpo, caplog, adapter, tmp_path):
    flags = ("--data.cache_dir", str(tmp_path / "cache"), "--trainer.max_steps", "2", "--model.reference")
    dpo("fit", "one", *flags, "precomputed", "--model.policy.adapter", adapter)
    caplog.clear()
    dpo("fit", "two", *flags, "precomputed", "--model.policy.adapter", str(tmp_path / "one" / "adapter"))
    assert FOUND not in caplog.text
