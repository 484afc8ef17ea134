"""How a configuration asks for rewards, and what is refused before anything is computed."""

import dataclasses
import sys

import pytest

from lemma.rewards import (
    REWARDS,
    RewardArgs,
    check_rewards,
    compute_rewards,
    given_reward_args,
    reward_args,
    reward_settings,
)
from lemma.types import InputError


def test_every_built_in_reward_can_be_asked_for_by_its_name_alone():
    assert list(REWARDS) == ["correctness", "format", "length", "overlong", "repetition"]
    for name in REWARDS:
        assert reward_args(name) == RewardArgs(name, 1.0, {}, "none", None, None)


def test_an_import_path_is_imported_and_nothing_of_it_is_called(own):
    args = RewardArgs(own + "num_calls")
    assert args.key == "num_calls"
    assert not args.is_built_in
    assert sys.modules["own_rewards"].CALLS == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("corectness", "one of correctness, format, length, overlong, repetition, or an import path .* 'corectness'"),
        ("", "import path"),
        ("own_rewards.", "import path"),
        ("own_rewards:letters", "import path"),
        ("no_such_package.rewards.mine", "no module no_such_package in the working directory /.* or on PYTHONPATH"),
        ("own_rewards.rewards.mine", "no module own_rewards.rewards"),
        ("half_rewards.mine", "import raised ModuleNotFoundError: No module named 'no_such_library'"),
        ("broken_rewards.mine", "import raised ZeroDivisionError: division by zero"),
        ("own_rewards.mine", "module own_rewards has no mine"),
        ("own_rewards.NUMBER", "plain function, but its type is int"),
        ("own_rewards.Judge", "plain function, but its type is type"),
        ("own_rewards.math", "plain function, but its type is module"),
        ("own_rewards.waiting", "plain function, but its type is coroutine function"),
        ("own_rewards.no_columns", r"`completions` and `\*\*columns`, but its parameters are \(completions\)"),
        ("own_rewards.no_completions", r"`completions` and `\*\*columns`, but its parameters are \(\*\*columns\)"),
        ("own_rewards.prompts_first", "takes `prompts`, which is neither in its options nor a column .problem, answer"),
        ("own_rewards.from_columns", "takes `shift`"),
    ],
)
def test_a_function_that_cannot_be_had_is_refused_with_its_path_and_what_is_wrong(own, name, says):
    with pytest.raises(InputError, match=f"rewards.*{says}") as error:
        RewardArgs(name)
    assert name in str(error.value)


def test_a_module_in_the_working_directory_is_found_after_every_library(tmp_path, monkeypatch):
    """The command `lemma` does not look there by itself, and a file named as a library must not stand for it."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != ""])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside_me.py").write_text("def mine(completions, **columns):\n    return [7.0] * len(completions)\n")
    (tmp_path / "fractions.py").write_text("raise RuntimeError")  # the worker would not start
    args = RewardArgs("beside_me.mine")
    assert sys.path[-1] == str(tmp_path)
    assert compute_rewards([args], ["a"], {}).values == [[7.0]]


def test_what_becomes_of_failures_may_change_where_a_run_goes_on():
    assert reward_settings([RewardArgs("format", 0.5, on_failure=0, timeout=60)]) == [{"name": "format", "weight": 0.5}]


def test_a_callable_object_is_a_function_too(own):
    assert RewardArgs(own + "judge").key == "judge"


def test_options_are_checked_against_the_signature(own):
    assert RewardArgs(own + "from_columns", options={"shift": 1, "scale": 2}).options == {"shift": 1, "scale": 2}
    for options in ({"shift": 1, "scael": 2}, {"shift": 1, "answer": "5"}, {"shift": 1, "completions": []}):
        key = list(options)[-1]
        with pytest.raises(InputError, match=rf"from_columns.options: .*among scale, shift, but got '{key}'"):
            RewardArgs(own + "from_columns", options=options)
    with pytest.raises(InputError, match=r"letters.options: expected none, for it takes none, but got 'scale'"):
        RewardArgs(own + "letters", options={"scale": 1})


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("format", {"style": "xml"}, "format.options: expected `style` to be one of tags, boxed, but got 'xml'"),
        ("format", {"stile": "tags"}, "format.options: .*among penalty, reward, style, but got 'stile'"),
        ("correctness", {"correct": "many"}, "correctness.options: expected `correct` to be a number"),
        ("correctness", {"verdicts": "correct"}, "correctness.options: .*'verdicts'"),
        ("overlong", {"cache": 0.5}, "overlong.options: expected `cache`"),
        (
            "overlong",
            {"cache": 20, "max_length": 10},
            "overlong.options: expected `cache` to be at most max_len",
        ),
        ("overlong", {"max_length": 0}, "overlong.options: expected `max_length` to be at least 1"),
        ("length", {"long_wrong": None}, "length.options: expected `long_wrong`"),
        ("repetition", {"ngram_size": "3"}, "repetition.options: expected `ngram_size`"),
        ("repetition", ["ngram_size"], "repetition.options: expected a mapping"),
    ],
)
def test_a_built_in_reward_s_options_are_refused_at_construction(name, options, says):
    with pytest.raises(InputError, match=says):
        RewardArgs(name, options=options)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"weight": float("nan")}, "rewards.format.weight"),
        ({"weight": True}, "rewards.format.weight"),
        ({"on_failure": "zero"}, "rewards.format.on_failure: expected error, none or a number, but got 'zero'"),
        ({"on_failure": None}, "rewards.format.on_failure"),
        ({"on_failure": float("inf")}, "rewards.format.on_failure"),
        ({"timeout": 0}, "rewards.format.timeout: expected a number above 0, but got 0"),
        ({"timeout": "long"}, "rewards.format.timeout"),
        ({"label": "a b"}, "rewards.format.label"),
        ({"label": ""}, "rewards.format.label"),
        ({"wieght": 1}, "rewards.format: expected keys among name, weight, .*'wieght'"),
    ],
)
def test_other_keys_are_refused_by_name(keys, says):
    with pytest.raises(InputError, match=says):
        reward_args({"name": "format", **keys})


@pytest.mark.parametrize("value", [None, 5, {}, {"weight": 1}, ["format"]])
def test_what_names_no_reward_is_refused(value):
    with pytest.raises(InputError, match="rewards: expected a name or a mapping"):
        reward_args(value)
    with pytest.raises(InputError, match=r"rewards\.name"):
        reward_args({"name": value})


def test_a_mapping_comes_back_as_it_was_given():
    given = {"name": "format", "weight": 0.5, "options": {"style": "boxed"}, "label": "boxed"}
    assert given_reward_args(reward_args(given)) == given
    assert given_reward_args(RewardArgs("format")) == {"name": "format"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        reward_args(given).weight = 2.0


def test_rewards_that_cannot_stand_together_are_refused():
    check_rewards([RewardArgs("format"), RewardArgs("format", options={"style": "boxed"}, label="boxed")])
    with pytest.raises(InputError, match=r"rewards\.label: .*'format' stands twice"):
        check_rewards([RewardArgs("format"), RewardArgs("format")])
    for none in ([], [RewardArgs("format", weight=0.0)]):
        with pytest.raises(InputError, match="at least one"):
            check_rewards(none)
