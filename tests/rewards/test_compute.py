"""Users' rewards that fail in every way: counted, within the deadline, and the others' values intact."""

import copy
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lemma.rewards import FailureTally, RewardArgs, RewardProcess, compute_rewards, refuse_useless, total
from lemma.rewards.compute import MAX_DEATHS, MAX_TIMEOUTS
from lemma.types import InputError

TEXTS = ["a", "bad", "ccc"]
INTACT = [[1.0], [None], [3.0]]
LIMIT = 0.4  # seconds of CPU time, the fixture's
ALLOWANCE = 8.0  # seconds, for the start of processes on a machine under load
BY_EITHER_CLOCK = "0[.]4 s of CPU time|no answer after 1[.]6 s"  # a busy machine may give too little of the first


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("raising", "raised", "KeyError: "),
        ("leaving", "raised", "SystemExit: enough"),
        ("greedy", "raised", "MemoryError"),
        ("hanging", "timed_out", BY_EITHER_CLOCK),
        ("hanging_in_c", "timed_out", BY_EITHER_CLOCK),
        ("sleeping", "timed_out", "no answer after 1[.]6 s"),
        ("suicidal", "died", "code -9"),
        ("crashing", "died", "code -11"),
        ("not_a_number", "not_a_number", "'high'"),
        ("complex_number", "not_a_number", "1j"),
        ("nan", "not_finite", "nan"),
        ("infinite", "not_finite", "-inf"),
        ("too_large", "not_finite", "inf"),
    ],
)
def test_a_reward_that_fails_on_one_completion_is_counted_and_the_others_are_intact(own, process, name, kind, says):
    start = time.monotonic()
    table = compute_rewards([RewardArgs(own + name)], TEXTS, {}, process=process)
    assert time.monotonic() - start < 2 * 4 * LIMIT + ALLOWANCE  # the batch and the one completion, in wall time
    assert table.values == INTACT
    assert table.tally.counts == {(name, kind): 1}
    culprit = table.failures[-1]
    assert (culprit.index, culprit.kind) == (1, kind)
    assert re.search(says, culprit.message)
    assert "\n" not in culprit.message
    [line] = table.tally.report()
    assert line.startswith(f'Reward "{name}" failed on 1 of 3 completions: ')
    # alone the values are the same
    alone = [compute_rewards([RewardArgs(own + name)], [text], {}, process=process).values[0] for text in TEXTS[::2]]
    assert alone == INTACT[::2]


def test_a_failure_becomes_what_is_configured_and_never_a_zero_by_itself(own, process):
    def values(on_failure):
        args = RewardArgs(own + "nan", on_failure=on_failure)
        return compute_rewards([args], TEXTS, {}, process=process)

    assert values("none").values == INTACT
    assert values(-2).values == [[1.0], [-2.0], [3.0]]
    assert values(-2).tally.counts == {("nan", "not_finite"): 1}  # counted all the same
    with pytest.raises(InputError, match=r"own_rewards.nan: not finite on completion 1: .*got nan"):
        values("error")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("one_number", "it returned a float, not a list of 3 values"),
        ("too_few", "it returned 2 values for 3 completions"),
        ("one_value", "it returned 1 values for 3 completions"),
    ],
)
def test_a_wrong_number_of_values_is_not_tried_one_by_one(own, process, name, says):
    """One value for the whole batch was taken as the value of each completion alone."""
    table = compute_rewards([RewardArgs(own + name)], TEXTS, {}, process=process)
    assert table.values == [[None]] * 3
    assert table.tally.report() == [f'Reward "{name}" failed on 3 of 3 completions: {says}.']


def test_an_error_names_the_line_of_the_user_s_module(own, process):
    [failure] = compute_rewards([RewardArgs(own + "raising")], ["bad"], {}, process=process).failures[1:]
    file = Path(sys.modules["own_rewards"].__file__)
    [line] = [number for number, text in enumerate(file.read_text().splitlines(), 1) if '["no\\nkey"]' in text]
    assert failure.message.endswith(f"({file}:{line})")


def test_a_function_that_hangs_is_given_up_after_two_completions(own, process):
    """It was tried on eight, 20 s each, in every rollout."""
    start = time.monotonic()
    table = compute_rewards([RewardArgs(own + "sleeping", timeout=0.1)], ["bad"] * 9, {}, process=process)
    assert time.monotonic() - start < 3 * 4 * 0.1 + ALLOWANCE
    assert table.tally.counts == {("sleeping", "timed_out"): MAX_TIMEOUTS, ("sleeping", "not_tried"): 7}
    assert "no answer after 0.4 s, 4 times its timeout" in table.tally.report()[0]


