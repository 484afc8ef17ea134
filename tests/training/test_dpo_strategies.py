"""Under a sharded strategy policy and reference are those of one process."""

import pytest
from safetensors.torch import load_file

VALIDATED = ("--trainer.limit_val_batches", "1.0", "--trainer.val_check_interval", "2")
# Adam's epsilon keeps updates in proportion to gradients, so that one of the wrong size shows
GRADUAL = ("--model.optimizer.eps", "1.0", "--model.optimizer.lr", "0.2", "--trainer.accumulate_grad_batches", "2")
FIGURES = ("loss", "rewards/margin", "log_ratio/chosen", "logps/rejected")


@pytest.fixture
def adapter(dpo):
    """Return the folder of an adapter that has moved away from its base."""
    return str(dpo("fit", "before", "--trainer.max_steps", "2", "--model.policy.lora.r", "3") / "adapter")


@pytest.mark.parametrize("strategy", ["fsdp2", "fsdp"])
@pytest.mark.parametrize("mode", ["continued", "full", "precomputed"])
def test_two_shards_train_and_measure_pairs_as_one_process(
    dpo, figures, request, last_checkpoint, assert_close, strategy, mode
):
    if (strategy, mode) == ("fsdp", "precomputed"):
        pytest.skip("as under fsdp2")
    flags = [*VALIDATED, *GRADUAL, "--trainer.precision", "64-true", "--trainer.gradient_clip_val", "0.3"]
    if mode == "full":
        flags += ["--model.policy.method", "full"]
    else:
        flags += ["--model.policy.adapter", request.getfixturevalue("adapter")]
    if mode == "precomputed":
        flags += ["--model.reference", "precomputed"]
    one = dpo("fit", "one", *flags, "--data.batch_size", "4")
    two = dpo("fit", "two", *flags, "--data.batch_size", "2", "--trainer.strategy", strategy, ranks=2)

    ours, theirs = last_checkpoint(one), last_checkpoint(two)
    for key in ("state_dict", "optimizer_states", "reference"):  # whole tensors, under the same names and numbers
        assert (key in ours) == (key in theirs) == (key != "reference" or mode == "continued")
        if key in ours:
            assert_close(ours[key], theirs[key], 1e-6)
    name = "model.safetensors" if mode == "full" else "adapter_model.safetensors"
    assert_close(load_file(one / "adapter" / name), load_file(two / "adapter" / name), 1e-6)
    assert len(figures(one)) == len(figures(two)) == 4  # after each of three steps, and at the end
    for step, other in zip(figures(one), figures(two), strict=True):
        for figure in FIGURES:
            for part in ("train", "val"):
                assert step[f"{part}/{figure}"] == pytest.approx(other[f"{part}/{figure}"], rel=1e-5, abs=1e-6)
    if mode == "continued":  # each rank takes its share of the checkpoint's reference
        checkpoint = ("--ckpt_path", str(two / "checkpoints" / "last.ckpt"))
        measured = figures(dpo("validate", "measured", *flags, *checkpoint, "--trainer.strategy", strategy, ranks=2))
        assert measured[-1]["val/rewards/margin"] == pytest.approx(figures(one)[-1]["val/rewards/margin"], rel=1e-5)
    assert figures(one)[-1]["val/rewards/margin"] > 1e-3
    assert figures(one)[-1]["val/rewards/accuracy"] == figures(two)[-1]["val/rewards/accuracy"]
