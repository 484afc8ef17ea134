"""Problems on disk: the same as in memory, read once, and never half of them."""

import pickle

import pytest

from lemma.corpora import CorpusArgs, cached_folder, load_corpus
from lemma.corpora.store import CHUNK, Account, Placed, Store, write_store
from lemma.types import InputError, Problem


def row(number: int) -> dict[str, str]:
    return {"question": f"Question {number}?", "answer": f"#### {number}"}


def test_a_store_holds_what_was_written_in_order_over_several_chunks(tmp_path):
    problems = [
        Problem(str(n), "s", f"p{n}", solution=None if n % 3 else f"s{n}\u2028", answer=str(n), level=n % 5 or None)
        for n in range(2 * CHUNK + 7)
    ]
    placed = (Placed(problem, f"x:{problem.id}") for problem in problems)
    write_store(tmp_path, "problems", placed, Account(), skip_repeated=False)
    store = Store(tmp_path, "s")
    assert list(store) == problems
    assert [store[index] for index in (0, CHUNK - 1, CHUNK, len(problems) - 1)] == [
        problems[index] for index in (0, CHUNK - 1, CHUNK, len(problems) - 1)
    ]
    assert store.where(CHUNK) == f"x:{CHUNK}"
    assert list(store.column("level")) == [problem.level for problem in problems]
    assert pickle.loads(pickle.dumps(store))[CHUNK] == problems[CHUNK]  # goes to loader processes
    with pytest.raises(IndexError):
        store[len(problems)]


def test_a_file_is_read_once_and_again_when_it_has_changed(write_lines, tmp_path):
    path, cache = write_lines("x.jsonl", row(0), row(1)), tmp_path / "cache"

    def load():
        return load_corpus(CorpusArgs("gsm8k", str(path)), root=None, seed=0, cache=cache)

    first = load()
    before = {folder: folder.stat().st_mtime_ns for folder in cache.iterdir()}
    assert load().problems == first.problems
    assert {folder: folder.stat().st_mtime_ns for folder in cache.iterdir()} == before, "nothing was written"
    write_lines("x.jsonl", row(0), row(7))
    assert [problem.answer for problem in load().problems] == ["0", "7"]
    assert len(list(cache.iterdir())) == 2


def test_reading_that_fails_leaves_nothing_behind_and_a_half_written_folder_is_not_taken(write_lines, tmp_path):
    cache = tmp_path / "cache"
    path = write_lines("x.jsonl", row(0), b"{broken")
    with pytest.raises(InputError, match=r"x\.jsonl:2: broken JSON"):
        load_corpus(CorpusArgs("gsm8k", str(path)), root=None, seed=0, cache=cache)
    assert list(cache.iterdir()) == []

    def killed(folder):
        (folder / "rows.arrow").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_folder(cache, {"key": 1}, killed)
    whole = cached_folder(cache, {"key": 1}, lambda folder: (folder / "rows.arrow").write_bytes(b"whole"))
    assert (whole / "rows.arrow").read_bytes() == b"whole"
    again = cached_folder(cache, {"key": 1}, lambda folder: pytest.fail("it is there already"))
    assert again == whole
    assert cached_folder(cache, {"key": 2}, lambda folder: None) != whole


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"data\.cache_dir: .*file/cache cannot be written to"):
        cached_folder(tmp_path / "file" / "cache", {}, lambda folder: None)


def test_a_fold_is_a_part_of_the_corpus_and_the_folds_are_all_of_it(write_lines):
    path = write_lines("x.jsonl", *map(row, range(300)))
    parts = [
        {p.id for p in load_corpus(CorpusArgs("gsm8k", str(path), fold=fold), root=None, seed=0).problems}
        for fold in ("train", "validation", "test")
    ]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 300
    with pytest.raises(InputError, match=r"the fold 'test' of 90/10 has no problem"):
        load_corpus(CorpusArgs("gsm8k", str(path), fold="test", folds="90/10"), root=None, seed=0)
