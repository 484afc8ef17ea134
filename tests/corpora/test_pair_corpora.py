"""Corpora of preference pairs: the same reading, cache, folds, filters and cleaning as problems, and a clear no."""

import json
import pickle
import tracemalloc

import datasets
import pytest

from lemma.answers import extract_answer
from lemma.corpora import CleaningArgs, CorpusArgs, clean, comparable_completion, load_corpus, reading_report
from lemma.corpora.store import CHUNK, Account, Placed, Store, write_store
from lemma.evaluation import gradable_benchmarks
from lemma.types import InputError, Preference, Problem


def record(number, right=2, wrong=2, problem=None, **more):
    verdicts = ["correct"] * right + ["wrong"] * wrong
    completions = [f"{verdict} {number} {i}" for i, verdict in enumerate(verdicts)]
    problem = problem or f"Problem {number}?"
    values = {"problem_id": str(number), "problem": problem, "completions": completions, "verdicts": verdicts}
    return values | {"level": number % 3 + 1, "subject": "even" if number % 2 == 0 else "odd"} | more


def pair(number, **more):
    return {"prompt": f"Problem {number}?", "chosen": f"It is {number}.", "rejected": "No idea."} | more


@pytest.fixture
def load(write_lines):
    """Return a function of (name of the format, rows, arguments) to a corpus of a file of these rows."""

    def loaded(name, rows, file="x.jsonl", cache=None, **arguments):
        return load_corpus(CorpusArgs(name, str(write_lines(file, *rows)), **arguments), root=None, seed=0, cache=cache)

    return loaded


def test_a_store_holds_pairs_as_they_were_over_several_chunks(tmp_path):
    pairs = [
        Preference(
            str(n), "s", (("system", "Be brief."), ("user", f"p{n}\u2028"))[n % 2 :], f"c{n}", f"r{n}",
            "plain" if n % 2 else "chat", "given", n % 5 or None, None if n % 3 else "sums",
        )
        for n in range(CHUNK + 7)
    ]  # fmt: skip
    placed = (Placed(pair, f"x:{pair.id}") for pair in pairs)
    write_store(tmp_path, "preferences", placed, Account(), skip_repeated=False)
    store = Store(tmp_path, "s")
    assert list(store) == pairs
    assert pickle.loads(pickle.dumps(store))[CHUNK + 1] == pairs[CHUNK + 1]
    assert isinstance(hash(store[0]), int), "the messages are tuples again"


def test_preferences_are_read_in_order_and_again_from_the_cache(load, tmp_path):
    rows = [pair(0), pair(1, kind="shorter", level=2)]
    first = load("preferences", rows, cache=tmp_path / "cache")
    before = {folder: folder.stat().st_mtime_ns for folder in (tmp_path / "cache").iterdir()}
    again = load("preferences", rows, cache=tmp_path / "cache")
    assert {folder: folder.stat().st_mtime_ns for folder in (tmp_path / "cache").iterdir()} == before
    assert again.preferences == first.preferences
    assert [(one.id, one.kind, one.level) for one in first.preferences] == [
        ("x/0", "given", None),
        ("x/1", "shorter", 2),
    ]
    assert first.holds_pairs
    assert first.args.holds_pairs


def test_another_number_of_pairs_is_read_anew_and_holds_the_smaller_one(load, tmp_path):
    rows = [record(n) for n in range(5)]
    few, many = (load("graded", rows, cache=tmp_path / "cache", pairs_per_problem=n) for n in (1, 9))
    assert [one.id for one in few.preferences] == [f"{n}/0" for n in range(5)]
    assert [one.id for one in many.preferences] == [f"{n}/{k}" for n in range(5) for k in range(4)]
    assert set(few.preferences) < set(many.preferences)


def test_pairs_whose_sides_are_equal_are_bad_rows(load):
    rows = [pair(0), pair(1, rejected="IT IS  1.")]
    with pytest.raises(InputError, match=r"x.jsonl:2: `rejected`: expected another text than `chosen`.*on_bad_row"):
        load("preferences", rows)
    corpus = load("preferences", rows, on_bad_row="skip")
    assert (len(corpus.preferences), len(corpus.bad_rows)) == (1, 1)


