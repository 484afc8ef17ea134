"""Files are written whole or not at all, and nothing is overwritten."""

import json
import os

import pytest

from lemma.files import keep_previous, write_atomic, write_json, write_jsonl, write_text
from lemma.types import InputError


def full_disk(stream):
    stream.write(b"half of the new")
    stream.flush()
    raise OSError(28, "No space left on device")


def broken_zip(stream):
    stream.write(b"half of the new")
    raise RuntimeError("unexpected pos 64 vs 0")  # what torch.save makes of a full disk


@pytest.mark.parametrize("writer", [full_disk, broken_zip])
def test_a_writer_that_fails_midway_leaves_the_old_file_whole_and_no_partial(tmp_path, writer):
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"old and whole")
    with pytest.raises(InputError, match=r"last\.ckpt: could not be written"):
        write_atomic(path, writer)
    assert path.read_bytes() == b"old and whole"
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_a_first_write_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="No space left"):
        write_atomic(tmp_path / "deep" / "last.ckpt", full_disk)
    assert os.listdir(tmp_path / "deep") == []


def test_the_old_file_is_seen_until_the_new_one_is_complete(tmp_path):
    path, seen = tmp_path / "results.json", []
    path.write_text("old")

    def write(stream):
        stream.write(b"ne")
        stream.flush()
        seen.append(path.read_text())
        stream.write(b"w")

    write_atomic(path, write)
    assert seen == ["old"]
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["results.json"]


def test_text_and_json_come_back_as_they_went_in(tmp_path):
    rows = [{"text": "π ≤ 4\n\u2028 new", "n": 1}, {"text": "", "n": None}]
    write_text(tmp_path / "a" / "t.txt", "π\n")
    write_json(tmp_path / "a" / "r.json", rows)
    write_jsonl(tmp_path / "a" / "r.jsonl", rows)
    assert (tmp_path / "a" / "t.txt").read_bytes() == "π\n".encode()
    assert json.loads((tmp_path / "a" / "r.json").read_text("utf-8")) == rows
    lines = (tmp_path / "a" / "r.jsonl").read_bytes().split(b"\n")
    assert [json.loads(line) for line in lines[:-1]] == rows
    assert lines[-1] == b""


def test_a_parent_that_is_a_file_is_an_input_error(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InputError, match="could not be written"):
        write_text(tmp_path / "runs" / "sft" / "log.txt", "x")


def test_a_writer_that_fails_with_any_error_leaves_no_partial(tmp_path):
    def write(stream):
        stream.write(b"half")
        raise ValueError("not an OSError")

    with pytest.raises(ValueError, match="not an OSError"):
        write_atomic(tmp_path / "last.ckpt", write)
    assert os.listdir(tmp_path) == []


def test_keep_previous_numbers_upwards_and_never_overwrites(tmp_path):
    path = tmp_path / "results.json"
    for content in ("first", "second", "third"):
        keep_previous(path)
        assert not path.exists()
        path.write_text(content)
    found = {name: (tmp_path / name).read_text() for name in os.listdir(tmp_path)}
    assert found == {"results.json": "third", "results-1.json": "first", "results-2.json": "second"}


def test_keep_previous_fills_no_gap_that_is_taken(tmp_path):
    for name in ("r.jsonl", "r-1.jsonl", "r-2.jsonl"):
        (tmp_path / name).write_text(name)
    keep_previous(tmp_path / "r.jsonl")
    assert {name: (tmp_path / name).read_text() for name in os.listdir(tmp_path)} == {
        "r-1.jsonl": "r-1.jsonl", "r-2.jsonl": "r-2.jsonl", "r-3.jsonl": "r.jsonl",
    }  # fmt: skip


def test_keep_previous_moves_folders_and_ignores_what_is_absent(tmp_path):
    (tmp_path / "validate").mkdir()
    (tmp_path / "validate" / "results.json").write_text("old")
    keep_previous(tmp_path / "validate")
    keep_previous(tmp_path / "validate")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "validate-1", "validate-1/results.json",
    ]  # fmt: skip
