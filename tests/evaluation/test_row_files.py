"""Rows of several ranks, torn ones and doubles among them, as one file in the order of their places."""

import json

from lemma.evaluation import RowFile, earlier_rows, find_rows, remove_row_files, write_rows

KIND = "things"


def test_rows_of_all_ranks_are_one_file_in_order_the_first_of_two_and_no_torn_one(tmp_path):
    for rank, places in enumerate([[3, 0, 3], [2, 4, 1]]):
        file = RowFile(tmp_path, KIND, rank, {"of": "this"})
        for place in places:
            file.append({"place": place, "rank": rank, "text": "é\u2028" * place})
        file.close()
    (tmp_path / "things-rank1.jsonl").write_bytes((tmp_path / "things-rank1.jsonl").read_bytes()[:-1])
    (tmp_path / "other-rank0.jsonl").write_text("{}\n{}\n")

    found = find_rows(tmp_path, KIND, lambda row: None if row["place"] == 4 else row["place"])
    assert list(found) == [0, 2, 3]
    write_rows(tmp_path / "all.jsonl", found)
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [(row["place"], row["rank"]) for row in rows] == [(0, 0), (2, 1), (3, 0)]
    assert [row["text"] for row in rows] == ["", "é\u2028" * 2, "é\u2028" * 3]

    remove_row_files(tmp_path, KIND)
    assert list(earlier_rows(tmp_path, KIND)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.jsonl", "other-rank0.jsonl"]
