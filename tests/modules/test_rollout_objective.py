"""What a run minimises on its rollouts: a loss under another's name is warned of, a resumed run keeps all of it."""

import warnings
from dataclasses import fields

import pytest

from lemma.modules import GRPOModule
from lemma.modules.rollout_objective import RolloutObjective


def test_dr_grpo_that_divides_by_a_deviation_is_warned_of_by_flag():
    with pytest.warns(UserWarning, match=r"--model\.advantage_scale group divides .*: --model\.advantage_scale none"):
        GRPOModule(loss_type="dr_grpo")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GRPOModule(loss_type="dr_grpo", advantage_scale="none")
        GRPOModule()


def test_every_setting_of_the_objective_is_one_key_of_what_a_resumed_run_must_keep():
    one, other = GRPOModule().resume_settings(), GRPOModule(loss_type="cispo").resume_settings()
    assert {f"model.{field.name}" for field in fields(RolloutObjective)} <= one.keys() == other.keys()
    assert {name for name in one if one[name] != other[name]} == {
        *("model.loss_type", "model.clip_low", "model.clip_high", "model.delta")
    }
    assert one["model.clip_high"] == "0.28", "a bound that is not given is the loss's own"