def test_problems_without_a_pair_are_no_bad_rows_and_are_counted_by_reason(load, tmp_path):
    rows = [record(0), record(1, wrong=0), record(2, wrong=0), record(3, right=0)]
    rows.append(record(4, right=1, wrong=1, stopped=[False, True]))
    for _ in range(2):  # read, then opened again
        corpus = load("graded", rows, source="mine", cache=tmp_path / "cache")
        assert (len(corpus.preferences), corpus.bad_rows) == (1, [])
        assert reading_report({"train": [corpus]}).endswith(
            "\nmine: 1 of 5 problems have both a right and a wrong completion; 2 only right ones, 1 only wrong ones, "
            "1 too few that can be used; completions on neither side: 1 unfinished."
        )


def test_no_pair_at_all_is_an_error_with_the_counts_and_the_way_on(load):
    with pytest.raises(InputError) as error:
        load("graded", [record(0, wrong=0), record(1, right=0)])
    for part in ("x.jsonl gives no preference pair. graded: 0 of 2 problems have both", "1 only right ones", "sample"):
        assert part in str(error.value)


def test_records_of_one_id_in_two_benchmarks_are_two_problems_and_with_another_text_a_bad_row(load):
    corpus = load("graded", [record(0, source="one"), record(0, source="two")])
    assert [one.id for one in corpus.preferences] == ["one/0/0", "two/0/0"]
    with pytest.raises(InputError, match=r"x.jsonl:2: id 'one/0/0' occurs twice, first at .*x.jsonl:1"):
        load("graded", [record(0, source="one"), record(0, source="one", problem="Another?")])


def test_records_of_one_problem_are_one_set_of_completions_in_which_equal_texts_count_once(load):
    right, wrong = record(0, right=2, wrong=0), record(0, right=0, wrong=2, stopped=[True, False])
    corpus = load("graded", [right, record(1), wrong, right, record(2)], source="mine", pairs_per_problem=9)
    pairs = [one for one in corpus.preferences if one.prompt == "Problem 0?"]
    assert [one.id for one in pairs] == ["0/0", "0/1"]
    assert {(one.chosen, one.rejected) for one in pairs} == {(f"correct 0 {i}", "wrong 0 0") for i in range(2)}
    assert "mine: 3 of 3 problems have both" in reading_report({"train": [corpus]})
    assert "completions on neither side: 1 unfinished" in reading_report({"train": [corpus]})


def test_a_bad_record_among_those_of_one_problem_is_reported_where_it_stands(load):
    rows = [record(0, wrong=0), record(0, verdicts=["correct"]), record(0, right=0)]
    with pytest.raises(InputError, match=r"x.jsonl:2: `verdicts`: expected 4 entries"):
        load("graded", rows)
    corpus = load("graded", rows, on_bad_row="skip")
    assert ([one.id for one in corpus.preferences], len(corpus.bad_rows)) == (["0/0"], 1)


def test_folds_never_split_the_pairs_of_a_problem(load):
    rows = [record(n) for n in range(200)]
    parts = [
        load("graded", rows, pairs_per_problem=4, fold=fold).preferences for fold in ("train", "validation", "test")
    ]
    prompts = [{one.prompt for one in part} for part in parts]
    assert sum(map(len, parts)) == 800
    assert sum(map(len, prompts)) == len(set.union(*prompts)) == 200
    assert all(prompts)


def test_where_chooses_pairs_by_level_and_subject(load):
    rows = [record(n) for n in range(12)]
    corpus = load("graded", rows, where={"level": [1], "subject": ["odd"]}, pairs_per_problem=2)
    assert {one.prompt for one in corpus.preferences} == {"Problem 3?", "Problem 9?"}
    assert corpus.num_filtered == 20
    with pytest.raises(InputError, match=r"leaves no pair of graded, which has level: 1, 2, 3"):
        load("graded", rows, where={"level": [7]})


def test_a_pair_whose_prompt_is_tested_is_dropped_with_all_pairs_of_its_problem(load):
    corpus = load("graded", [record(n) for n in range(3)], pairs_per_problem=4)
    tested = [Problem(str(n), "bench", f"Unseen {n}?") for n in range(5)] + [Problem("t", "bench", "problem 1")]
    cleaning = clean([corpus], tested, CleaningArgs())
    assert cleaning.dropped[0].tolist() == [False] * 4 + [True] * 4 + [False] * 4
    assert [row["id"] for row in cleaning.rows] == [f"1/{k}" for k in range(4)]
    held = load("preferences", [pair(2), pair(7), pair(8)], file="held.jsonl")
    assert clean([corpus], held.items, CleaningArgs()).dropped[0].tolist() == [False] * 8 + [True] * 4


