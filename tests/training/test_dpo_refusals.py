"""What cannot train on pairs is refused in one line that names the key; what trains badly is warned of."""

import json
import warnings

import pytest

PROBLEMS = json.dumps([{"name": "arithmetic", "max_rows": 12}])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--model", "lemma.modules.SFTModule"),
            r"model.class_path: SFTModule trains on problems, but data.corpora \(heavy, light\) holds preference "
            "pairs; train on them with lemma.modules.DPOModule",
        ),
        (
            ("--data.corpora", PROBLEMS, "--data.held_out", "[]"),
            r"model.class_path: DPOModule trains on preference pairs .*data.corpora \(arithmetic\) holds problems",
        ),
        (("--model.loss_type", "sigmiod"), "model.loss_type: expected one of sigmoid, .*, but got 'sigmiod'"),
        (("--model.loss_type", "{sigmoid: 1, rpo: 1}"), "model.loss_type: expected one of .*, but got 'rpo'"),
        (("--model.beta", "0"), "model.beta: .*> 0, but got 0"),
        (("--model.gamma", "1"), "model.gamma: no loss of model.loss_type sigmoid takes it"),
        (("--model.policy.lora.dropout", "0.1"), "model.policy.lora.dropout: 0.1 has no effect under disable_dropout"),
        (("--model.reference", "cached"), "model.reference: expected one of live, precomputed, but got 'cached'"),
        (
            ("--model.reference", "precomputed", "--model.loss_type", "simpo"),
            "model.reference: simpo has no reference that could be precomputed",
        ),
        (
            ("--model.reference", "precomputed", "--data.cache_dir", "null"),
            "data.cache_dir: expected a folder for model.reference precomputed, but got null",
        ),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_what_cannot_work_is_one_line_that_names_the_key(dpo, flags, message):
    with pytest.raises(SystemExit, match=rf"^lemma: error: {message}") as exit_info:
        dpo("fit", "run", *flags)
    assert "\n" not in str(exit_info.value.code)


def test_dropout_trains_where_it_is_asked_for(dpo, figures):
    without = figures(dpo("fit", "without"))
    flags = ("--model.disable_dropout", "false", "--model.policy.lora.dropout", "0.5")
    dropped = figures(dpo("fit", "dropped", *flags))
    assert dropped[2]["train/rewards/margin"] != pytest.approx(without[2]["train/rewards/margin"], abs=1e-3)


@pytest.mark.parametrize(
    ("flags", "refused"),
    [
        (("--model.policy.method", "full"), True),
        (("--model.policy.method", "full", "--model.reference", "precomputed"), False),
        (("--model.policy.method", "full", "--model.loss_type", "simpo"), False),
        ((), False),
    ],
)
def test_stage_3_is_refused_where_a_reference_is_loaded(dpo, flags, refused):
    with pytest.raises(SystemExit, match="use bf16-true") as error:  # another rule that is broken, for it to end here
        dpo("fit", "run", *flags, "--trainer.strategy", "deepspeed_stage_3", "--trainer.precision", "16-true")
    assert ("--model.reference precomputed, or fsdp2" in str(error.value)) == refused


@pytest.mark.parametrize("loss_type", ["simpo", "orpo", "{simpo: 1.0, sft: 0.1}"])
def test_losses_without_a_reference_load_none_and_log_no_ratio_to_it(dpo, figures, monkeypatch, loss_type):
    monkeypatch.setattr("lemma.policy.policy.Policy.add_reference", None)
    monkeypatch.setattr("lemma.policy.policy.Policy.as_reference", None)
    flags = ("--model.policy.method", "full", "--model.loss_type", loss_type, "--model.optimizer.lr", "0.001")
    last = figures(dpo("fit", "run", *flags, "--trainer.limit_val_batches", "1.0"))[-1]
    assert last["train/rewards/chosen"] < 0, "beta x the mean log-probability of a token"
    assert "val/rewards/margin" in last
    assert not [name for name in last if "log_ratio" in name]


def test_saturated_margins_are_warned_of_once(dpo):
    flags = (
        "--model.optimizer.lr",
        "0.01",
        "--data.batch_size",
        "1",
        "--trainer.max_epochs",
        "4",
        "--model.beta",
        "200",
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dpo("fit", "run", *flags)
    said = [str(warning.message) for warning in caught if "train/rewards/saturated" in str(warning.message)]
    assert len(said) == 1
    assert "--model.loss_type ipo" in said[0]
