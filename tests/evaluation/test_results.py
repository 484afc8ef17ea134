"""Results over all benchmarks by hand, tiers, commit, and which problems a benchmark may hold."""

import subprocess
from pathlib import Path

import pytest

from lemma.answers import Grader
from lemma.evaluation import BenchmarkScores, evaluation_of, gradable, provenance, tier
from lemma.evaluation.tables import results_table
from lemma.types import InputError, Problem


def evaluation(records, **sizes):
    estimates = {}
    for source in dict.fromkeys(record.problem.source for record in records):
        mine = [record for record in records if record.problem.source == source]
        scores = BenchmarkScores([r.problem for r in mine], num_samples=2, ks=[1, 2], greedy=True, seed=0)
        for record in mine:
            scores.update(record)
        estimates[source] = scores.estimates()
    return evaluation_of(records, estimates, {"seed": 0})


def test_figures_of_all_benchmarks_together_by_hand(make_record):
    # greedy: a 1, 0 (levels 1, 2), b 1 (level 1); samples: a 2 and 1 of 2, b 0 of 2
    results = evaluation(
        [
            make_record(0, "CCC", source="a", level=1),
            make_record(1, "WCW", source="a", level=2),
            make_record(0, "CWW", source="b", level=1, subject="Algebra"),
        ]
    ).results
    assert results["accuracy"] == pytest.approx(2 / 3)
    assert results["source_accuracies"] == {"a": 0.5, "b": 1.0}
    assert results["level_accuracies"] == {"1": 1.0, "2": 0.0}
    assert results["subject_accuracies"] == {"algebra": 1.0}
    assert results["pass_at_k"] == pytest.approx({"1": 0.5, "2": 2 / 3})
    assert results["maj_at_k"] == pytest.approx({"2": (1 + 0.5 + 0) / 3})
    assert results["pass_at_n"] == pytest.approx(2 / 3)
    assert results["tier"] == "exceptional"
    assert (results["num_problems"], results["num_completions"]) == (3, 9)
    assert (results["average_tokens_in"], results["average_tokens_out"], results["average_seconds"]) == (7, 5, 0.5)
    assert set(results["benchmarks"]) == {"a", "b"}


def test_a_record_gathered_twice_counts_once(make_record):
    records = [make_record(0, "CCC"), make_record(1, "WWU")]
    once, twice = evaluation(records), evaluation([*records, make_record(1, "WWU")])
    assert twice.records == once.records
    assert twice.figures == once.figures
    assert twice.results["benchmarks"]["toy"]["verdicts"]["wrong"] == 2


def test_timeouts_and_what_strict_extraction_missed_are_logged(make_record):
    found = evaluation([make_record(0, "FTC"), make_record(1, "UCC")]).figures
    assert found["val/toy/grade_timeouts"] == 1
    assert found["val/toy/unparseable"] == 2 / 6
    assert (found["val/toy/accuracy"], found["val/toy/flexible_accuracy"]) == (0, 0.5)


@pytest.mark.parametrize(
    ("share", "name"),
    [(1.0, "exceptional"), (0.5, "exceptional"), (0.4999, "excellent"), (0.3, "excellent"), (0.2, "very good"),
     (0.1, "good"), (0.05, "fair"), (0.0499, "needs improvement"), (0.0, "needs improvement")],
)  # fmt: skip
def test_tiers_begin_at_their_share(share, name):
    assert tier(share) == name


def test_no_share_has_no_tier():
    with pytest.raises(ValueError, match="between 0 and 1"):
        tier(50)


def test_a_table_shows_parts_below_their_benchmark_and_lengths_in_tokens(make_record):
    table = results_table(evaluation([make_record(0, "CCC", level=1), make_record(1, "CCC", level=2)]))
    lines = [line.split() for line in table.splitlines() if line.startswith("toy")]
    assert [line[1] for line in lines[:3]] == ["2", "level_1", "level_2"]
    assert "5.0 [5.0, 5.0]" in table
    assert "0 of 6" in table


