"""What is written down of rollouts: every group in order, readable as graded completions, escaped where it is shown."""

import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lemma.answers import Graded
from lemma.callbacks import RolloutFiles, RolloutTable
from lemma.callbacks.rollouts import groups_table, progress_table, rollout_rows
from lemma.corpora import CorpusArgs, load_corpus
from lemma.evaluation import Evaluation, Record
from lemma.generation import Sample
from lemma.modules import GRPOModule
from lemma.rewards import RewardArgs
from lemma.rollouts import Group, Rollout
from lemma.types import InputError, Problem, Verdict

REWARDS = [RewardArgs("correctness"), RewardArgs("length", weight=0.5)]
SIZE = {"group_size": 3, "problems_per_rollout": 4}


def make_group(number: int) -> Group:
    """Return a right completion, a wrong one that was cut and has no reward, and one without an answer."""
    return Group(
        Problem(f"p{number}", "toy", f"What is 1 < {number} | 3?", answer=str(number), subject="sums"),
        [1, 2],
        [Sample([5, 6, 2], [-0.1] * 3, True), Sample([5, 6, 7, 8], [-0.1] * 4, False), Sample([2], [-0.1], True)],
        texts=[f"<b>It is</b>\n{number}", "It is 99", "hm"],
        verdicts=[Verdict.CORRECT, Verdict.WRONG, Verdict.UNPARSEABLE],
        predictions=[str(number), "99", None],
        rewards=[[5.0, -0.5], [None, None], [0.0, None]],
        index=10 + number,
    )


def make_rollout(numbers=range(4)) -> Rollout:
    groups = [make_group(number) for number in numbers]
    counted = torch.tensor([True, False, True]).repeat(len(groups))
    return Rollout(groups, torch.tensor([1.0, 0.0, -1.0]).repeat(len(groups)), counted, max_length=4)


@pytest.fixture
def run(tmp_path):
    """Return a trainer and a module that are about to train on the first rollout."""
    module = GRPOModule(rewards=REWARDS, **SIZE)
    module.rollout, module.rollout_number = make_rollout(), 1
    trainer = SimpleNamespace(
        global_step=0, default_root_dir=str(tmp_path), fast_dev_run=False, is_global_zero=True, sanity_checking=False,
        accumulate_grad_batches=1, datamodule=SimpleNamespace(batch_size=3), state=SimpleNamespace(fn="fit"),
        logger=TensorBoardLogger(tmp_path, name="", version=""),
    )  # fmt: skip
    return SimpleNamespace(trainer=trainer, module=module, folder=tmp_path / "rollouts")


def start_batch(callback, run) -> None:
    callback.on_train_batch_start(run.trainer, run.module, None, 0)


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(run, tag: str) -> dict[int, str]:
    """Return what was logged under a tag, by step."""
    run.trainer.logger.experiment.flush()
    events = EventAccumulator(run.trainer.logger.log_dir, size_guidance={"tensors": 0}).Reload()
    if f"{tag}/text_summary" not in events.Tags()["tensors"]:
        return {}
    return {one.step: one.tensor_proto.string_val[0].decode() for one in events.Tensors(f"{tag}/text_summary")}


def test_a_row_keeps_rewards_by_name_and_their_weighted_sum_and_none_as_it_is():
    row = rollout_rows(make_rollout([7]), REWARDS, step=12)[0]
    assert row == {
        "problem_id": "p7", "source": "toy", "level": None, "subject": "sums",
        "problem": "What is 1 < 7 | 3?", "answer": "7", "samples": [0, 1, 2],
        "completions": ["<b>It is</b>\n7", "It is 99", "hm"],
        "predictions": ["7", "99", None], "verdicts": ["correct", "wrong", "unparseable"],
        "stopped": [True, False, True], "num_tokens": [3, 4, 1],
        "rewards": {"correctness": [5.0, None, 0.0], "length": [-0.5, None, None]},
        "reward": [5.0 - 0.5 * 0.5, None, 0.0], "advantages": [1.0, 0.0, -1.0], "counted": [True, False, True],
        "step": 12,
    }  # fmt: skip
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_each_rollout_is_one_file_however_many_batches_it_is_trained_in(run):
    files = RolloutFiles()
    for number in (1, 2):
        run.module.rollout_number = number
        for _ in range(4):
            start_batch(files, run)
            run.trainer.global_step += 1
    assert sorted(path.name for path in run.folder.iterdir()) == ["rollout-000001.jsonl", "rollout-000002.jsonl"]
    rows = read(run.folder / "rollout-000002.jsonl")
    assert [row["problem_id"] for row in rows] == ["p0", "p1", "p2", "p3"]
    assert {row["step"] for row in rows} == {4}, "optimiser steps before the rollout"


