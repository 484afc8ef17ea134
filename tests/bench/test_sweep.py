"""A sweep runs a workload at several values of an option, and Lemma alone where the reference is not wanted."""

OPTIONS = ["--steps=1", "--warmup=1", "--repeats=1"]


def test_a_sweep_has_a_row_and_a_report_for_each_value_and_the_reference_up_to_one(bench):
    values = ["--sweep=batch_size", "--sweep_values=[2, 3, 4]", "--reference_up_to=3"]
    error, stdout, report, image = bench("grade", *OPTIONS, *values)
    assert error is None
    assert [point["value"] for point in report["points"]] == [2, 3, 4]
    for point in report["points"]:
        assert point["records"]["lemma"][0]["num_answers"] == [point["value"]] * 2
        assert ("ratio" in point["summary"]) == (len(point["checks"]) == 1) == (point["value"] <= 3)
    rows = [line.split() for line in stdout.splitlines()]
    for value, columns in ((2, 9), (3, 9), (4, 4)):  # value, rates, ratio, memory and its unit, ratio
        (row,) = [row for row in rows if row and row[0] == str(value)]
        assert len(row) == columns
    assert image.is_file()


def test_lemma_runs_alone_against_none(bench):
    error, stdout, report, image = bench("grade", *OPTIONS, "--batch_size=2", "--against=none")
    assert error is None
    assert list(report["records"]) == list(report["summary"]) == ["lemma"]
    assert "ratio" not in stdout
    assert image.is_file()


def test_a_value_that_cannot_be_ends_a_sweep_before_it_begins(bench):
    error, stdout, report, _ = bench("grade", *OPTIONS, "--sweep=batch_size", "--sweep_values=[2, 0]")
    assert "--batch_size: expected at least 1, but got 0" in error
    assert (stdout, report) == ("", {})
