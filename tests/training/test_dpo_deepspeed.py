"""Under DeepSpeed policy and reference are those of one process."""

import pytest
from safetensors.torch import load_file

pytest.importorskip("deepspeed")

VALIDATED = ("--trainer.limit_val_batches", "1.0", "--trainer.val_check_interval", "2")
# Adam's epsilon keeps updates in proportion to gradients, so that one of the wrong size shows
GRADUAL = ("--model.optimizer.eps", "1.0", "--model.optimizer.lr", "0.2", "--trainer.accumulate_grad_batches", "2")


@pytest.mark.parametrize(
    ("strategy", "mode"),
    [
        ("deepspeed_stage_2", "fresh"),
        ("deepspeed_stage_2", "continued"),
        ("deepspeed_stage_2", "full"),
        ("deepspeed_stage_3", "fresh"),
        ("deepspeed_stage_3", "precomputed"),
        ("deepspeed_stage_3", "full precomputed"),
    ],
)
def test_two_ranks_train_and_measure_pairs_as_one_process(dpo, figures, assert_close, strategy, mode):
    flags = [*VALIDATED, *GRADUAL]
    if "full" in mode:
        flags += ["--model.policy.method", "full"]
    elif mode != "fresh":
        flags += ["--model.policy.adapter", str(dpo("fit", "before", "--trainer.max_steps", "2") / "adapter")]
    if "precomputed" in mode:
        flags += ["--model.reference", "precomputed"]
    one = dpo("fit", "one", *flags, "--data.batch_size", "4")
    two = dpo("fit", "two", *flags, "--data.batch_size", "2", "--trainer.strategy", strategy, ranks=2)
    name = "model.safetensors" if "full" in mode else "adapter_model.safetensors"
    assert_close(load_file(one / "adapter" / name), load_file(two / "adapter" / name), 1e-5)
    for step, other in zip(figures(one), figures(two), strict=True):
        for figure in ("train/loss", "train/rewards/margin", "val/loss", "val/rewards/margin"):
            assert step[figure] == pytest.approx(other[figure], abs=1e-5), (step["step"], figure)