def test_every_third_rollout_is_written_from_the_first_on(run):
    files = RolloutFiles(every=3)
    for run.module.rollout_number in range(1, 8):
        start_batch(files, run)
    assert sorted(int(path.stem[-6:]) for path in run.folder.iterdir()) == [1, 4, 7]


def test_groups_of_all_ranks_are_written_in_the_order_in_which_they_were_drawn(run, monkeypatch):
    # batches of one group deal problems 0, 2 to rank 0 and 1, 3 to rank 1
    run.module.rollout = make_rollout([0, 2])
    theirs = rollout_rows(make_rollout([1, 3]), REWARDS, step=0)
    monkeypatch.setattr("lemma.callbacks.rollouts.gather_objects", lambda mine: [mine, theirs])
    start_batch(RolloutFiles(), run)
    assert [row["problem_id"] for row in read(run.folder / "rollout-000001.jsonl")] == ["p0", "p1", "p2", "p3"]


def test_another_rank_takes_part_and_writes_nothing(run, monkeypatch):
    gathered = []
    monkeypatch.setattr("lemma.callbacks.rollouts.gather_objects", lambda mine: gathered.append(mine) or [mine])
    run.trainer.is_global_zero = False
    start_batch(RolloutFiles(), run)
    assert len(gathered[0]) == 4
    assert not run.folder.exists()


def test_a_new_run_moves_the_rollouts_of_another_aside_and_a_resumed_one_goes_on_with_its_own(run):
    run.folder.mkdir()
    (run.folder / "rollout-000005.jsonl").write_text("before")
    first = RolloutFiles()
    start_batch(first, run)
    assert (run.folder.with_name("rollouts-1") / "rollout-000005.jsonl").read_text() == "before"
    assert [path.name for path in run.folder.iterdir()] == ["rollout-000001.jsonl"]

    resumed, run.trainer.global_step = RolloutFiles(), 2
    resumed.load_state_dict(first.state_dict())
    start_batch(resumed, run)
    assert read(run.folder / "rollout-000001.jsonl")[0]["step"] == 0, "the rollout under way is not a new one"
    run.module.rollout_number = 2
    start_batch(resumed, run)
    assert len(list(run.folder.iterdir())) == 2


def test_nothing_is_written_or_kept_where_no_rollouts_are_made_nor_in_a_rehearsal(run):
    files, table = RolloutFiles(), RolloutTable()
    other = SimpleNamespace(makes_rollouts=False)
    for callback in (files, table):
        callback.on_train_batch_start(run.trainer, other, None, 0)
        assert callback.state_dict() == {}
    table.on_validation_end(run.trainer, other)
    run.trainer.fast_dev_run = True
    start_batch(files, run)
    assert not run.folder.exists()


def test_a_file_is_read_back_as_graded_completions(run, tmp_path):
    start_batch(RolloutFiles(), run)
    path = str(run.folder / "rollout-000001.jsonl")
    with pytest.raises(InputError, match=r"no preference pair\. .*4 unfinished, 4 unparseable"):
        load_corpus(CorpusArgs("graded", path), root=None, seed=0, cache=tmp_path / "cache")

    for group in run.module.rollout.groups:  # the wrong completions were cut
        group.samples[1] = group.samples[1]._replace(stopped=True)
    start_batch(RolloutFiles(), run)
    corpus = load_corpus(CorpusArgs("graded", path), root=None, seed=0, cache=tmp_path / "cache")
    pairs = list(corpus.preferences)
    assert [pair.id for pair in pairs] == [f"toy/p{number}/0" for number in range(4)]
    assert [(pair.prompt, pair.chosen, pair.rejected, pair.subject) for pair in pairs] == [
        (f"What is 1 < {number} | 3?", f"<b>It is</b>\n{number}", "It is 99", "sums") for number in range(4)
    ]


