"""`lemma predict` through the real command line: rows, what a kill leaves, ranks, servers, what is refused."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from serving import schedule, serve_policy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lemma.cli import main
from lemma.corpora import CorpusArgs, load_corpus
from lemma.datamodule.rounds import Rounds
from lemma.evaluation import RowFile, read_records
from lemma.generation import LocalEngine
from lemma.rollouts import BanditArgs, Posterior

ROOT = Path(__file__).parents[1]
NUM_PROBLEMS, NUM_TRAJECTORIES, ROUND = 14, 4, 4
ARMS = ("direct", "twice", "slow")
MODEL = {
    "class_path": "lemma.modules.TrajectoryModule",
    "init_args": {
        "policy": {"base": "tiny"},
        "arms": [
            {"name": "direct", "template": "basic", "temperature": 0.8},
            {"name": "twice", "template": "solve_twice"},
            {"name": "slow", "template": "step_by_step", "shots": 1},
        ],
        "num_trajectories": NUM_TRAJECTORIES,
        "round_problems": ROUND,
        "max_new_tokens": 32,
    },
}
CONFIG = {
    "seed_everything": 0,
    "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
    "model": MODEL,
    "data": {"corpora": [{"name": "arithmetic", "max_rows": NUM_PROBLEMS}], "held_out_share": 0.0},
}
LOCAL = ["--trainer.logger", "false"]


@pytest.fixture
def config(tmp_path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return str(path)


@pytest.fixture
def lemma(config, monkeypatch):
    """Run the command line in this process."""

    def run(verb: str, *args: str) -> None:
        monkeypatch.setattr(sys, "argv", ["lemma", verb, "--config", config, *args])
        main()

    return run


@pytest.fixture
def start(config):
    """Return a function that starts `lemma predict` in a process of its own."""
    processes = []

    def run(folder: Path, *args: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "lemma", "predict", "--config", config, *LOCAL, *args]
        command += ["--trainer.default_root_dir", str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()


def merged(folder: Path) -> str:
    return (folder / "predict" / "trajectories.jsonl").read_text()


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in merged(folder).splitlines()]


def trajectories(folder: Path) -> set[tuple]:
    return {
        (row["problem_id"], *each)
        for row in rows(folder)
        for each in zip(row["samples"], row["arms"], row["completions"], strict=True)
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Return the folder of a run that nothing interrupts, on one rank."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "own.yaml").write_text(yaml.safe_dump(CONFIG))
    flags = ["--config", str(folder / "own.yaml"), *LOCAL, "--trainer.default_root_dir", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lemma", "predict", *flags])
        main()
    return folder


def test_every_problem_is_a_row_that_readers_of_records_read_and_arms_follow_from_the_rows(whole):
    found = rows(whole)
    assert [row["place"] for row in found] == list(range(NUM_PROBLEMS))
    assert len({row["problem_id"] for row in found}) == NUM_PROBLEMS
    assert [row["round"] for row in found] == [place // ROUND for place in range(NUM_PROBLEMS)]
    assert all(len(row[name]) == NUM_TRAJECTORIES for row in found for name in ("arms", "scores", "rewards", "votes"))
    path = whole / "predict" / "trajectories.jsonl"
    assert sorted(file.name for file in path.parent.iterdir()) == ["config.yaml", "run.json", "trajectories.jsonl"]

    records = list(read_records(path))
    assert sum(record.num_correct for record in records) > 0
    pairs = load_corpus(CorpusArgs("graded", path=str(path), on_bad_row="skip"), root=None, seed=0)
    assert 0 < len(pairs.items) <= NUM_PROBLEMS

    posterior = Posterior(BanditArgs(), len(ARMS))
    for first in range(0, NUM_PROBLEMS, ROUND):
        some = list(zip(found, records, strict=True))[first : first + ROUND]
        chosen = [posterior.choose(record.problem, NUM_TRAJECTORIES, seed=0) for _, record in some]
        assert [[ARMS[arm] for arm in arms] for arms in chosen] == [row["arms"] for row, _ in some]
        for (row, record), arms in zip(some, chosen, strict=True):
            posterior.earn(record.problem, arms, [float(verdict == "correct") for verdict in row["verdicts"]])


def test_a_killed_run_goes_on_without_repeating_or_losing_a_problem(lemma, start, whole, tmp_path, caplog):
    folder = tmp_path / "killed"
    process, journal = start(folder), folder / "predict" / "trajectories-rank0.jsonl"
    end = time.monotonic() + 120
    while not journal.exists() or len(journal.read_bytes().splitlines()) <= ROUND + 1:  # in the middle of a round
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.002)
    process.kill()
    process.wait()
    kept = journal.read_text().split("\n")[1:-1]
    assert ROUND < len(kept) < NUM_PROBLEMS

    lemma("predict", *LOCAL, "--trainer.default_root_dir", str(folder))
    assert f"resumed: {len(kept)} of {NUM_PROBLEMS} problems" in caplog.text
    assert set(kept) <= set(merged(folder).splitlines()), "what was finished stands as it was"
    assert trajectories(folder) == trajectories(whole)
    assert not list(journal.parent.glob("*rank*"))


def test_torn_and_spoilt_rows_are_drawn_again_and_the_files_of_all_ranks_are_taken(lemma, monkeypatch, whole, tmp_path):
    class PowerCutError(Exception):
        pass

    own, count = RowFile.append, []

    def append(self, row):
        own(self, row)
        count.append(row)
        if len(count) == ROUND + 3:
            raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(RowFile, "append", append)
        with pytest.raises(PowerCutError):
            lemma("predict", *LOCAL, "--trainer.default_root_dir", str(tmp_path))
    journal = tmp_path / "predict" / "trajectories-rank0.jsonl"
    header, spoilt, *kept, torn = journal.read_bytes().splitlines(keepends=True)
    assert len(kept) == ROUND + 1
    journal.write_bytes(header + spoilt.replace(b'"place"', b'"plane"') + b"".join(kept[::2]) + torn[:-100])
    (journal.parent / "trajectories-rank1.jsonl").write_bytes(header + b"".join(kept[1::2]))

    asked, draw = [], LocalEngine.draw
    monkeypatch.setattr(LocalEngine, "draw", lambda self, r, d: asked.extend(r) or draw(self, r, d))
    lemma("predict", *LOCAL, "--trainer.default_root_dir", str(tmp_path))
    assert merged(tmp_path) == merged(whole)
    assert len(asked) == (NUM_PROBLEMS - len(kept)) * NUM_TRAJECTORIES


def test_two_ranks_choose_the_same_arms_and_give_the_same_file(start, whole, tmp_path):
    process = start(tmp_path / "two", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert process.wait(240) == 0, process.stderr.read()
    assert merged(tmp_path / "two") == merged(whole)


def test_rows_of_other_settings_are_set_aside(lemma, whole, tmp_path, caplog):
    folder = tmp_path / "other"
    (folder / "predict").mkdir(parents=True)
    header = {"arms": {}, "order": "none"}
    (folder / "predict" / "trajectories-rank0.jsonl").write_text(f"{json.dumps(header)}\n{merged(whole)}")
    lemma("predict", *LOCAL, "--trainer.limit_predict_batches", "1", "--trainer.default_root_dir", str(folder))
    assert "is of another run" in caplog.text
    assert (folder / "predict" / "trajectories-rank0-1.jsonl").exists()
    assert rows(folder) == rows(whole)[:ROUND]


def test_servers_draw_and_the_terminal_and_tensorboard_say_how_arms_fare(lemma, tmp_path, capfd, caplog):
    with serve_policy() as server:
        flags = ["--model.engine", "served", "--model.served.urls", json.dumps([server.url])]
        lemma("predict", *flags, "--trainer.limit_predict_batches", "2", "--trainer.enable_progress_bar", "true",
              "--trainer.default_root_dir", str(tmp_path))  # fmt: skip
    found = rows(tmp_path)
    assert len(found) == 2 * ROUND
    shown = capfd.readouterr().out
    assert f"{2 * ROUND}/{2 * ROUND} problems" in shown
    assert f"Trajectories: {tmp_path / 'predict' / 'trajectories.jsonl'}" in caplog.text
    events = EventAccumulator(str(tmp_path / "predict"))
    events.Reload()
    for own in (True, False):
        tags = [tag for tag in events.Tags()["scalars"] if tag.endswith("/pulls") and tag.startswith("arms/all") is own]
        assert sum(events.Scalars(tag)[-1].value for tag in tags) == 2 * ROUND * NUM_TRAJECTORIES


def test_a_problem_that_a_mixture_repeats_is_asked_once():
    examples = SimpleNamespace(lengths=np.array([5, 9, 7, 6]))
    mixture = SimpleNamespace(epoch_order=lambda epoch: np.array([2, 0, 2, 3, 0, 1]))
    prompts = SimpleNamespace(training=SimpleNamespace(examples=examples, mixture=mixture), problem=lambda index: index)
    rounds = Rounds(prompts, 3)
    assert [[tuple(item) for item in each.items] for each in rounds] == [[(0, 2), (1, 0), (2, 3)], [(3, 1)]]
    assert (len(rounds), rounds.num_problems(1), rounds.num_problems(2)) == (2, 3, 4)
    assert rounds.longest(2) == [1, 2]


def test_fast_dev_run_writes_nothing(lemma, tmp_path):
    lemma("predict", "--trainer.fast_dev_run", "1", "--trainer.default_root_dir", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("verb", "flags", "message"),
    [
        ("fit", [], "TrajectoryModule draws trajectories and cannot be trained"),
        ("predict", ["--print_plan"], "TrajectoryModule draws trajectories and cannot be trained"),
        ("predict", ["--model", "lemma.modules.SFTModule"], "SFTModule draws no trajectories"),
        ("predict", ["--data.corpora", "[]"], "data.corpora: no problems to draw trajectories for"),
        ("predict", ["--model.arms", "[{name: a, template: nowhere}]"], "model.arms.a: data.prompt.template: expected"),
        ("predict", ["--model.max_new_tokens", "2040"], "2040 new ones do not fit into the model's context of 2048"),
        ("predict", ["--model.num_trajectories", "0"], "model.num_trajectories: expected at least 1, but got 0"),
        ("predict", ["--model.coherence.arm_weights", "{nobody: 2.0}"], "there is no arm nobody in model.arms"),
    ],
    ids=["fit", "plan", "other module", "no problems", "unknown template", "context", "number", "weight of no arm"],
)
def test_what_cannot_work_is_refused(lemma, capfd, tmp_path, verb, flags, message):
    with pytest.raises(SystemExit) as exit_info:
        lemma(verb, *LOCAL, *flags, "--trainer.default_root_dir", str(tmp_path))
    assert message in str(exit_info.value.code) + capfd.readouterr().err


def test_servers_that_are_gone_end_it_with_one_message_and_the_same_command_goes_on(lemma, tmp_path):
    flags = [*LOCAL, "--model.engine", "served", "--model.served.max_in_flight", "2", "--model.served.deadline", "3"]
    flags += ["--trainer.limit_predict_batches", "2", "--model.max_new_tokens", "6"]
    flags += ["--trainer.default_root_dir", str(tmp_path)]
    with serve_policy(faults=schedule({24: "die"})) as server:
        flags += ["--model.served.urls", json.dumps([server.url])]
        with pytest.raises(SystemExit, match="Run the same command again to go on") as exit_info:
            lemma("predict", *flags)
        assert str(tmp_path / "predict") in str(exit_info.value.code)
        kept = len((tmp_path / "predict" / "trajectories-rank0.jsonl").read_bytes().splitlines()) - 1
        assert 0 < kept < 2 * ROUND
        server.revive()
        lemma("predict", *flags)
    assert [row["place"] for row in rows(tmp_path)] == list(range(2 * ROUND))
