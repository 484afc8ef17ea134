"""Figures of a benchmark against hand arithmetic, and the evaluator against its own records."""

import json
import math
from statistics import mean

import pytest
import torch

from lemma.answers import Graded
from lemma.evaluation import BenchmarkBatch, BenchmarkItem, BenchmarkScores, EvaluationArgs, Evaluator
from lemma.evaluation.scores import _votes
from lemma.generation import SamplingArgs
from lemma.policy import Policy, PolicyArgs
from lemma.types import GREEDY, InputError, Problem, Verdict

C, W, U, T = Verdict.CORRECT, Verdict.WRONG, Verdict.UNPARSEABLE, Verdict.TIMEOUT


def graded(verdict: Verdict, prediction: str | None = "1") -> Graded:
    return Graded(verdict, prediction, None if prediction is None else "boxed")


def votes_of(*rows: tuple[Verdict, str | None]) -> list[int]:
    return _votes([graded(*row) for row in rows])


def test_correct_answers_are_one_group_however_they_are_written():
    assert votes_of((C, "0.5"), (C, r"\frac{1}{2}"), (C, "1/2")) == [0, 0, 0]


def test_wrong_answers_are_grouped_by_normal_form():
    assert votes_of((W, "3"), (W, "4"), (W, "$3$"), (W, "3."), (W, "4")) == [0, 1, 0, 0, 1]


def test_a_wrong_answer_never_joins_the_correct_ones():
    first, second, third = votes_of((C, "7"), (W, "7"), (C, "7.0"))
    assert first == third != second


def test_what_has_no_answer_does_not_vote():
    assert votes_of((U, None), (W, "2"), (U, "??"), (C, "1")) == [-1, 0, -1, 1]


def test_a_timeout_votes_by_what_is_written():
    assert votes_of((T, "x^9"), (W, "2"), (T, "x^9")) == [0, 1, 0]


PROBLEMS = [Problem(f"p{i}", "toy", "?", answer="1", level=level) for i, level in enumerate((1, 1, 2, None))]


def test_figures_by_hand():
    # n = 3, k = 1, 2. Problem by problem (c correct of 3):
    #   p0 (level 1): c = 2, votes 0 0 1.  pass@1 2/3; pass@2 1 - C(1,2)/C(3,2) = 1.
    #       maj@2 over {01} 1, {02} tie 1/2, {12} tie 1/2: 2/3.
    #   p1 (level 1): c = 0.               pass@1 0; pass@2 0; maj@2 0.
    #   p2 (level 2): c = 1, one unparseable, one wrong.  pass@1 1/3; pass@2 1 - C(2,2)/C(3,2) = 2/3.
    #       maj@2 over {correct, none} 1, {correct, wrong} 1/2, {none, wrong} 0: 1/2.
    scores = BenchmarkScores(PROBLEMS, num_samples=3, ks=[1, 2], greedy=True, seed=0)
    scores.update(2, graded(C), [graded(C), graded(U, None), graded(W, "5")])
    scores.update(0, graded(C), [graded(C), graded(C, "1.0"), graded(W, "5")])
    scores.update(1, graded(W, "5"), [graded(W, "5"), graded(W, "6"), graded(T, "7")])
    figures = scores.estimates()
    expected = {
        "accuracy": (2 / 3, 3), "level_1/accuracy": (1 / 2, 2), "level_2/accuracy": (1.0, 1),
        "pass@1": ((2 / 3 + 0 + 1 / 3) / 3, 3), "level_1/pass@1": (1 / 3, 2), "level_2/pass@1": (1 / 3, 1),
        "pass@2": ((1 + 0 + 2 / 3) / 3, 3), "level_1/pass@2": (1 / 2, 2), "level_2/pass@2": (2 / 3, 1),
        "maj@2": ((2 / 3 + 0 + 1 / 2) / 3, 3), "level_1/maj@2": (1 / 3, 2), "level_2/maj@2": (1 / 2, 1),
    }  # fmt: skip
    assert figures.keys() == expected.keys()  # the fourth problem, not seen, counts nowhere
    for name, (value, number) in expected.items():
        assert figures[name].value == pytest.approx(value, abs=1e-6), name
        assert figures[name].num_problems == number, name
        assert figures[name].low <= figures[name].value <= figures[name].high