def test_a_reward_that_fails_on_everything_is_refused_over_all_batches_unless_a_value_stands_for_it(own, process):
    def tally(name: str, *batches: list[str]) -> FailureTally:
        args = [RewardArgs("format"), RewardArgs(own + name)]
        return sum((compute_rewards(args, texts, {}, process=process).tally for texts in batches), FailureTally())

    def refuse(name: str, failed: FailureTally, **options) -> None:
        refuse_useless([RewardArgs("format"), RewardArgs(own + name, **options)], failed)

    failed = tally("nan", ["bad", "bad"], ["bad"])
    with pytest.raises(InputError, match=r'"own_rewards.nan" failed on all 3 completions .*got nan.*on_failure: 0'):
        refuse("nan", failed)
    refuse("nan", failed, on_failure=0)
    refuse("nan", tally("nan", ["bad", "bad"], ["good"]))
    refuse("nan", FailureTally())


def test_completions_that_end_their_process_are_tried_up_to_a_bound(own, process):
    texts = ["bad"] * (MAX_DEATHS + 2) + ["a"]
    table = compute_rewards([RewardArgs(own + "suicidal")], texts, {}, process=process)
    assert table.values == [[None]] * len(texts)
    assert table.tally.counts == {("suicidal", "died"): MAX_DEATHS, ("suicidal", "not_tried"): 3}
    assert compute_rewards([RewardArgs(own + "suicidal")], ["a"], {}, process=process).values == [[1.0]]


def test_truth_values_and_numbers_of_any_kind_are_numbers_and_none_passes(own, process):
    table = compute_rewards([RewardArgs(own + "sort_of_numbers")], [""] * 8, {}, process=process)
    assert [row[0] for row in table.values] == [1.0, 0.5, 1.0, 3.0, 4.0, 0.25, None, 2.0]
    assert all(type(row[0]) in (float, type(None)) for row in table.values)
    assert table.failures == []
    table = compute_rewards([RewardArgs(own + "as_array")], TEXTS, {}, process=process)
    assert table.values == [[0.0], [1.0], [2.0]]


def test_columns_and_options_reach_the_function(own, process):
    args = RewardArgs(own + "from_columns", options={"shift": 100, "scale": 10})
    columns = {"answer": ["x", "yy", ""], "level": [1, 2, 3], "source": ["s"] * 3}
    assert compute_rewards([args], TEXTS, columns, process=process).values == [[111.0], [122.0], [103.0]]


def test_an_option_named_as_a_column_takes_its_place(own, process):
    columns = {"num_tokens": [1, 85, 100], "max_length": [1000] * 3}
    ours = [RewardArgs(own + "longest_allowed"), RewardArgs("overlong", options={"max_length": 100, "cache": 20})]
    assert compute_rewards(ours, TEXTS, columns, process=process).values == [[1000, 0.0], [1000, -0.25], [1000, -1.0]]
    own_limit = RewardArgs(own + "longest_allowed", options={"max_length": 7})
    assert compute_rewards([own_limit], TEXTS, columns, process=process).values == [[7.0]] * 3


def test_missing_and_uneven_columns_are_refused_by_name(own):
    with pytest.raises(InputError, match=r"rewards.correctness: .*column verdicts"):
        compute_rewards([RewardArgs("correctness")], TEXTS, {})
    with pytest.raises(InputError, match="expected 3 values of verdicts, but got 2"):
        compute_rewards([RewardArgs("correctness")], TEXTS, {"verdicts": ["wrong"] * 2})
    with pytest.raises(InputError, match=r"from_columns: .*column answer"):
        compute_rewards([RewardArgs(own + "from_columns", options={"shift": 1})], TEXTS, {})
    args = [RewardArgs("overlong", options={"cache": 20})]
    with pytest.raises(InputError, match=r"rewards.overlong: expected `cache` to be at most max_length, 10"):
        compute_rewards(args, ["a"], {"num_tokens": [1], "max_length": [10]})


