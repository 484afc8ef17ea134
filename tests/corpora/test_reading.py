"""Rows with provenance: what a path means, and what each kind of file yields."""

import gzip
import hashlib
import io
import json
import re
import tarfile
import tracemalloc

import datasets
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from lemma.corpora.reading import files_sha256, locate, read_hub, read_local
from lemma.corpora.rows import BadRow, Row
from lemma.types import InputError


def tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def values(path, split="train"):
    return [row.values for row in read_local(path, split)]


def test_a_path_under_the_root_is_found_and_one_that_stands_alone_comes_first(tmp_path, monkeypatch):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "x.jsonl").write_text("{}")
    assert locate("x.jsonl", str(tmp_path / "root")) == tmp_path / "root" / "x.jsonl"
    assert locate(str(tmp_path / "root" / "x.jsonl"), None) == tmp_path / "root" / "x.jsonl"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text("{}")
    assert locate("x.jsonl", "root").samefile(tmp_path / "x.jsonl")


def test_a_hub_name_is_one_unless_it_exists_locally(tmp_path):
    assert locate("openai/gsm8k", str(tmp_path)) is None
    (tmp_path / "openai" / "gsm8k").mkdir(parents=True)
    assert locate("openai/gsm8k", str(tmp_path)) == tmp_path / "openai" / "gsm8k"


@pytest.mark.parametrize(
    "path", ["data/x.jsonl", "data/x.json", "data/x.csv", "data/x.parquet", "data/x.tar.gz", "x", "a/b/c"]
)
def test_a_missing_file_names_both_places_looked_at(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file") as error:
        locate(path, str(tmp_path / "root"))
    assert str(tmp_path / path) in str(error.value)
    assert str(tmp_path / "root" / path) in str(error.value)


def test_json_lines_name_file_and_line_and_skip_blank_lines(write_lines):
    path = write_lines("x.jsonl", {"a": 1}, b"", b" \r", {"a": 2})
    assert list(read_local(path, "train")) == [Row(f"{path}:1", "x/0", {"a": 1}), Row(f"{path}:4", "x/1", {"a": 2})]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_json_lines_are_cut_at_newlines_only(write_lines, separator):
    raw = f'{{"a": "one{separator}two"}}'.encode()
    path = write_lines("x.jsonl", raw, {"a": "next"})
    rows = list(read_local(path, "train"))
    if separator in "\u2028\u2029\x85":
        assert rows[0].values == {"a": f"one{separator}two"}
    else:
        assert isinstance(rows[0], BadRow)  # a raw control character is not JSON
    assert rows[1] == Row(f"{path}:2", "x/1", {"a": "next"})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1', "broken JSON at line 1, column 8 of the row"),
        (b'{"a": "\xff"}', "expected UTF-8, but got byte 0xff at position 7"),
        (b"[1, 2]", r"expected a JSON object, but got \[1, 2\]"),
        (b"9" * 5000, "broken JSON"),
        (b"[" * 200_000, "broken JSON"),
    ],
)
def test_a_broken_line_is_a_bad_row_with_place_and_reason_and_the_rest_is_read(write_lines, line, reason):
    path = write_lines("x.jsonl", {"a": 1}, line, {"a": 3})
    first, bad, last = read_local(path, "train")
    assert bad.where == f"{path}:2"
    assert re.search(reason, bad.reason)
    assert (first.values, last.values) == ({"a": 1}, {"a": 3})
    assert last.key == "x/2"  # a bad row keeps its number


def test_a_byte_order_mark_is_not_data(tmp_path):
    for name, content in {"x.jsonl": b'{"a": "1"}', "y.csv": b"a\n1\n", "z.json": b'[{"a": "1"}]'}.items():
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
        assert values(tmp_path / name) == [{"a": "1"}]


def test_a_json_list_names_the_index_and_json_lines_may_be_called_json(tmp_path, write_lines):
    path = tmp_path / "x.json"
    path.write_text(' [{"a": 1}, 7]')
    assert list(read_local(path, "train")) == [
        Row(f"{path}[0]", "x/0", {"a": 1}),
        BadRow(f"{path}[1]", "expected a JSON object, but got 7."),
    ]
    assert values(write_lines("dev.json", {"a": 1}, {"a": 2})) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'[\n{"a": }]', r"x.json:2: broken JSON at column 7"), (b'[\n"\xff"]', r"x.json:2: expected UTF-8.*0xff")],
)
def test_a_broken_json_list_names_file_and_line(tmp_path, content, message):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        values(tmp_path / "x.json")


