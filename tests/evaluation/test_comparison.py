"""Runs are read back exactly, gains are paired, flips and warnings name what differs, and all of it can be shown."""

import json

import pytest

from lemma.evaluation import differences, flips, load_run, paired_gain, paired_gains
from lemma.evaluation.comparison_report import (
    comparison_figure,
    comparison_json,
    comparison_markdown,
    comparison_table,
    flips_list,
    gains_table,
)
from lemma.types import InputError


def test_a_run_is_read_from_its_folder_or_its_validate(write_run, make_record):
    records = [make_record(0, "CCW"), make_record(1, "WCC"), make_record(0, "CWW", source="other")]
    folder = write_run("sft/validate", records)
    for path in (folder, folder.parent):
        run = load_run(path)
        assert list(run.records.values()) == records
        assert run.values("toy", "pass@1") == {"p0": 0.5, "p1": 1.0}
        assert run.values("toy", "accuracy") == {"p0": 1.0, "p1": 0.0}
        assert run.values("other", "pass@2") == {"p0": 0.0}
    assert load_run(folder.parent).name == str(folder.parent)


def test_flexible_values_take_flexible_verdicts(write_run, make_record):
    run = load_run(write_run("run", [make_record(0, "FCF"), make_record(1, "WFU")]))
    assert run.values("toy", "accuracy") == {"p0": 0.0, "p1": 0.0}
    assert run.values("toy", "flexible_accuracy") == {"p0": 1.0, "p1": 0.0}
    assert run.values("toy", "flexible_pass@1") == {"p0": 1.0, "p1": 0.5}


def test_problems_without_samples_have_no_pass_at_1(write_run, make_record):
    run = load_run(write_run("run", [make_record(0, "C")]))
    assert (run.values("toy", "pass@1"), run.values("toy", "accuracy")) == ({}, {"p0": 1.0})
    assert load_run(write_run("two", [make_record(0, "C", greedy=False)])).values("toy", "accuracy") == {}


def test_a_problem_that_stands_there_twice_is_an_error(write_run, make_record):
    folder = write_run("run", [make_record(0, "C")])
    (folder / "records.jsonl").write_text((folder / "records.jsonl").read_text() * 2)
    with pytest.raises(InputError, match=r"records\.jsonl: toy, problem p0 stands there twice"):
        load_run(folder)


@pytest.mark.parametrize("content", ["{", '{"seed": 1}', "[]"])
def test_results_that_are_none_are_named(write_run, make_record, content):
    folder = write_run("run", [make_record(0, "C")])
    (folder / "results.json").write_text(content)
    with pytest.raises(InputError, match=rf"{folder}/results\.json: (not JSON|`benchmarks` is missing)"):
        load_run(folder)


def test_bytes_that_are_no_utf8_are_named_by_file(write_run, make_record):
    folder = write_run("run", [make_record(0, "C")])
    with (folder / "records.jsonl").open("ab") as stream:
        stream.write(b'{"problem_id": "\xff"}\n')
    with pytest.raises(InputError, match=rf"{folder}/records\.jsonl: not UTF-8"):
        load_run(folder)


@pytest.mark.parametrize("missing", ["results.json", "records.jsonl"])
def test_a_folder_without_an_evaluation_is_named(write_run, make_record, missing):
    folder = write_run("run", [make_record(0, "C")])
    (folder / missing).unlink()
    message = rf"{folder}: no evaluation found \(.*{missing} is missing\); run `lemma validate`"
    with pytest.raises(InputError, match=message):
        load_run(folder)


@pytest.fixture
def two_runs(write_run, make_record):
    """Return a base and a run: greedy wins p0, p1, p2, loses p3; pass@1 +1/2, +1/2, 0, 0, 0."""
    base = ["WWC", "WWW", "WCW", "CCC", "WWW"]
    run = ["CCC", "CCW", "CCW", "WCC", "WWW"]
    return [
        load_run(write_run(name, [make_record(i, verdicts, level=1) for i, verdicts in enumerate(rows)]))
        for name, rows in (("base", base), ("run", run))
    ]