def test_many_pairs_of_one_problem_do_not_make_its_words_a_phrase_that_does_not_count(load):
    story = " ".join(f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(40))
    corpus = load("graded", [record(0, 5, 5, problem=f"Hear! {story}")], pairs_per_problem=25)
    cleaning = clean([corpus], [Problem("t", "bench", story), Problem("u", "bench", "?")], CleaningArgs())
    assert cleaning.dropped[0].all()
    assert len(cleaning.rows) == 25


def test_equal_pairs_come_once_and_problems_keep_their_first_pair(load):
    again = pair(0) | {"chosen": "It  is 0."}
    corpus = load("preferences", [pair(0), again, pair(0, rejected="5?"), pair(1)])
    dropped = {what: clean([corpus], [], CleaningArgs(deduplicate=what)).dropped[0].tolist() for what in
               ("rows", "problems", "off")}  # fmt: skip
    assert dropped["rows"] == [False, True, False, False]
    assert dropped["problems"] == [False, True, True, False]
    assert dropped["off"] == [False] * 4


def test_the_other_noun_is_refused_with_the_name_of_the_corpus(load):
    pairs, problems = load("preferences", [pair(0)]), load("gsm8k", [{"question": "q", "answer": "#### 1"}], "y.jsonl")
    with pytest.raises(InputError, match=r"'preferences' \(preferences\) holds preference pairs, but problems are"):
        _ = pairs.problems
    with pytest.raises(InputError, match=r"'gsm8k' \(gsm8k\) holds problems, but preference pairs are needed"):
        _ = problems.preferences
    with pytest.raises(InputError, match=r"data\.benchmarks: 'preferences' \(preferences\) holds preference pairs"):
        gradable_benchmarks([pairs])
    assert not problems.holds_pairs
    assert not problems.args.holds_pairs


def test_pairs_on_the_hub_are_read_as_they_come_and_streaming_stops_at_the_cap(monkeypatch):
    seen = []

    def load_dataset(path, subset, *, split, revision, streaming):
        def rows():
            for number in range(100):
                seen.append(number)
                yield pair(number)

        return rows()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = load_corpus(CorpusArgs("preferences", "me/pairs", streaming=True, max_rows=3), root=None, seed=0)
    assert [one.id for one in corpus.preferences] == ["train/0", "train/1", "train/2"]
    assert len(seen) == 3
    assert len(corpus.sha256) == 64


def test_a_file_of_records_is_read_in_memory_that_does_not_grow_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("lemma.corpora.store.CHUNK", 100)
    peaks, num_rows = [], (500, 1500)
    for size in num_rows:
        path = tmp_path / f"{size}.jsonl"
        with path.open("w") as file:
            file.writelines(json.dumps(record(n, 1, 1, problem=f"{n} {1000 * 'x'}")) + "\n" for n in range(size))
        tracemalloc.start()
        load_corpus(CorpusArgs("graded", str(path)), root=None, seed=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200 * (num_rows[1] - num_rows[0]), "of a row of 1,000 bytes only the keys are held"


def test_of_openais_solutions_731_problems_give_pairs(data):
    args = CorpusArgs("gsm8k_solutions", "gsm8k/example_model_solutions.jsonl", pairs_per_problem=9)
    corpus = load_corpus(args, root=str(data), seed=0)
    assert "731 of 1,319 problems have both a right and a wrong completion" in reading_report({"train": [corpus]})
    pairs = list(corpus.preferences)
    assert len({one.prompt for one in pairs}) == 731
    assert len(pairs) == 287 * 3 + 234 * 4 + 204 * 3 + 4 * 2 + 2 * 2
    for one in pairs:
        assert comparable_completion(one.chosen) != comparable_completion(one.rejected)
        for text in (one.chosen, one.rejected):
            assert extract_answer(text).strategy == "boxed"
            assert "<<" not in text