def test_csv_records_may_span_lines_and_are_named_by_their_first(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b'q,a\n"one\ntwo",1\n\nthree,\n')
    assert list(read_local(path, "train")) == [
        Row(f"{path}:2", "x/0", {"q": "one\ntwo", "a": "1"}),
        Row(f"{path}:5", "x/1", {"q": "three", "a": ""}),
    ]


def test_csv_takes_a_solution_longer_than_the_default_field_limit(tmp_path):
    (tmp_path / "x.csv").write_text("a\n" + "x" * 200_000 + "\n")
    assert len(values(tmp_path / "x.csv")[0]["a"]) == 200_000


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"1,2,3", r"expected 2 fields \(q, a\), but got 3"),
        (b"1", r"expected 2 fields \(q, a\), but got 1"),
        (b"\xff,2", "expected UTF-8"),
        (b'"1"x,2', "broken CSV"),
    ],
)
def test_a_broken_csv_record_is_a_bad_row_with_place_and_reason(tmp_path, record, reason):
    path = tmp_path / "x.csv"
    path.write_bytes(b"q,a\n1,2\n" + record + b"\n5,6\n")
    first, bad, last = read_local(path, "train")
    assert bad.where == f"{path}:3"
    assert re.search(reason, bad.reason)
    assert (first.values, last.values) == ({"q": "1", "a": "2"}, {"q": "5", "a": "6"})


def test_an_open_quote_does_not_swallow_the_rest_of_a_csv_in_silence(tmp_path):
    (tmp_path / "x.csv").write_text('q,a\n"open,2\n3,4\n')
    assert [type(row) for row in read_local(tmp_path / "x.csv", "train")] == [BadRow]


def test_parquet_names_the_row(tmp_path):
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"q": ["one", "two"], "n": [1, None]}), path)
    assert list(read_local(path, "train")) == [
        Row(f"{path}:0", "x/0", {"q": "one", "n": 1}),
        Row(f"{path}:1", "x/1", {"q": "two", "n": None}),
    ]


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_arrow_of_either_kind_names_the_row(tmp_path, kind):
    path = tmp_path / "x.arrow"
    table = pyarrow.table({"q": ["one", "two"], "n": [1, None]})
    new = pyarrow.ipc.new_stream if kind == "stream" else pyarrow.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table)
    assert list(read_local(path, "train")) == [
        Row(f"{path}:0", "x/0", {"q": "one", "n": 1}),
        Row(f"{path}:1", "x/1", {"q": "two", "n": None}),
    ]