def test_gains_by_hand(two_runs):
    base, run = two_runs
    gain = paired_gain(base, run, "toy")
    assert (gain.value, gain.num_gained, gain.num_lost, gain.num_problems) == (pytest.approx(0.2), 2, 0, 5)
    assert gain.low == 0.0
    assert gain.p_value == 0.5  # two problems that differ: 2^(1 - 2)
    accuracy = paired_gain(base, run, "toy", metric="accuracy")
    # three gained, one lost: 2 (C(4,0) + C(4,1)) / 16 = 10 / 16
    assert (accuracy.value, accuracy.p_value) == (pytest.approx(0.4), 0.625)
    back = paired_gain(run, base, "toy")
    assert (back.value, back.high) == (pytest.approx(-0.2), 0.0)


def test_gains_are_corrected_for_their_number(two_runs):
    gains = paired_gains(two_runs)
    assert [gain.metric for gain in gains] == ["accuracy", "pass@1", "pass@2"]
    assert all(gain.p_adjusted >= gain.p_value for gain in gains)
    smallest = min(gains, key=lambda gain: gain.p_value)
    assert smallest.p_adjusted == min(1.0, 3 * smallest.p_value)
    assert [gain.metric for gain in paired_gains(two_runs, flexible=True)] == ["flexible_accuracy", "flexible_pass@1"]
    assert paired_gains(two_runs[:1]) == []


def test_runs_on_different_problems_are_paired_on_the_shared_ones(write_run, make_record):
    base = load_run(write_run("base", [make_record(i, "WWW") for i in range(3)]))
    run = load_run(write_run("run", [make_record(i, "CCC") for i in range(1, 4)]))
    gain = paired_gain(base, run, "toy")
    assert (gain.value, gain.num_problems) == (1.0, 2)
    assert any("share 2 problems of toy, of 3 and 3" in warning for warning in differences([base, run]))


def test_a_problem_whose_answer_changed_is_not_the_same(write_run, make_record):
    base = load_run(write_run("base", [make_record(0, "WW")]))
    folder = write_run("run", [make_record(0, "CC")])
    row = json.loads((folder / "records.jsonl").read_text())
    (folder / "records.jsonl").write_text(json.dumps({**row, "answer": "2"}))
    run = load_run(folder)
    assert paired_gains([base, run]) == []
    with pytest.raises(InputError, match=r"base and .*run have no problem of toy with pass@1 in common"):
        paired_gain(base, run, "toy")


def test_flips_are_found_in_both_directions(two_runs):
    [found] = flips(two_runs)
    assert [before.problem.id for before, _ in found.gained] == ["p0", "p1", "p2"]
    assert [before.problem.id for before, _ in found.lost] == ["p3"]
    shown = flips_list([found], max_shown=2)
    base, run = (one.name for one in two_runs)
    assert f"toy: 3 solved by {run} and not by {base}, first 2" in shown
    assert f"toy: 1 solved by {base} and not by {run}" in shown
    assert shown.count("\n- ") == 3
    assert "- p0, level 1: gold 1, 1 → 1 | question 0" in shown


def test_without_greedy_completions_a_flip_is_of_half_the_samples(write_run, make_record):
    rows = {"base": ["WWC", "CCW"], "run": ["CCW", "CWW"]}
    runs = [load_run(write_run(n, [make_record(i, v, greedy=False) for i, v in enumerate(r)])) for n, r in rows.items()]
    [found] = flips(runs)
    assert [[before.problem.id for before, _ in pairs] for pairs in (found.gained, found.lost)] == [["p0"], ["p1"]]