def test_the_accuracy_interval_is_wilsons():
    # 2 of 4: z^2 = 3.8415; centre 1/2, half width z sqrt(.25/4 + z^2/64) / (1 + z^2/4) = 0.35
    scores = BenchmarkScores(PROBLEMS, num_samples=0, ks=[], greedy=True, seed=0)
    for index, verdict in enumerate((C, W, C, T)):
        scores.update(index, graded(verdict), [])
    [(name, estimate)] = [item for item in scores.estimates().items() if "/" not in item[0]]
    z2 = 1.959964**2
    half = math.sqrt(z2) * math.sqrt(0.25 / 4 + z2 / 64) / (1 + z2 / 4)
    assert (name, estimate.value) == ("accuracy", 0.5)
    assert (estimate.low, estimate.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_a_problem_given_twice_counts_once():
    scores = BenchmarkScores(PROBLEMS, num_samples=1, ks=[1], greedy=False, seed=0)
    for _ in range(3):  # a sampler that repeats rows to even out ranks
        scores.update(0, None, [graded(C)])
    scores.update(1, None, [graded(W)])
    assert scores.estimates()["pass@1"].value == 0.5
    assert scores.estimates()["pass@1"].num_problems == 2


def test_intervals_repeat_with_the_seed():
    def interval(seed):
        scores = BenchmarkScores(PROBLEMS, num_samples=2, ks=[1], greedy=False, seed=seed)
        for index, verdicts in enumerate(((C, C), (C, W), (W, W), (C, W))):
            scores.update(index, None, [graded(v) for v in verdicts])
        estimate = scores.estimates()["pass@1"]
        return estimate.low, estimate.high

    assert interval(1) == interval(1)


def test_an_empty_benchmark_part_gives_no_figures_and_no_error():
    scores = BenchmarkScores(PROBLEMS, num_samples=1, ks=[1], greedy=True, seed=0)
    assert scores.estimates() == {}


@pytest.mark.parametrize("ks", [[0], [5], [1, 9]])
def test_a_k_that_the_samples_cannot_give_is_refused(ks):
    with pytest.raises(InputError, match=r"model\.evaluation\.ks: expected values in \[1, num_samples = 4\]"):
        EvaluationArgs(SamplingArgs(num_samples=4), ks)


# The evaluator, with the shipped policy


ARGS = EvaluationArgs(SamplingArgs(num_samples=4, max_new_tokens=40, seed=3), ks=[1, 2])


@pytest.fixture(scope="module")
def model():
    return Policy(PolicyArgs("tiny", method="full")).model


def evaluate(model, encoder, problems, cuts, benchmarks=None, args=ARGS):
    evaluator = Evaluator(args, benchmarks or {"toy": problems}, encoder, torch.device("cpu"))
    items = [BenchmarkItem(i, problem) for i, problem in enumerate(problems)]
    for cut in cuts:
        evaluator.step(model, BenchmarkBatch([items[i] for i in cut]))
    return evaluator.finish(lambda value: [value])


def strip(evaluation) -> tuple:
    """Return everything but times."""
    records = [{**record.as_json(), "seconds": None} for record in evaluation.records]
    results = json.loads(json.dumps(evaluation.results))
    results["seconds"] = None
    for benchmark in results["benchmarks"].values():
        benchmark["seconds"] = benchmark["seconds_per_problem"] = None
    return records, results, evaluation.figures


def test_figures_can_be_computed_again_from_the_records(model, encoder, problems):
    evaluation = evaluate(model, encoder, problems, [[0, 1, 2], [], [3, 4]])
    records = [record.as_json() for record in evaluation.records]
    assert [record["problem_id"] for record in records] == [problem.id for problem in problems]
    figures, summary = evaluation.figures, evaluation.results["benchmarks"]["toy"]
    sampled = [[c for c in r["completions"] if c["sample"] != GREEDY] for r in records]
    assert [r["num_correct"] for r in records] == [sum(c["verdict"] == "correct" for c in row) for row in sampled]
    assert [r["num_samples"] for r in records] == [4] * 5
    assert figures["val/toy/pass@1"] == pytest.approx(mean(r["num_correct"] / 4 for r in records))
    assert figures["val/toy/pass@2"] == pytest.approx(mean(1 - math.comb(4 - r["num_correct"], 2) / 6 for r in records))
    assert figures["val/toy/accuracy"] == mean(r["completions"][0]["verdict"] == "correct" for r in records)
    flat = [completion for record in records for completion in record["completions"]]
    assert (summary["num_problems"], summary["num_completions"]) == (5, 25)
    assert sum(summary["verdicts"].values()) == 25
    for verdict, count in summary["verdicts"].items():
        assert count == sum(completion["verdict"] == verdict for completion in flat)
    assert figures["val/toy/completion_length"] == pytest.approx(mean(c["num_tokens"] for c in flat))
    assert figures["val/toy/truncated"] == pytest.approx(mean(not c["stopped"] for c in flat))
    assert figures["val/toy/unparseable"] == summary["verdicts"]["unparseable"] / 25
    assert set(evaluation.results) == {"sampling", "prompt", "template_hash", "seconds", "benchmarks"}
    assert evaluation.results["sampling"]["seed"] == 3
    assert evaluation.results["template_hash"] == encoder.template_hash


def test_how_problems_are_batched_changes_nothing(model, encoder, problems):
    whole = strip(evaluate(model, encoder, problems, [[0, 1, 2, 3, 4]]))
    assert strip(evaluate(model, encoder, problems, [[4], [2, 0], [], [1, 3]])) == whole


def test_records_and_results_are_json(model, encoder, problems):
    evaluation = evaluate(model, encoder, problems[:2], [[0, 1]])
    assert json.loads(json.dumps(evaluation.results)) == evaluation.results
    for record in evaluation.records:
        assert json.loads(json.dumps(record.as_json())) == record.as_json()


def test_greedy_alone_gives_accuracy_alone(model, encoder, problems):
    args = EvaluationArgs(SamplingArgs(num_samples=0, max_new_tokens=40))
    evaluation = evaluate(model, encoder, problems[:2], [[0, 1]], args=args)
    metrics = evaluation.results["benchmarks"]["toy"]["metrics"]
    assert {name.rpartition("/")[2] for name in metrics} == {"accuracy"}
    assert [record.as_json()["num_samples"] for record in evaluation.records] == [0, 0]


def test_a_benchmark_of_which_nothing_was_seen_leaves_the_others_their_figures(model, encoder, problems):
    # `--trainer.limit_val_batches 1`, or Lightning's sanity check, over two benchmarks
    other = [Problem("q0", "other", "1 + 1?", answer="2")]
    evaluation = evaluate(model, encoder, problems, [[0, 1]], {"toy": problems, "other": other})
    assert list(evaluation.results["benchmarks"]) == ["toy"]
