"""The adapter that training exports is the policy that was measured, without its reference."""

import pytest
import torch
from safetensors.torch import load_file

from lemma.encoding import padded
from lemma.ops import masked_sum
from lemma.policy import Policy, PolicyArgs
from lemma.types import Preference

VALIDATED = ("--trainer.limit_val_batches", "1.0")


@pytest.fixture
def held_out(encoder, pairs_rows):
    """Return the held-out pairs as one batch."""
    pairs = [
        Preference(str(i), "kept", (("user", row["prompt"]),), row["chosen"], row["rejected"])
        for i, row in enumerate(pairs_rows["kept"])
    ]
    return padded(list(encoder.encode_pairs(pairs)), pad_id=0, window_weight=1.0)


@pytest.mark.parametrize("start", ["fresh", "continued"])
def test_the_exported_adapter_has_the_margins_that_were_last_measured(dpo, figures, held_out, start):
    reference, flags = PolicyArgs(), VALIDATED
    if start == "continued":
        before = str(dpo("fit", "before", "--trainer.max_steps", "2") / "adapter")
        reference, flags = PolicyArgs(adapter=before), (*VALIDATED, "--model.policy.adapter", before)
    run = dpo("fit", "run", *flags)
    logged = figures(run)[-1]["val/rewards/margin"]
    assert abs(logged) > 0.05

    with torch.no_grad():
        ours, theirs = (
            masked_sum(Policy(args).eval()(held_out), held_out.mask).view(-1, 2)
            for args in (PolicyArgs(adapter=str(run / "adapter")), reference)
        )
    margins = 0.1 * ((ours - theirs)[:, 0] - (ours - theirs)[:, 1])
    assert float(margins.mean()) == pytest.approx(logged, abs=1e-5)
    names = load_file(run / "adapter" / "adapter_model.safetensors").keys()
    assert names
    assert not [name for name in names if "reference" in name]
    assert not (run / "adapter" / "reference").exists()


MODES = {
    "fresh": (),
    "precomputed": ("--model.reference", "precomputed"),
    "full": ("--model.policy.method", "full"),
    "continued": (),
}


@pytest.mark.parametrize("mode", MODES)
def test_validate_measures_the_pairs_of_a_checkpoint_and_no_margins_without_one(dpo, figures, mode):
    flags = (*VALIDATED, *MODES[mode])
    if mode == "continued":
        flags += ("--model.policy.adapter", str(dpo("fit", "before", "--trainer.max_steps", "2") / "adapter"))
    run = dpo("fit", "run", *flags)
    checkpoint = ("--ckpt_path", str(run / "checkpoints" / "last.ckpt"))
    logged, measured = figures(run)[-1], figures(dpo("validate", "validate", *flags, *checkpoint))[-1]
    names = {name for name in logged if name.startswith("val/")}
    assert {"val/loss", "val/rewards/margin", "val/rewards/accuracy", "val/kept/given/rewards/margin"} <= names
    assert abs(logged["val/rewards/margin"]) > 0.05
    for name in names:
        assert measured[name] == pytest.approx(logged[name], abs=1e-5), name

    (alone,) = figures(dpo("validate", "alone", *flags))
    assert not [name for name in alone if name.startswith("val/")]