def test_the_total_is_weighted_and_leaves_none_out(own, process):
    args = [RewardArgs("correctness", 2.0), RewardArgs(own + "letters", 0.5), RewardArgs("format", 0.0)]
    columns = {"verdicts": ["correct", "timeout", "wrong"]}
    table = compute_rewards(args, TEXTS, columns, process=process)
    assert table.names == ["correctness", "letters", "format"]
    assert table.weights == [2.0, 0.5, 0.0]
    assert table.values == [[5.0, 1.0, -1.0], [None, 3.0, -1.0], [0.0, 3.0, -1.0]]
    assert table.totals == [2 * 5 + 0.5 * 1, 0.5 * 3, 0.5 * 3]
    assert total([None, None], [1.0, 2.0]) is None
    assert total([None, 0.0], [1.0, 2.0]) == 0.0


def test_built_in_rewards_start_no_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lemma.rewards.process.WORKER_MODULE", "no_such_module")
    assert compute_rewards([RewardArgs("format")], ["x"], {}).values == [[-1.0]]
    assert compute_rewards([RewardArgs("format")], [], {}).values == []


def test_a_call_depends_on_nothing_that_was_called_before_and_the_process_stays(own, process):
    drawn = RewardArgs(own + "drawn")
    first = compute_rewards([drawn], TEXTS, {}, process=process).values
    assert compute_rewards([drawn], TEXTS, {}, process=process).values == first
    with RewardProcess() as another:
        assert compute_rewards([drawn], TEXTS, {}, process=another).values == first
    counted = [compute_rewards([RewardArgs(own + "num_calls")], ["a"], {}, process=process) for _ in range(2)]
    assert [table.values for table in counted] == [[[1.0]], [[2.0]]]  # its module is imported once


def test_it_works_from_several_threads_at_once(own, process):
    found: list[list] = []

    def compute():
        found.append(compute_rewards([RewardArgs(own + "suicidal")], TEXTS, {}, process=process).values)

    threads = [threading.Thread(target=compute) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == [INTACT] * 3


def test_without_a_process_given_one_is_started_and_ended(own):
    before = children()
    assert compute_rewards([RewardArgs(own + "letters")], TEXTS, {}).values == [[1.0], [3.0], [3.0]]
    assert children() == before


def test_what_a_function_started_ends_with_it(own, process, tmp_path: Path):
    columns = {"problem": [str(tmp_path / "pid")] * 3}
    table = compute_rewards([RewardArgs(own + "waiting_for_a_child")], TEXTS, columns, process=process)
    assert table.values == INTACT
    assert table.failures[-1].kind == "timed_out"
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_a_copy_has_the_limits_and_its_own_process(own, process):
    other = copy.deepcopy(process)
    assert (other.timeout, other.max_memory) == (process.timeout, process.max_memory)
    assert other._children is not process._children


def test_a_forked_process_has_one_of_its_own(own, process):
    assert process.call(own + "letters", ["a"], {}) == [1.0]
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with process._lock:
            held.set()
            forked.wait(60)

    other = threading.Thread(target=hold)  # is computing at the moment of the fork
    other.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        os._exit(0 if process.call(own + "letters", ["bb"], {}) == [2.0] else 1)
    forked.set()
    other.join()
    assert os.waitpid(pid, 0)[1] == 0
    assert process.call(own + "letters", ["ccc"], {}) == [3.0]


def test_impossible_limits_are_refused_at_construction():
    with pytest.raises(ValueError, match="timeout"):
        RewardProcess(timeout=0)
    with pytest.raises(ValueError, match="max_memory"):
        RewardProcess(max_memory=0)


@pytest.mark.parametrize("ending", ["", "os.kill(os.getpid(), 9)"])
def test_an_interpreter_that_ends_or_is_killed_leaves_no_process(own, ending):
    code = (
        "import os, threading, time; from lemma.rewards import RewardProcess; process = RewardProcess(timeout=100);"
        f"process.call('{own}letters', ['a'], {{}});"
        "print(process._children[0]._process.pid, flush=True);"
        f"threading.Thread(target=process.call, args=('{own}sleeping', ['bad'], {{}}), daemon=True).start();"
        f"time.sleep(0.3); {ending}"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60, env=environment
    )  # fmt: skip
    assert done.returncode == (-9 if ending else 0)
    assert not is_running(int(done.stdout))


def is_running(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        time.sleep(0.05)
    return True


def children() -> set[str]:
    """Return the processes that this one started, the dead ones that it has not waited for included."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.add(status.parent.name)
    return found