@pytest.mark.parametrize(
    ("key", "ours", "theirs", "part"),
    [
        ("grader_version", "1", "2", "grader version: 2 against 1"),
        ("template_hash", "aa", "bb", "prompt template: bb against aa"),
        (
            "sampling",
            {"temperature": 1.0, "top_p": 1.0},
            {"temperature": 0.7, "top_p": 1.0},
            "temperature 0.7 against 1.0",
        ),
        ("data_hashes", {"toy": "aa"}, {"toy": "bb"}, "benchmark data: toy bb against aa"),
        ("conventions", {"units": "optional"}, {"units": "ignored"}, "units ignored against optional"),
        ("sampling", {"temperature": 1.0}, None, "sampling: one of them does not say"),
    ],
)
def test_settings_that_make_figures_differ_are_warned_of(write_run, make_record, key, ours, theirs, part):
    records = [make_record(0, "CCW")]
    base, same = (load_run(write_run(name, records, **{key: ours})) for name in ("base", "same"))
    other = load_run(write_run("other", records, **{key: theirs}))
    assert differences([base, same]) == []
    [warning] = differences([base, same, other])
    assert part in warning
    assert f"{other.name} and {base.name} differ in" in warning


def test_data_that_only_one_run_measured_is_no_difference_of_data(write_run, make_record):
    base = load_run(write_run("base", [make_record(0, "C")], data_hashes={"toy": "aa"}))
    more = [make_record(0, "C"), make_record(0, "C", source="other")]
    run = load_run(write_run("run", more, data_hashes={"toy": "aa", "other": "cc"}))
    assert differences([base, run]) == [f"{base.name} was not measured on other."]


def test_a_table_has_a_row_for_each_figure_and_run_and_a_column_for_each_benchmark(two_runs, write_run, make_record):
    base, run = two_runs
    other = load_run(write_run("other", [make_record(0, "CCC", source="more")]))
    lines = comparison_table([base, run, other]).splitlines()
    assert lines[0].split() == ["figure", "run", "toy", "more"]
    assert lines[2].split()[:3] == ["accuracy", base.name, "20.0"]
    assert lines[3].split()[:2] == [run.name, "60.0"]
    assert lines[3].rstrip().endswith("+40.0")
    assert lines[4].split()[:2] == [other.name, "100.0"]
    names = [line.split()[0] for line in lines[2:] if not line.startswith(" ")]
    assert names == ["accuracy", "pass@1", "pass@2", "maj@2", "flexible_accuracy", "flexible_pass@1", "agreement",
                     "completion_length", "truncated"]  # fmt: skip
    assert "level_1/pass@1" in comparison_table(two_runs, by_part=True)


def test_levels_stand_in_the_order_of_numbers(write_run, make_record):
    run = load_run(write_run("run", [make_record(i, "C", level=level) for i, level in enumerate((10, 9, 2))]))
    lines = comparison_table([run], by_part=True).splitlines()
    assert [line.split()[0] for line in lines if "/accuracy" in line] == [
        "level_2/accuracy", "level_9/accuracy", "level_10/accuracy",
    ]  # fmt: skip


def test_a_comparison_is_shown_as_markdown_json_and_figure(two_runs, tmp_path):
    gains, flipped, warned = paired_gains(two_runs), flips(two_runs), ["Mind the gap."]
    assert "p (Holm) is corrected for all 3 tests" in gains_table(gains)
    document = comparison_markdown(two_runs, gains, flipped, warned, max_shown=1)
    for part in ("**Warning:** Mind the gap.", "| accuracy", "level_1/pass@1", "## Problems that flipped", "0.625"):
        assert part in document
    content = json.loads(json.dumps(comparison_json(two_runs, gains, flipped, warned)))
    assert content["flips"][0]["gained"] == ["p0", "p1", "p2"]
    assert [gain["metric"] for gain in content["gains"]] == ["accuracy", "pass@1", "pass@2"]
    figure = comparison_figure(two_runs)
    assert [ax.get_title() for ax in figure.axes] == ["accuracy", "pass@1", "pass@2", "maj@2"]
    points = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert points == pytest.approx([0.2, 0.6])
    titles = [ax.get_title() for ax in comparison_figure(two_runs, flexible=True).axes]
    assert titles == ["flexible_accuracy", "flexible_pass@1"]
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
