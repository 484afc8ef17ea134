"""Runs are read back exactly, errors name file and line, a gain is the mean difference on the same problems."""

import json

import pytest

from lemma.evaluation import Run, comparison_table, load_run, paired_gain
from lemma.types import InputError


def estimate(value: float) -> dict:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "num_problems": 3}


def results(value: float) -> dict:
    return {"benchmarks": {"toy": {"metrics": {"pass@1": estimate(value), "level_2/pass@1": estimate(value / 2)}}}}


def row(problem_id: str, num_correct: int, num_samples: int = 4, source: str = "toy") -> dict:
    greedy = {"sample": -1, "verdict": "correct" if num_correct else "wrong"}
    counts = {"num_correct": num_correct, "num_samples": num_samples}
    return {"problem_id": problem_id, "source": source, **counts, "completions": [greedy]}


@pytest.fixture
def write_run(tmp_path):
    def write(name: str, rows: list, value: float = 0.5):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(results(value)))
        lines = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in rows]
        (folder / "records.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return folder

    return write


def test_a_run_is_read_from_its_folder_or_its_validate(write_run):
    folder = write_run("sft/validate", [row("a", 1), row("b", 4), row("a", 0, source="other")])
    for path in (folder, folder.parent):
        run = load_run(path)
        assert run.values["pass@1"] == {("toy", "a"): 0.25, ("toy", "b"): 1.0, ("other", "a"): 0.0}
        assert run.results == results(0.5)
    assert load_run(folder.parent).name == str(folder.parent)


def test_a_line_separator_inside_a_text_ends_no_record(write_run):
    rows = [{**row("a", 1), "problem": "one\u2028two\x85three"}, row("b", 2)]
    assert load_run(write_run("run", rows)).values["pass@1"] == {("toy", "a"): 0.25, ("toy", "b"): 0.5}


def test_problems_without_samples_have_no_pass_at_1(write_run):
    assert load_run(write_run("run", [row("a", 0, 0), row("b", 2)])).values["pass@1"] == {("toy", "b"): 0.5}


@pytest.mark.parametrize(
    "line",
    [
        '{"problem_id": "x"',
        '{"problem_id": "x", "source": "toy"}',
        "[1, 2]",
        "null",
        '{"source": "toy", "problem_id": "b", "num_correct": "1", "num_samples": 4}',
    ],
)
def test_a_bad_record_is_named_by_file_and_line(write_run, line):
    folder = write_run("run", [row("a", 1), "", line, row("c", 1)])
    with pytest.raises(InputError, match=rf"{folder}/records\.jsonl:3: not a record"):
        load_run(folder)


def test_bytes_that_are_no_utf8_are_named_by_file(write_run):
    folder = write_run("run", [row("a", 1)])
    with (folder / "records.jsonl").open("ab") as stream:
        stream.write(b'{"problem_id": "\xff"}\n')
    with pytest.raises(InputError, match=rf"{folder}/records\.jsonl"):
        load_run(folder)


def test_results_that_are_no_json_are_named(write_run):
    folder = write_run("run", [row("a", 1)])
    (folder / "results.json").write_text("{")
    with pytest.raises(InputError, match=rf"{folder}/results\.json: not JSON"):
        load_run(folder)


@pytest.mark.parametrize("missing", ["results.json", "records.jsonl"])
def test_a_folder_without_an_evaluation_is_named(write_run, missing):
    folder = write_run("run", [row("a", 1)])
    (folder / missing).unlink()
    with pytest.raises(
        InputError, match=rf"{folder}: no evaluation found \(.*{missing} is missing\); run `lemma validate`"
    ):
        load_run(folder)


def run_of(name: str, **values: float) -> Run:
    return Run(name, results(0.5), {"pass@1": {("toy", problem): value for problem, value in values.items()}})


def test_a_gain_by_hand():
    # differences: a 0.75 - 0.25 = 0.5, b 0.5 - 0.5 = 0, c 1 - 0.75 = 0.25; mean 0.25
    base, run = run_of("base", a=0.25, b=0.5, c=0.75), run_of("run", c=1.0, a=0.75, b=0.5)
    gain = paired_gain(base, run, "toy")
    assert (gain.value, gain.num_problems) == (pytest.approx(0.25), 3)
    # of 27 equally likely resamples one is (b, b, b), mean 0, and one (a, a, a), mean 0.5: 3.7 % each, above 2.5 %
    assert (gain.low, gain.high) == (pytest.approx(0.0), pytest.approx(0.5))
    back = paired_gain(run, base, "toy")
    assert back.value == pytest.approx(-0.25)
    assert (back.low, back.high) == (pytest.approx(-0.5), pytest.approx(0.0))


def test_an_even_gain_is_certain():
    # every problem gains 1/8: unpaired, the spread of the problems would hide it
    base = run_of("base", **{f"p{i}": i / 16 for i in range(10)})
    run = run_of("run", **{f"p{i}": i / 16 + 1 / 8 for i in range(10)})
    gain = paired_gain(base, run, "toy")
    assert (gain.value, gain.low, gain.high) == (0.125, 0.125, 0.125)


def test_a_gain_repeats_with_its_seed_and_counts_its_benchmark_only():
    base, run = run_of("base", a=0.1, b=0.5, c=0.7, d=0.2), run_of("run", a=0.4, b=0.3, c=0.9, d=0.2)
    extended = Run("run", {}, {"pass@1": run.values["pass@1"] | {("other", "z"): 1.0}})
    assert paired_gain(base, run, "toy", seed=4) == paired_gain(base, extended, "toy", seed=4)


@pytest.mark.parametrize("source", ["toy", "absent"])
def test_runs_on_different_problems_are_not_compared(source):
    base, run = run_of("base", a=0.5, b=0.5), run_of("run", b=0.5, c=0.5, d=0.1)
    counts = r"share 1 problems of toy with pass@1, but have 2 and 3" if source == "toy" else "share 0 problems"
    with pytest.raises(InputError, match=f"base and run {counts}"):
        paired_gain(base, run, source)


def cells(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_a_table_shows_every_run_in_its_own_column(write_run):
    runs = [load_run(write_run(name, [row("a", 1)], value)) for name, value in (("base", 0.25), ("sft", 0.5))]
    header, _, *body = cells(comparison_table(runs))
    assert header == ["benchmark", "metric", *(run.name for run in runs)]
    assert body == [["toy", "pass@1", "25.0", "[15.0,", "35.0]", "50.0", "[40.0,", "60.0]"]]
    assert [line[:2] for line in cells(comparison_table(runs, by_level=True))[2:]] == [
        ["toy", "pass@1"], ["toy", "level_2/pass@1"],
    ]  # fmt: skip


def test_runs_whose_folders_have_the_same_name_keep_their_own_figures(write_run):
    runs = [
        load_run(write_run(f"{name}/validate", [row("a", 1)], value)) for name, value in (("base", 0.25), ("sft", 0.5))
    ]
    [line] = cells(comparison_table(runs))[2:]
    assert line == ["toy", "pass@1", "25.0", "[15.0,", "35.0]", "50.0", "[40.0,", "60.0]"]


def test_a_benchmark_that_one_run_lacks_leaves_its_cell_empty(write_run):
    one, other = load_run(write_run("one", [row("a", 1)])), Run("two", {"benchmarks": {}}, {})
    assert cells(comparison_table([one, other]))[2] == ["toy", "pass@1", "50.0", "[40.0,", "60.0]"]


def test_the_gain_in_accuracy_compares_greedy_completions(write_run):
    base = load_run(write_run("base", [row("a", 0), row("b", 3), row("c", 0)]))
    run = load_run(write_run("run", [row("a", 1), row("b", 1), row("c", 0)]))
    # greedy: base 0, 1, 0 and run 1, 1, 0, so one problem of three is gained
    assert paired_gain(base, run, "toy", metric="accuracy").value == pytest.approx(1 / 3)
