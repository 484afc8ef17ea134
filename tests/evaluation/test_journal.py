"""A killed evaluation goes on: what was finished is taken once, what is missing is drawn, nothing else is believed."""

import json
import random
import resource
from dataclasses import replace

import pytest
import torch

from lemma.evaluation import BenchmarkBatch, BenchmarkItem, Earlier, EvaluationArgs, Evaluator, Journal, remove_journals
from lemma.generation import Sample, SamplingArgs
from lemma.types import GREEDY, InputError

ARGS = EvaluationArgs(SamplingArgs(num_samples=3, max_new_tokens=40), ks=[1, 2])
FINGERPRINT = {"sampling": {"temperature": 1.0}, "data": {"toy": "abc"}}


class PowerCutError(Exception):
    """What ends a process without a word."""


class FakeEngine:
    """Answers each request by its own text, in any order, until the power is cut."""

    def __init__(self, lasts: int | None = None) -> None:
        self.lasts = lasts
        self.drawn = []

    def draw(self, requests, drawing):
        numbers = list(range(len(requests)))
        random.Random(0).shuffle(numbers)
        for number in numbers:
            if len(self.drawn) == self.lasts:
                raise PowerCutError
            request = requests[number]
            self.drawn.append((tuple(request.prompt_ids), request.seed))
            right = request.seed is None or request.seed % 2
            yield number, Sample([], [], True, rf"\boxed{{{7 if right else 8}}}", 5)


@pytest.fixture
def measure(encoder, problems, tmp_path):
    """Return a function that evaluates as one rank of some, from what earlier runs left in ``tmp_path``."""

    def measure(engine, *, rank: int = 0, num_ranks: int = 1, fingerprint=FINGERPRINT):
        journal = Journal(tmp_path, rank, Earlier.read(tmp_path, fingerprint))
        evaluator = Evaluator(ARGS, {"toy": problems}, encoder, torch.device("cpu"), journal)
        items = [BenchmarkItem(i, problem) for i, problem in enumerate(problems)]
        evaluator.step(engine, BenchmarkBatch(items[rank::num_ranks]))
        return evaluator.progress, evaluator.finish(lambda value: [value])

    return measure


@pytest.fixture
def whole(encoder, problems):
    """Return the records of an evaluation that nothing interrupts and nobody keeps."""
    evaluator = Evaluator(ARGS, {"toy": problems}, encoder, torch.device("cpu"))
    evaluator.step(FakeEngine(), BenchmarkBatch([BenchmarkItem(i, problem) for i, problem in enumerate(problems)]))
    return timeless(evaluator.finish(lambda value: [value]))


def timeless(evaluation) -> list:
    return [replace(record, seconds=None) for record in evaluation.records]


def rows_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


@pytest.mark.parametrize("lasts", [0, 1, 7, 19])
def test_a_second_run_draws_what_the_first_had_not(measure, whole, lasts, tmp_path):
    first, second = FakeEngine(lasts), FakeEngine()
    with pytest.raises(PowerCutError):
        measure(first)
    progress, evaluation = measure(second)
    assert timeless(evaluation) == whole
    assert len(first.drawn) == lasts
    assert len({*first.drawn, *second.drawn}) == len(first.drawn) + len(second.drawn) == 20
    assert (progress.num_resumed, progress.completions_done, progress.problems_done) == (lasts, 20, 5)
    assert len(rows_of(tmp_path / "completions-rank0.jsonl")) == 20


def test_every_completion_is_on_disk_before_the_next_is_waited_for(measure, tmp_path):
    class Looking(FakeEngine):
        def draw(self, requests, drawing):
            for count, found in enumerate(super().draw(requests, drawing)):
                assert len(rows_of(tmp_path / "completions-rank0.jsonl")) == count
                yield found

    measure(Looking())


def test_a_torn_row_is_drawn_again_and_no_row_is_glued_to_it(measure, whole, tmp_path):
    with pytest.raises(PowerCutError):
        measure(FakeEngine(7))
    path = tmp_path / "completions-rank0.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    engine = FakeEngine()
    assert timeless(measure(engine)[1]) == whole
    assert len(engine.drawn) == 20 - 6
    assert len(rows_of(path)) == 20


