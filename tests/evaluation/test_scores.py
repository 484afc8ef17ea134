"""Figures of a benchmark against hand arithmetic, and the evaluator against its own records."""

import json
import math
from statistics import mean

import pytest
import torch

from lemma.answers import GRADER_VERSION
from lemma.evaluation import BenchmarkBatch, BenchmarkItem, BenchmarkScores, EvaluationArgs, Evaluator
from lemma.evaluation.provenance import problems_sha256
from lemma.generation import LocalEngine, SamplingArgs
from lemma.policy import Policy, PolicyArgs
from lemma.types import GREEDY, InputError, Problem, Verdict

PROBLEMS = [Problem(f"p{i}", "toy", "?", answer="1", level=level) for i, level in enumerate((1, 1, 2, None))]


def scores_of(records, *, num_samples=0, ks=(), greedy=False, problems=PROBLEMS, seed=0, measured=True):
    scores = BenchmarkScores(problems, num_samples=num_samples, ks=ks, greedy=greedy, seed=seed, measured=measured)
    for record in records:
        scores.update(record)
    return scores.estimates()


def test_figures_by_hand(make_record):
    # n = 3, k = 1, 2. Problem by problem (c correct of 3), after the greedy completion:
    #   p0 (level 1): c = 2, votes 0 0 1.  pass@1 2/3; pass@2 1 - C(1,2)/C(3,2) = 1.
    #       maj@2 over {01} 1, {02} tie 1/2, {12} tie 1/2: 2/3.  One of three pairs agrees.
    #   p1 (level 1): c = 0.               pass@1 0; pass@2 0; maj@2 0.  No pair agrees.
    #   p2 (level 2): c = 1, one flexible, one wrong.  pass@1 1/3; pass@2 1 - C(2,2)/C(3,2) = 2/3.
    #       maj@2 over {correct, none} 1, {correct, wrong} 1/2, {none, wrong} 0: 1/2.  No pair agrees; flexible 2 of 3.
    figures = scores_of(
        [
            make_record(2, "CCFW", tokens=[1, 2, 3, 6]),
            make_record(0, "CCCW", tokens=[4, 4, 4, 12]),
            make_record(1, "FWWT", tokens=[20, 20, 20, 20]),
        ],
        num_samples=3, ks=[1, 2], greedy=True,
    )  # fmt: skip
    expected = {
        "accuracy": (2 / 3, 1 / 2, 1), "flexible_accuracy": (1, 1, 1),
        "pass@1": (1 / 3, 1 / 3, 1 / 3), "pass@2": (5 / 9, 1 / 2, 2 / 3), "flexible_pass@1": (4 / 9, 1 / 3, 2 / 3),
        "maj@2": (7 / 18, 1 / 3, 1 / 2), "agreement": (1 / 9, 1 / 6, 0),
        "completion_length": (29 / 3, 13, 3), "truncated": (5 / 12, 5 / 8, 0),
    }  # fmt: skip
    parts = ("", "level_1/", "level_2/")
    assert set(figures) == {f"{part}{name}" for part in parts for name in expected}  # p3, not seen, counts nowhere
    for name, values in expected.items():
        for part, value, number in zip(parts, values, (3, 2, 1), strict=True):
            found = figures[f"{part}{name}"]
            assert (found.value, found.num_problems) == (pytest.approx(value, abs=1e-8), number), f"{part}{name}"
            assert found.low <= found.value <= found.high


def test_figures_are_given_by_subject_where_there_is_one(make_record):
    problems = [
        Problem(f"p{i}", "toy", "?", answer="1", subject=name) for i, name in enumerate(("Number Theory", None))
    ]
    figures = scores_of([make_record(0, "C"), make_record(1, "W")], greedy=True, problems=problems, measured=False)
    assert {name: one.value for name, one in figures.items() if name.endswith("/accuracy")} == {
        "subject_number_theory/accuracy": 1.0
    }
    assert not any("subject_" in name for name in scores_of([make_record(0, "C")], greedy=True))


def test_the_accuracy_interval_is_wilsons(make_record):
    # 2 of 4: z^2 = 3.8415; centre 1/2, half width z sqrt(.25/4 + z^2/64) / (1 + z^2/4) = 0.35
    estimate = scores_of([make_record(i, letter) for i, letter in enumerate("CWCT")], greedy=True)["accuracy"]
    z2 = 1.959964**2
    half = math.sqrt(z2) * math.sqrt(0.25 / 4 + z2 / 64) / (1 + z2 / 4)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-6)