def test_the_commit_is_the_sources_or_the_working_directorys_or_none(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "installed.py"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_commit() is None
    repository = tmp_path / "work"
    subprocess.run(["git", "init", "-q", repository], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "x"], cwd=repository, check=True)
    monkeypatch.chdir(repository)
    assert len(provenance.git_commit()) == 40


def test_the_data_hash_is_of_content_and_not_of_order():
    problems = [Problem(f"p{i}", "toy", f"question {i}", answer=str(i)) for i in range(3)]
    hashed = provenance.problems_sha256(problems)
    assert provenance.problems_sha256(problems[::-1]) == hashed
    assert provenance.problems_sha256([*problems[:2], Problem("p2", "toy", "question 2", answer="3")]) != hashed
    assert provenance.problems_sha256(problems[:2]) != hashed


# What can be graded


def benchmark(*answers: str | None, source: str = "toy") -> list[Problem]:
    return [Problem(f"p{i}", source, "?", answer=answer) for i, answer in enumerate(answers)]


@pytest.fixture
def grader():
    with Grader() as grader:
        yield grader


def test_readable_golds_are_all_kept(grader):
    problems = benchmark("1", r"\frac{1}{2}", "(1, 2)", r"\text{Evelyn}", "x^2 + 1")
    assert gradable(problems, grader, on_bad_row="error") == (problems, [])


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_a_problem_without_an_answer_is_refused_or_left_out(grader, answer):
    problems = benchmark("1", answer, "3")
    with pytest.raises(InputError, match=r"data\.benchmarks: toy, problem p1: no answer .*on_bad_row: skip"):
        gradable(problems, grader, on_bad_row="error")
    kept, told = gradable(problems, grader, on_bad_row="skip")
    assert [problem.id for problem in kept] == ["p0", "p2"]
    assert told == ["toy, problem p1: no answer to grade against"]


def test_a_gold_that_the_grader_cannot_read_is_named(grader, monkeypatch):
    monkeypatch.setattr(grader, "unreadable", lambda golds: [golds.index("???")])
    with pytest.raises(InputError, match=r"toy, problem p2: the grader can make nothing of the answer '\?\?\?'"):
        gradable(benchmark("1", None, "???")[1:] + benchmark("1"), grader, on_bad_row="error")
    assert gradable(benchmark("1", "???"), grader, on_bad_row="skip")[0] == benchmark("1")


def test_a_benchmark_of_which_nothing_is_left_is_refused(grader):
    with pytest.raises(InputError, match="no answer"):
        gradable(benchmark(None, None), grader, on_bad_row="skip")


@pytest.mark.parametrize("source", ["aime", "AIME2024", "aime_1983_2023"])
@pytest.mark.parametrize("answer", ["1000", "-1", "3.5", r"\frac{1}{2}", "0073"])
def test_an_aime_answer_is_a_whole_number_from_0_to_999(grader, source, answer):
    kept = benchmark("0", "073", "999", source=source)
    assert gradable(kept, grader, on_bad_row="error") == (kept, [])
    with pytest.raises(InputError, match=rf"{source}, problem p1: an AIME answer is a whole number from 0 to 999"):
        gradable(benchmark("7", answer, source=source), grader, on_bad_row="error")
    assert gradable(benchmark("7", answer), grader, on_bad_row="error")[1] == []  # the rule is the AIME's alone


def test_the_published_aime_problems_pass(grader):
    folder = Path(__file__).parents[3] / "shared" / "data" / "aime"
    if not folder.is_dir():
        pytest.skip("the data is not here")
    from lemma.corpora import CorpusArgs, load_corpus

    columns = {"problem": "problem", "answer": "expected_answer", "id": "id"}
    args = CorpusArgs("mapped", path=str(folder / "aime24_test.jsonl"), columns=columns, source="aime24")
    problems = load_corpus(args, root=None, seed=0).problems
    assert len(gradable(problems, grader, on_bad_row="error")[0]) == 30
