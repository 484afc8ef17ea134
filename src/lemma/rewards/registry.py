"""Which rewards there are, and what a user's own function must look like."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from lemma.rewards.graded import correctness
from lemma.rewards.layout import answer_format
from lemma.rewards.lengths import length, overlong
from lemma.rewards.repeats import repetition
from lemma.types import InputError, Verdict

RewardFunction = Callable[..., list[float | None]]
"""``function(completions, **columns)`` → N values, of which each depends on its own completion only; None leaves the
completion out of this reward. The columns are lists of N; options of its own are further named parameters."""

REWARDS: dict[str, RewardFunction] = {
    "correctness": correctness,
    "format": answer_format,
    "length": length,
    "overlong": overlong,
    "repetition": repetition,
}
"""Name → function. Their time is linear in the text: they run in the calling process."""

COLUMNS = (
    *("problem", "answer", "solution", "level", "subject", "source"),
    *("verdicts", "num_tokens", "stopped", "max_length"),
)
"""What a reward is told of each completion besides its text: of the problem as in ``Problem``; its ``Verdict``, its
length in tokens, whether a stop token ended it, and the longest length allowed, in tokens."""

_EXAMPLE = {"verdicts": Verdict.CORRECT, "num_tokens": 1, "stopped": True, "max_length": 2**30}


def reward_function(name: str) -> RewardFunction:
    """Return the function of a name in ``REWARDS`` or of an import path; a path's module is imported, nothing called.

    Raises:
        InputError: If there is no such name, module or attribute, or it is no function.
    """
    if name in REWARDS:
        return REWARDS[name]
    module_name, _, attribute = name.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in name.split(".")):
        known = ", ".join(REWARDS)
        raise InputError(
            f"rewards.name: expected one of {known}, or an import path such as my_package.my_reward, but got {name!r}."
        )
    try:
        module = _module(module_name)
    except Exception as error:  # whatever the user's module raises
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        what = f"there is no module {error.name}" if missing else f"the import raised {describe(error)}"
        hint = f" in the working directory {os.getcwd()} or on PYTHONPATH" if missing and "." not in error.name else ""
        raise InputError(f"rewards.name: {name}: {what}{hint}.") from error
    function = getattr(module, attribute, None)
    if function is None:
        raise InputError(f"rewards.name: {name}: the module {module_name} has no {attribute}.")
    if not callable(function) or inspect.isclass(function) or inspect.iscoroutinefunction(function):
        kind = "coroutine function" if inspect.iscoroutinefunction(function) else type(function).__name__
        raise InputError(f"rewards.name: expected {name} to be a plain function, but its type is {kind}.")
    return function


def _module(name: str) -> ModuleType:
    """Import a module; from the working directory, too, where the command ``lemma`` would not look by itself."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that no file there stands for a library; processes for rewards inherit it
    return importlib.import_module(name)


def check_call(name: str, options: Mapping[str, Any]) -> None:
    """Refuse a function that cannot be called with completions, columns and these options.

    A built-in one is called on one empty completion, which checks the options' values; a user's is not called.

    Raises:
        InputError: Names the reward, what it takes and what is wrong.
    """
    parameters = _parameters(name)
    named = {key for key, each in parameters.items() if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)}
    if "completions" not in named or not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        raise InputError(
            f"rewards.name: expected {name} to take `completions` and `**columns`, "
            f"but its parameters are ({', '.join(map(str, parameters.values()))})."
        )
    for key, each in parameters.items():
        needed = each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        if needed and key not in ("completions", *COLUMNS, *options):
            known = ", ".join(COLUMNS)
            raise InputError(
                f"rewards.{name}: it takes `{key}`, which is neither in its options nor a column ({known})."
            )
    takes = sorted(named - {"completions"} - (set(COLUMNS) - {"max_length"}))
    for key in options:
        if key not in takes:
            among = f"keys among {', '.join(takes)}" if takes else "none, for it takes none"
            raise InputError(f"rewards.{name}.options: expected {among}, but got {key!r}.")
    if name in REWARDS:
        try:
            REWARDS[name]([""], **keywords(options, {key: [value] for key, value in _EXAMPLE.items()}, 1))
        except (TypeError, ValueError) as error:
            raise InputError(f"rewards.{name}.options: {error}") from error


def needed_columns(name: str) -> list[str]:
    """Return the columns without which a reward cannot be computed."""
    return [key for key, each in _parameters(name).items() if key in COLUMNS and each.default is each.empty]


def keywords(options: Mapping[str, Any], columns: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return what a function is called with besides the completions.

    An option with the name of a column (``max_length``) takes its place, the same for each of ``size`` completions.
    """
    given = {key: [value] * size if key in COLUMNS else value for key, value in options.items()}
    return {**columns, **given}


def describe(error: BaseException) -> str:
    """Return an exception as one line: its type and message."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:500]}" if text else type(error).__name__


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(reward_function(name)).parameters)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"rewards.name: expected {name} to be a Python function with a signature.") from error