def test_problems_that_are_all_alike_claim_no_certainty(make_record):
    figures = scores_of([make_record(i, "CC", greedy=False) for i in range(4)], num_samples=2, ks=[1, 2])
    for name in ("pass@1", "maj@2", "agreement", "truncated"):
        assert figures[name].high - figures[name].low > 0.4, name
    assert figures["completion_length"].low == figures["completion_length"].high == 5


def test_a_problem_given_twice_counts_once(make_record):
    records = [make_record(0, "C", greedy=False)] * 3 + [make_record(1, "W", greedy=False)]
    estimate = scores_of(records, num_samples=1, ks=[1])["pass@1"]
    assert (estimate.value, estimate.num_problems) == (0.5, 2)


def test_intervals_repeat_with_the_seed(make_record):
    records = [make_record(i, verdicts, greedy=False) for i, verdicts in enumerate(("CC", "CW", "WW", "CW"))]
    one, two = (scores_of(records, num_samples=2, ks=[1], seed=1) for _ in range(2))
    assert one == two


def test_an_empty_benchmark_part_gives_no_figures_and_no_error():
    assert scores_of([], num_samples=1, ks=[1], greedy=True) == {}


@pytest.mark.parametrize("ks", [[0], [5], [1, 9]])
def test_a_k_that_the_samples_cannot_give_is_refused(ks):
    with pytest.raises(InputError, match=r"model\.evaluation\.ks: expected values in \[1, num_samples = 4\]"):
        EvaluationArgs(SamplingArgs(num_samples=4), ks)


def test_a_k_given_twice_and_an_unknown_convention_are_refused():
    with pytest.raises(InputError, match=r"model\.evaluation\.ks: expected each k once"):
        EvaluationArgs(ks=[1, 4, 1])
    with pytest.raises(InputError, match=r"model\.evaluation: .*units.*'metric'"):
        EvaluationArgs(units="metric")


# The evaluator, with the shipped policy


ARGS = EvaluationArgs(SamplingArgs(num_samples=4, max_new_tokens=40, seed=3), ks=[1, 2])


@pytest.fixture(scope="module")
def model():
    return Policy(PolicyArgs("tiny", method="full")).model


def evaluate(model, encoder, problems, cuts, benchmarks=None, args=ARGS):
    evaluator = Evaluator(args, benchmarks or {"toy": problems}, encoder, torch.device("cpu"))
    engine = LocalEngine()
    engine.refresh(model)
    items = [BenchmarkItem(i, problem) for i, problem in enumerate(problems)]
    for cut in cuts:
        evaluator.step(engine, BenchmarkBatch([items[i] for i in cut]))
    return evaluator.finish(lambda value: [value])


def strip(evaluation) -> tuple:
    """Return everything but times."""
    records = [{**record.as_json(), "seconds": None} for record in evaluation.records]
    results = json.loads(json.dumps(evaluation.results))
    for part in (results, *results["benchmarks"].values()):
        part["seconds"] = part["average_seconds"] = None
    return records, results, evaluation.figures


def test_figures_can_be_computed_again_from_the_records(model, encoder, problems):
    evaluation = evaluate(model, encoder, problems, [[0, 1, 2], [], [3, 4]])
    rows = [record.as_json() for record in evaluation.records]
    assert [row["problem_id"] for row in rows] == [problem.id for problem in problems]
    figures, summary = evaluation.figures, evaluation.results["benchmarks"]["toy"]
    assert [row["samples"] for row in rows] == [[GREEDY, 0, 1, 2, 3]] * 5
    assert [row["n_correct"] for row in rows] == [row["verdicts"][1:].count("correct") for row in rows]
    assert [row["n_total"] for row in rows] == [4] * 5
    assert figures["val/toy/pass@1"] == pytest.approx(mean(row["n_correct"] / 4 for row in rows))
    assert figures["val/toy/pass@2"] == pytest.approx(mean(1 - math.comb(4 - row["n_correct"], 2) / 6 for row in rows))
    assert figures["val/toy/accuracy"] == mean(row["verdicts"][0] == "correct" for row in rows)
    assert figures["val/toy/flexible_accuracy"] == mean(row["flexible_verdicts"][0] == "correct" for row in rows)
    verdicts = [verdict for row in rows for verdict in row["verdicts"]]
    assert (summary["num_problems"], summary["num_completions"]) == (5, len(verdicts))
    for verdict in Verdict:
        assert summary["verdicts"][verdict] == verdicts.count(verdict)
    lengths = [number for row in rows for number in row["tokens_out"]]
    assert figures["val/toy/completion_length"] == pytest.approx(mean(lengths)) == summary["average_tokens_out"]
    assert figures["val/toy/truncated"] == pytest.approx(
        mean(not stopped for row in rows for stopped in row["stopped"])
    )
    assert figures["val/toy/unparseable"] == verdicts.count("unparseable") / 25
    assert figures["val/toy/grade_timeouts"] == 0
    assert [row["tokens_in"] for row in rows] == [len(encoder.encode_prompt(p.problem)) for p in problems]


