"""Data paths are compared where both make the same token ids of the same rows, cold and warm."""

import json
from pathlib import Path

import pytest

OPTIONS = ["--steps=1", "--warmup=1", "--repeats=1", "--num_rows=12", "--vocab=512", "--batch_size=4"]


def test_both_sides_make_the_same_ids_of_every_row_cold_and_warm(bench):
    error, _, report, image = bench("data", *OPTIONS)
    assert error is None
    assert report["checks"] == [{"equal_rows": 12}]
    for side in ("lemma", "reference"):
        (record,) = report["records"][side]
        assert record["num_examples"] == [12, 12]
        assert record["rates"]["rows"] == pytest.approx([12 / record["seconds"][1]])
        assert record["rates"]["warm_rows"] == pytest.approx([12 / record["warm_seconds"][1]])
        assert sum(record["tokens"]) > sum(record["completion_tokens"]) > 12
    assert {"rows_per_second", "warm_rows_per_second", "peak_memory"} < set(report["summary"]["ratio"])
    assert image.is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "the reference"),
        (lambda rows: [*rows[:-1], rows[-1] | {"completion": "Nothing."}], "the reference"),
    ],
)
def test_a_side_with_other_rows_ends_the_run(bench, change, message):
    def treat(path: Path) -> None:
        file = Path(json.loads(path.read_text())["conversations"])
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(f"{json.dumps(row)}\n" for row in change(rows)))

    error, _, report, _ = bench("data", *OPTIONS, doctor=treat)
    assert error.startswith("bench: error: the sides did different work: step 1: ")
    assert message in error
    assert "summary" not in report