def test_a_file_without_a_whole_header_is_begun_anew(measure, whole, tmp_path):
    (tmp_path / "completions-rank0.jsonl").write_text('{"version": 1, "samp')
    assert timeless(measure(FakeEngine())[1]) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["completions-rank0.jsonl"]


def test_a_full_disk_is_named_and_what_stands_there_is_taken_later(measure, whole, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
        with pytest.raises(InputError, match=r"completions-rank0\.jsonl: could not be written .*is kept"):
            measure(FakeEngine())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    engine = FakeEngine()
    assert timeless(measure(engine)[1]) == whole
    assert 0 < len(engine.drawn) < 20


def test_a_spoilt_row_in_the_middle_is_drawn_again(measure, whole, tmp_path):
    measure(FakeEngine())
    path = tmp_path / "completions-rank0.jsonl"
    lines = path.read_text().splitlines()
    lines[3], lines[5], lines[8] = "\0" * 40, lines[5].replace('"text": "', '"text": 3, "x": "'), "[]"
    path.write_text("\n".join(lines) + "\n")
    engine = FakeEngine()
    assert timeless(measure(engine)[1]) == whole
    assert len(engine.drawn) == 3


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (3, 2)])
def test_another_number_of_ranks_takes_the_files_of_all(measure, whole, before, after):
    for rank in range(before):
        with pytest.raises(PowerCutError):
            measure(FakeEngine(3), rank=rank, num_ranks=before)
    engines = [FakeEngine() for _ in range(after)]
    records = [r for rank in range(after) for r in timeless(measure(engines[rank], rank=rank, num_ranks=after)[1])]
    assert sorted(records, key=lambda record: record.index) == whole
    assert sum(len(engine.drawn) for engine in engines) == 20 - 3 * before


def test_two_rows_of_one_completion_count_once(measure, whole, tmp_path):
    measure(FakeEngine())
    path = tmp_path / "completions-rank0.jsonl"
    (tmp_path / "completions-rank1.jsonl").write_text(path.read_text().replace("boxed{7}", "boxed{9}"))
    engine = FakeEngine()
    assert timeless(measure(engine)[1]) == whole
    assert engine.drawn == []


def test_another_evaluation_sets_the_journal_aside_and_says_what_differs(measure, whole, tmp_path, caplog):
    with pytest.raises(PowerCutError):
        measure(FakeEngine(7))
    before = (tmp_path / "completions-rank0.jsonl").read_text()
    engine = FakeEngine()
    with caplog.at_level("INFO"):
        measure(engine, fingerprint={"sampling": {"temperature": 0.3}, "data": {"toy": "abc"}})
    assert len(engine.drawn) == 20
    assert "is of another run (sampling.temperature 1.0, now 0.3): set aside." in caplog.text
    assert (tmp_path / "completions-rank0-1.jsonl").read_text() == before
    remove_journals(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["completions-rank0-1.jsonl"]


def test_seconds_of_the_interrupted_run_are_not_lost(measure, tmp_path):
    with pytest.raises(PowerCutError):
        measure(FakeEngine(7))
    path = tmp_path / "completions-rank0.jsonl"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(json.dumps({**json.loads(row), "seconds": 10.0}) for row in rows)]) + "\n")
    _, evaluation = measure(FakeEngine())
    assert 70 <= sum(record.seconds for record in evaluation.records) < 90


def test_half_a_surrogate_pair_reaches_the_files_as_a_question_mark(measure, problems):
    class Odd(FakeEngine):
        def draw(self, requests, drawing):
            for number, sample in super().draw(requests, drawing):
                yield number, sample._replace(text="\ud83d \\boxed{7}")

    _, evaluation = measure(Odd())
    assert evaluation.records[0].completions[0] == r"? \boxed{7}"
    assert evaluation.records[0].samples == [GREEDY, 0, 1, 2]