def test_results_name_what_the_figures_depend_on(model, encoder, problems):
    results = evaluate(model, encoder, problems[:2], [[0, 1]]).results
    assert results["sampling"]["seed"] == results["seed"] == 3
    assert results["template_hash"] == encoder.template_hash
    assert results["grader_version"] == GRADER_VERSION
    assert results["conventions"] == {"ordered_lists": False, "units": "optional"}
    assert results["data_hashes"] == {"toy": problems_sha256(problems[:2])}
    assert results["git_commit"] is None or len(results["git_commit"]) == 40


def test_how_problems_are_batched_and_repeated_changes_nothing(model, encoder, problems):
    whole = strip(evaluate(model, encoder, problems, [[0, 1, 2, 3, 4]]))
    assert strip(evaluate(model, encoder, problems, [[4], [2, 0], [], [1, 3]])) == whole
    assert strip(evaluate(model, encoder, problems, [[4, 2], [2, 0], [1, 3, 4]])) == whole


def test_records_and_results_are_json(model, encoder, problems):
    evaluation = evaluate(model, encoder, problems[:2], [[0, 1]])
    assert json.loads(json.dumps(evaluation.results)) == evaluation.results
    for record in evaluation.records:
        assert json.loads(json.dumps(record.as_json())) == record.as_json()


def test_greedy_alone_gives_no_figure_of_samples(model, encoder, problems):
    args = EvaluationArgs(SamplingArgs(num_samples=0, max_new_tokens=40))
    evaluation = evaluate(model, encoder, problems[:2], [[0, 1]], args=args)
    metrics = evaluation.results["benchmarks"]["toy"]["metrics"]
    names = {name.rpartition("/")[2] for name in metrics}
    assert names == {"accuracy", "flexible_accuracy", "completion_length", "truncated"}
    for key in ("pass_at_k", "maj_at_k", "pass_at_n", "tier"):
        assert evaluation.results[key] is None
    assert [record.as_json()["n_total"] for record in evaluation.records] == [0, 0]


def test_samples_alone_give_no_accuracy(model, encoder, problems):
    args = EvaluationArgs(SamplingArgs(num_samples=2, greedy=False, max_new_tokens=40), ks=[1, 2])
    evaluation = evaluate(model, encoder, problems[:2], [[0, 1]], args=args)
    assert not any("accuracy" in name for name in evaluation.figures)
    for key in ("accuracy", "flexible_accuracy", "source_accuracies", "level_accuracies"):
        assert evaluation.results[key] is None
    assert set(evaluation.results["pass_at_k"]) == {"1", "2"}
    assert [record.as_json()["greedy_correct"] for record in evaluation.records] == [None, None]


def test_a_benchmark_of_which_nothing_was_seen_leaves_the_others_their_figures(model, encoder, problems):
    # `--trainer.limit_val_batches 1`, or Lightning's sanity check, over two benchmarks
    other = [Problem("q0", "other", "1 + 1?", answer="2")]
    evaluation = evaluate(model, encoder, problems, [[0, 1]], {"toy": problems, "other": other})
    assert list(evaluation.results["benchmarks"]) == ["toy"]


def test_nothing_seen_at_all_gives_an_empty_evaluation(model, encoder, problems):
    evaluation = evaluate(model, encoder, problems, [[]])
    assert (evaluation.records, evaluation.figures) == ([], {})
