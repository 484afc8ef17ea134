"""What is left out of training, which copy is kept, and what is said of it."""

import pytest

from lemma.corpora import CleaningArgs, CorpusArgs, clean, load_corpus
from lemma.types import InputError, Problem


@pytest.fixture
def corpus(write_lines):
    def make(name: str, *rows: tuple[str, str], source: str | None = None):
        lines = [{"question": question, "answer": f"Work.\n#### {answer}"} for question, answer in rows]
        path = write_lines(f"{name}.jsonl", *lines)
        return load_corpus(CorpusArgs("gsm8k", str(path), source=source or name), root=None, seed=0)

    return make


def test_of_rows_that_come_twice_the_first_is_kept_within_and_across_corpora(corpus):
    one = corpus("one", ("a?", "1"), ("b?", "2"), ("a?", "1"))
    two = corpus("two", ("c?", "3"), ("b?", "2"), ("b?", "5"))
    cleaning = clean([one, two], [], CleaningArgs())
    assert [dropped.tolist() for dropped in cleaning.dropped] == [[False, False, True], [False, True, False]]
    assert cleaning.counts() == {"one/duplicate": 1, "two/duplicate": 1}
    [first, _] = cleaning.rows
    assert first["where"].endswith("one.jsonl:3")
    by_problem = clean([one, two], [], CleaningArgs(deduplicate="problems"))
    assert by_problem.dropped[1].tolist() == [False, True, True], "another answer does not make another problem"
    assert not any(dropped.any() for dropped in clean([one, two], [], CleaningArgs(deduplicate="off")).dropped)


def test_what_is_tested_on_is_dropped_and_named_with_the_benchmarks_problem(corpus):
    train = corpus("train", ("What is 1 + 1?", "2"), ("other", "3"))
    tested = [Problem(f"t{number}", "bench", f"unseen {number}") for number in range(9)]
    tested += [Problem("t9", "bench", "what is 1+1")]
    cleaning = clean([train], tested, CleaningArgs())
    assert cleaning.dropped[0].tolist() == [True, False]
    [row] = cleaning.rows
    assert (row["id"], row["reason"]) == ("train/0", "tested on")
    assert (row["tested_source"], row["tested_id"], row["kind"], row["overlap"]) == ("bench", "t9", "exact", 1.0)
    assert cleaning.report() == "dropped from train: tested on: 1"
    assert clean([train], tested, CleaningArgs(decontaminate="off")).rows == []
    with pytest.raises(InputError, match=r"1 training problems are also tested on, the first as bench t9"):
        clean([train], tested, CleaningArgs(on_overlap="error"))


def test_a_dropped_row_is_no_reason_to_drop_its_copy_as_a_duplicate_too(corpus):
    train = corpus("train", ("What is 1 + 1?", "2"), ("What is 1 + 1?", "2"))
    tested = [Problem(str(n), "bench", f"unseen {n}") for n in range(9)] + [Problem("t", "bench", "what is 1+1")]
    assert clean([train], tested, CleaningArgs()).counts() == {"train/tested on": 2}


def test_a_benchmark_inside_its_own_training_set_is_an_error(corpus):
    train = corpus("train", ("a?", "1"), ("b?", "2"), ("c?", "3"))
    tested = [Problem(text, "bench", text) for text in ("a", "b", "d")]
    with pytest.raises(InputError, match=r"2 of the 3 problems of bench, which this run is measured on, are training"):
        clean([train], tested, CleaningArgs())


@pytest.mark.parametrize("key", ["deduplicate", "decontaminate", "on_overlap"])
def test_unknown_values_are_refused(key):
    with pytest.raises(InputError, match=rf"data\.cleaning\.{key}: expected one of .*, but got 'maybe'"):
        CleaningArgs(**{key: "maybe"})
