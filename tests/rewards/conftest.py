"""A user's own rewards, good and bad, in a module of their own."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from lemma.rewards import RewardProcess

OWN = """
import ctypes
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np

CALLS = []
NUMBER = 5


class Judge:
    def __call__(self, completions, **columns):
        return [1.0] * len(completions)


judge = Judge()


def letters(completions, **columns):
    return [float(len(text)) for text in completions]


def from_columns(completions, answer, *, level, scale=1.0, shift, **columns):
    return [scale * len(gold) + each + shift for gold, each in zip(answer, level)]


def sort_of_numbers(completions, **columns):
    numbers = [True, np.float32(0.5), np.bool_(True), np.int64(3), np.array(4.0), Fraction(1, 4), None, 2]
    return numbers[: len(completions)]


def as_array(completions, **columns):
    return np.arange(len(completions))


def drawn(completions, **columns):
    return [random.random() for _ in completions]


def longest_allowed(completions, *, max_length, **columns):
    return list(max_length)


def num_calls(completions, **columns):
    CALLS.append(1)
    return [float(len(CALLS))] * len(completions)


def _on_bad(completions, act):
    return [act() if text == "bad" else float(len(text)) for text in completions]


def raising(completions, **columns):
    return _on_bad(completions, lambda: {}["no\\nkey"])


def leaving(completions, **columns):
    return _on_bad(completions, lambda: sys.exit("enough"))


def hanging(completions, **columns):
    def hang():
        while True:
            pass

    return _on_bad(completions, hang)


def hanging_in_c(completions, **columns):
    return _on_bad(completions, lambda: re.fullmatch("(a+)+b", "a" * 60))


def sleeping(completions, **columns):
    return _on_bad(completions, lambda: time.sleep(1000))


def waiting_for_a_child(completions, **columns):
    def wait():
        child = subprocess.Popen(["sleep", "1000"])
        with open(columns["problem"][0], "w") as file:
            file.write(str(child.pid))
        child.wait()

    return _on_bad(completions, wait)


def greedy(completions, **columns):
    return _on_bad(completions, lambda: float(len(bytearray(10 * 2**30))))


def suicidal(completions, **columns):
    return _on_bad(completions, lambda: os.kill(os.getpid(), signal.SIGKILL))


def crashing(completions, **columns):
    return _on_bad(completions, lambda: ctypes.string_at(0))


def not_a_number(completions, **columns):
    return _on_bad(completions, lambda: "high")


def complex_number(completions, **columns):
    return _on_bad(completions, lambda: 1j)


def nan(completions, **columns):
    return _on_bad(completions, lambda: math.nan)


def infinite(completions, **columns):
    return _on_bad(completions, lambda: -math.inf)


def too_large(completions, **columns):
    return _on_bad(completions, lambda: 10**400)


def too_few(completions, **columns):
    return [float(len(text)) for text in completions if text != "bad"]


def one_number(completions, **columns):
    return 1.0


def one_value(completions, **columns):
    return [1.0]


def no_columns(completions):
    return [1.0] * len(completions)


def no_completions(**columns):
    return []


def prompts_first(prompts, completions, **columns):
    return [1.0] * len(completions)


async def waiting(completions, **columns):
    return [1.0] * len(completions)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The import path of the module, with a dot behind it."""
    folder: Path = tmp_path_factory.mktemp("users")
    (folder / "own_rewards.py").write_text(textwrap.dedent(OWN), "utf-8")
    (folder / "broken_rewards.py").write_text("import own_rewards\n1 / 0\n", "utf-8")
    (folder / "half_rewards.py").write_text("import no_such_library.part\n", "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield "own_rewards."
    for name in ("own_rewards", "broken_rewards", "half_rewards"):  # or another test's of that name would not be found
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def process(own: str) -> Iterator[RewardProcess]:
    with RewardProcess(timeout=0.4) as process:
        yield process