def test_a_folder_of_rollouts_is_read_as_one_set_of_completions_for_each_problem(run):
    files = RolloutFiles()
    for run.module.rollout_number, verdicts in ((1, [Verdict.CORRECT] * 3), (2, [Verdict.WRONG] * 3)):
        for group in run.module.rollout.groups:
            group.verdicts[:] = verdicts
            group.texts[:] = [f"{text}!" for text in group.texts]
        start_batch(files, run)
    corpus = load_corpus(CorpusArgs("graded", str(run.folder), split="rollout"), root=None, seed=0)
    assert [pair.id for pair in corpus.preferences] == [f"toy/p{number}/0" for number in range(4)]


def test_a_table_shows_each_completion_escaped_with_what_it_earned():
    lines = groups_table(rollout_rows(make_rollout([7]), REWARDS, step=0)).splitlines()
    assert lines[2:] == [
        "| What is 1 &lt; 7 &#124; 3? | 7 | &lt;b&gt;It is&lt;/b&gt;<br>7 | 3 | 7 | correct | 4.75 "
        "| correctness 5, length -0.5 | 1 |",
        "|  |  | It is 99 | 4, cut | 99 | wrong | none | correctness none, length none | left out |",
        "|  |  | hm | 1 |  | unparseable | 0 | correctness 0, length none | -1 |",
    ]


def test_some_groups_of_every_second_rollout_are_shown(run):
    table = RolloutTable(every=2, num_groups=2)
    for run.module.rollout_number in (1, 2, 3):
        start_batch(table, run)
        run.trainer.global_step += 10
    shown = texts(run, "rollout/groups")
    assert list(shown) == [0, 20]
    assert [f"1 &lt; {number} " in shown[0] for number in range(4)] == [True, False, True, False]


def record(number: int, text: str, source: str = "bench") -> Record:
    return Record(
        number,
        Problem(f"p{number}", source, f"Question {number}?", answer="1"),
        samples=[-1],
        completions=[text],
        grades=[Graded(Verdict.WRONG, Verdict.WRONG, "2", "boxed")],
        votes=[0],
    )


def test_fixed_problems_are_shown_at_every_validation_beside_what_was_written_before(run):
    table = RolloutTable(num_problems=2)
    for run.trainer.global_step in (0, 5, 10):
        texts_now = [record(n, f"text {n} at {run.trainer.global_step}") for n in range(4)]
        run.module.evaluation = Evaluation({}, [*texts_now, record(0, "x", "other")], {})
        table.on_validation_end(run.trainer, run.module)
    shown = texts(run, "progress/bench")
    assert list(shown) == [0, 5, 10]
    assert [line.split(" | ")[2:4] for line in shown[10].splitlines()[2:]] == [
        [str(step), f"text {number} at {step}"] for number in (0, 1) for step in (0, 5, 10)
    ]
    assert [line.count("Question") for line in shown[10].splitlines()[2:]] == [1, 0, 0, 1, 0, 0]
    assert len(texts(run, "progress/other")) == 3


def test_of_many_validations_the_first_and_the_latest_are_shown(run):
    table = RolloutTable(num_problems=1)
    for run.trainer.global_step in range(20):
        run.module.evaluation = Evaluation({}, [record(0, "text")], {})
        table.on_validation_end(run.trainer, run.module)
    lines = texts(run, "progress/bench")[19].splitlines()[2:]
    assert [int(line.split(" | ")[2]) for line in lines] == [0, *range(13, 20)]


@pytest.mark.parametrize(("fn", "sanity_checking"), [("validate", False), ("fit", True)])
def test_fixed_problems_are_shown_in_fit_alone(run, fn, sanity_checking):
    run.trainer.state.fn, run.trainer.sanity_checking = fn, sanity_checking
    run.module.evaluation = Evaluation({}, [record(0, "text")], {})
    RolloutTable().on_validation_end(run.trainer, run.module)
    assert texts(run, "progress/bench") == {}


def test_a_table_of_one_step_is_the_plain_table():
    lines = progress_table([(3, [record(0, "a|b")])]).splitlines()
    assert lines[2] == "| Question 0? | 1 | 3 | a&#124;b | 2 | wrong |"


@pytest.mark.parametrize(("make", "key"), [(RolloutFiles, "every"), (RolloutTable, "num_groups")])
def test_numbers_below_1_are_refused(make, key):
    with pytest.raises(InputError, match=rf"{make.__name__}\.{key}: expected at least 1, but got 0"):
        make(**{key: 0})