def test_a_saved_data_set_is_read_in_its_own_order_whatever_the_split(tmp_path):
    path = tmp_path / "mine"
    datasets.Dataset.from_dict({"q": ["a", "b", "c"]}).save_to_disk(path, num_shards=2)
    rows = list(read_local(path, "test"))
    assert [(row.key, row.values["q"]) for row in rows] == [("mine/0", "a"), ("mine/1", "b"), ("mine/2", "c")]
    assert rows[2].where == f"{path}/data-00001-of-00002.arrow:0"
    before = files_sha256(path, "train")
    (path / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(InputError, match=r"mine: expected the Arrow files that state.json names, but there is no"):
        values(path)
    datasets.Dataset.from_dict({"q": ["a", "b", "d"]}).save_to_disk(path, num_shards=2)
    assert files_sha256(path, "train") != before


def test_a_saved_dict_of_data_sets_is_chosen_from_by_split(tmp_path):
    data = datasets.Dataset.from_dict({"q": ["a", "b", "c"]})
    datasets.DatasetDict({"train": data, "test": data.select([2, 0])}).save_to_disk(tmp_path / "mine")
    assert [row.values for row in read_local(tmp_path / "mine", "train")] == [{"q": "a"}, {"q": "b"}, {"q": "c"}]
    assert [row.key for row in read_local(tmp_path / "mine", "test")] == ["test/0", "test/1"]
    assert values(tmp_path / "mine", "test") == [{"q": "c"}, {"q": "a"}]
    with pytest.raises(InputError, match="mine: expected a split 'dev', but the saved data set holds train, test"):
        values(tmp_path / "mine", "dev")
    (tmp_path / "mine" / "test" / "state.json").write_text("{broken")
    with pytest.raises(InputError, match=r"test/state.json: expected a JSON object with the key _data_files"):
        values(tmp_path / "mine", "test")


def write_rows(path, num_rows):
    """Write rows of 1 kB each in the format that the path's suffix says."""
    texts = (f"{number:06d} " + "x" * 993 for number in range(num_rows))
    if path.suffix in (".parquet", ".arrow"):
        table = pyarrow.table({"q": list(texts)})
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(table, path, row_group_size=2000, compression="none", use_dictionary=False)
        else:
            with pyarrow.ipc.new_stream(str(path), table.schema) as writer:
                writer.write_table(table, max_chunksize=2000)
        return
    with gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb") as stream:
        if ".csv" in path.suffixes:
            stream.write(b"q,n\n" + b"".join(f'"{text}\n",1\n'.encode() for text in texts))
        else:
            stream.write(b"".join(f'{{"q": "{text}"}}\n'.encode() for text in texts))


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.jsonl.gz", "x.csv", "x.csv.gz", "x.parquet", "x.arrow"])
def test_a_file_of_rows_streams_in_memory_that_does_not_grow_with_it(tmp_path, name):
    num_rows = 16_000  # 16 MB
    write_rows(tmp_path / name, num_rows)
    before = pyarrow.total_allocated_bytes()
    tracemalloc.start()
    try:
        seen = peak = 0
        for row in read_local(tmp_path / name, "train"):
            assert row.values["q"].startswith(f"{seen:06d} ")
            seen += 1
            peak = max(peak, pyarrow.total_allocated_bytes() - before) if seen % 500 == 0 else peak
        peak += tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == num_rows
    assert peak < 9e6


def test_a_json_list_is_told_from_json_lines_by_its_first_character(tmp_path):
    path = tmp_path / "x.json"
    for content in (b'\n \t [{"a": 1}]', b'\xef\xbb\xbf[{"a": 1}]', b'\xef\xbb\xbf\n{"a": 1}', b'{"a": 1}'):
        path.write_bytes(content)
        assert values(path) == [{"a": 1}]


def test_a_gzip_file_that_is_cut_short_is_an_error_that_names_it_after_the_rows_before(tmp_path):
    write_rows(tmp_path / "x.jsonl.gz", 2000)
    content = (tmp_path / "x.jsonl.gz").read_bytes()
    (tmp_path / "x.jsonl.gz").write_bytes(content[: len(content) // 2])
    rows = read_local(tmp_path / "x.jsonl.gz", "train")
    assert next(rows).key == "x/0"
    with pytest.raises(InputError, match=r"x.jsonl.gz: expected a gzip file"):
        list(rows)


def test_a_byte_that_is_no_utf8_is_named_by_line_in_csv_too(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"q,a\n1,2\n" + "caf\xe9".encode("latin-1") + b",3\n")
    assert [row.where for row in read_local(path, "train")] == [f"{path}:2", f"{path}:3"]


def test_gzip_reads_as_what_it_holds(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert list(read_local(path, "train")) == [Row(f"{path}:1", "x/0", {"a": 1})]


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.tar.gz", "x.tgz", "x.jsonl.gz", "x.csv.gz"])
def test_a_file_that_is_not_what_its_suffix_says_is_an_error_that_names_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"neither of these")
    with pytest.raises(InputError, match=f"{name}: expected a"):
        values(tmp_path / name)


def test_a_cut_archive_and_one_without_json_are_errors(tmp_path):
    with pytest.raises(InputError, match=r"y.tar.gz: expected .json files"):
        values(tar(tmp_path / "y.tar.gz", {"README.txt": b"hello"}))
    path = tar(tmp_path / "x.tar.gz", {f"{i}.json": bytes(range(256)) * 40 for i in range(20)})
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"x.tar.gz: expected a tar archive"):
        values(path)


@pytest.mark.parametrize("name", ["x.txt", "x.pkl", "x.json.zip"])
def test_an_unknown_suffix_is_an_error_that_lists_the_known_ones(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(
        InputError, match=rf"{name}: expected a file ending in .jsonl, .json, .csv, .parquet, .arrow, .tar"
    ):
        values(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.jsonl", b""), ("x.jsonl", b"\n\n"), ("x.json", b"[]"), ("x.csv", b""), ("x.csv", b"q,a\n"), ("x.tar.gz", b"")],
)
def test_a_file_without_rows_is_an_error_that_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: expected at least one row"):
        values(tmp_path / name)


def test_an_archive_is_read_in_memory_only(tmp_path, monkeypatch):
    path = tar(tmp_path / "x.tar.gz", {"../../evil/0.json": b'{"a": 1}'})
    monkeypatch.chdir(tmp_path)
    assert values(path) == [{"a": 1}]
    assert [file.name for file in tmp_path.rglob("*")] == ["x.tar.gz"]


def test_archive_and_folder_yield_the_same_rows_of_the_split(tmp_path):
    members = {
        f"MATH/{split}/{subject}/{number}.json": json.dumps({"n": f"{split}{subject}{number}"}).encode()
        for split in ("train", "test")
        for subject in ("geometry", "algebra", "algebra2")
        for number in (10, 2)
    }
    archive = tar(tmp_path / "x.tar.gz", {"MATH/README.txt": b"hello", **members})
    for name, content in members.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for split in ("train", "test"):
        from_archive = [(row.key, row.values) for row in read_local(archive, split)]
        from_folder = [(row.key, row.values) for row in read_local(tmp_path / "MATH", split)]
        assert from_archive == from_folder
        assert len(from_archive) == 6
        assert all(key.startswith(f"MATH/{split}/") for key, _ in from_archive)
    assert next(read_local(archive, "train")).where == f"{archive}:MATH/train/algebra/10.json"
    assert next(read_local(tmp_path / "MATH" / "train", "train")).key == "train/algebra/10"


def test_a_split_that_is_not_there_is_an_error_that_shows_what_is(tmp_path, write_lines):
    archive = tar(tmp_path / "x.tar.gz", {"MATH/train/algebra/0.json": b"{}"})
    with pytest.raises(InputError, match=r"split 'test', but the archive holds train"):
        values(archive, "test")
    write_lines("folder/train.jsonl", {"a": 1})
    with pytest.raises(InputError, match=r"split 'test', but the folder holds train.jsonl"):
        values(tmp_path / "folder", "test")


def test_a_folder_stands_for_the_files_of_its_split(tmp_path, write_lines):
    write_lines("x/train.jsonl", {"a": 1})
    write_lines("x/test.jsonl", {"a": 2})
    write_lines("x/example_model_solutions.jsonl", {"a": 3})
    assert values(tmp_path / "x", "test") == [{"a": 2}]
    for shard in range(2):
        table = pyarrow.table({"a": [10 * shard, 10 * shard + 1]})
        (tmp_path / "main").mkdir(exist_ok=True)
        pyarrow.parquet.write_table(table, tmp_path / "main" / f"train-0000{shard}-of-00002.parquet")
    rows = list(read_local(tmp_path / "main", "train"))
    assert [row.values["a"] for row in rows] == [0, 1, 10, 11]
    assert [row.key for row in rows] == ["train/0", "train/1", "train/2", "train/3"]


def test_the_hash_of_one_file_is_its_sha256_and_that_of_a_folder_depends_on_names_and_bytes(tmp_path, write_lines):
    path = write_lines("x.jsonl", {"a": 1})
    assert files_sha256(path, "train") == hashlib.sha256(path.read_bytes()).hexdigest()
    seen = set()
    for name, row in (("0", {"a": 1}), ("0", {"a": 2}), ("1", {"a": 2})):
        folder = tmp_path / f"tree{len(seen)}"
        write_lines(f"{folder.name}/{name}.json", row)
        seen.add(files_sha256(folder, "train"))
    assert len(seen) == 3


def test_a_hub_name_is_loaded_with_its_subset_split_and_revision(monkeypatch):
    asked = {}

    def load_dataset(path, name, *, split, revision, streaming):
        asked.update(path=path, name=name, split=split, revision=revision, streaming=streaming)
        return datasets.Dataset.from_dict({"question": ["one", "two"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = list(read_hub("openai/gsm8k", split="test", subset="main", revision="abc", streaming=True))
    assert asked == {"path": "openai/gsm8k", "name": "main", "split": "test", "revision": "abc", "streaming": True}
    assert rows[1] == Row("openai/gsm8k/main[test]:1", "test/main/1", {"question": "two"})
    assert next(read_hub("a/b", split="test")).where == "a/b[test]:0"


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("unknown split"), RuntimeError("odd")])
def test_a_hub_that_fails_names_the_data_set_and_says_how_to_read_local_data(monkeypatch, error, tmp_path):
    def load_dataset(*args, **kwargs):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(InputError) as caught:
        next(read_hub("openai/gsm8k", split="test", root=str(tmp_path)))
    message = str(caught.value)
    for part in ("openai/gsm8k", "'test'", str(error), "set `path` to a file", str(tmp_path / "openai/gsm8k")):
        assert part in message


def test_a_hub_stream_that_breaks_off_names_the_last_row(monkeypatch):
    def rows():
        yield {"a": 1}
        raise ConnectionError("gone")

    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: rows())
    stream = read_hub("a/b", split="train", streaming=True)
    assert next(stream).values == {"a": 1}
    with pytest.raises(InputError, match=r"a/b: cannot read beyond row 0 of subset None, split 'train'.*gone"):
        next(stream)


def test_a_hub_data_set_without_rows_is_an_error(monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: datasets.Dataset.from_dict({"a": []}))
    with pytest.raises(InputError, match=r"a/b\[train\]: expected at least one row"):
        list(read_hub("a/b", split="train"))
