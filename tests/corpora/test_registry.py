"""What a configuration may say, and the account of a loaded corpus."""

import hashlib
import io
import json
import tarfile

import datasets
import jsonargparse
import pytest

from lemma.corpora import ADAPTERS, CorpusArgs, load_corpus
from lemma.corpora.math import SUBJECTS
from lemma.types import InputError


def gsm8k_row(number):
    return {"question": f"Question {number}?", "answer": f"So.\n#### {number}"}


def math_row(number, level="Level 1", subject="Algebra"):
    return {"problem": f"Problem {number}", "level": level, "type": subject, "solution": rf"\boxed{{{number}}}"}


def ids(corpus):
    return [problem.id for problem in corpus.problems]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "gsmk"}, "`name` to be one of aime, aimo, aqua, arithmetic, graded, gsm8k, gsm8k_backward, gsm8k_p"),
        ({"path": ""}, "`path` to be a path, a hub name or null, but got ''"),
        ({"split": ""}, "`split` to be the name of a split, but got ''"),
        ({"source": "a/b"}, "`source` to be a label without blanks and slashes, but got 'a/b'"),
        ({"weight": 0}, "`weight` to be a number above 0, but got 0"),
        ({"weight": -1.5}, "`weight` to be a number above 0, but got -1.5"),
        ({"weight": float("nan")}, "`weight` to be a number above 0, but got nan"),
        ({"weight": float("inf")}, "`weight` to be a number above 0, but got inf"),
        ({"max_rows": 0}, "`max_rows` to be at least 1, but got 0"),
        ({"loss_weight": 0}, "`loss_weight` to be a number above 0, but got 0"),
        ({"on_bad_row": "ignore"}, "`on_bad_row` to be error or skip, but got 'ignore'"),
        ({"where": {"levle": [1]}}, "`where` to be a mapping with keys among level, subject, but got {'levle': [1]}"),
        ({"where": {"level": ["1"]}}, "`where.level` to be a list of whole numbers, but got ['1']"),
        ({"where": {"level": [True]}}, "`where.level` to be a list of whole numbers, but got [True]"),
        ({"where": {"level": 1}}, "`where.level` to be a list of whole numbers, but got 1"),
        ({"where": {"subject": []}}, "`where.subject` to be a list of texts, but got []"),
        ({"columns": {"problem": "q"}}, "`columns` to be null for gsm8k (only mapped takes columns)"),
        ({"name": "mapped", "columns": {"problem": "q"}}, "`path` to be a file, folder or hub name for mapped"),
        ({"name": "mapped", "path": "x"}, "`columns` to be a mapping with the key problem, but got None"),
        ({"name": "mapped", "path": "x", "columns": {"answer": "a"}}, "`columns` to be a mapping with the key problem"),
        (
            {"name": "mapped", "path": "x", "columns": {"problem": "q", "anwser": "a"}},
            "`columns` to be a mapping with keys among problem, answer, solution, level, subject, id, "
            "but got {'anwser': 'a'}",
        ),
        ({"name": "mapped", "path": "x", "columns": {"problem": ""}}, "`columns.problem` to be the name of a column"),
        ({"name": "mapped", "path": "x", "columns": {"problem": None}}, "`columns.problem` to be the name of a column"),
        ({"name": "graded", "pairs_per_problem": 0}, "`pairs_per_problem` to be at least 1, but got 0"),
        ({"name": "graded", "pairs_per_problem": True}, "`pairs_per_problem` to be at least 1, but got True"),
        (
            {"name": "preferences", "pairs_per_problem": 2},
            "`pairs_per_problem` to be 1 for preferences (only graded and gsm8k_solutions make pairs), but got 2",
        ),
        ({"name": "arithmetic", "path": "x"}, "`path` to be null for the generated corpus arithmetic, but got 'x'"),
        ({"name": "arithmetic", "revision": "x"}, "`revision` to be null for the generated corpus arithmetic"),
        ({"name": "arithmetic", "streaming": True}, "`streaming` to be false for the generated corpus arithmetic"),
    ],
)
def test_a_wrong_value_is_refused_with_key_rule_and_value(values, message):
    with pytest.raises(InputError) as error:
        CorpusArgs(**{"name": "gsm8k"} | values)
    assert str(error.value).startswith(f"corpus: expected {message}")


def test_yaml_becomes_corpora(tmp_path):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--corpora", type=list[CorpusArgs])
    parser.add_argument("--config", action="config")
    (tmp_path / "c.yaml").write_text(
        "corpora:\n"
        "- {name: math, path: x.tar.gz, weight: 1, where: {level: [1, null], subject: [algebra]}}\n"
        "- {name: mapped, path: a/b, max_rows: 3, columns: {problem: q, answer: a}}\n"
    )
    corpora = parser.instantiate(parser.parse_args(["--config", str(tmp_path / "c.yaml")])).corpora
    assert corpora == [
        CorpusArgs("math", "x.tar.gz", weight=1.0, where={"level": [1, None], "subject": ["algebra"]}),
        CorpusArgs("mapped", "a/b", max_rows=3, columns={"problem": "q", "answer": "a"}),
    ]


def test_a_bad_row_is_an_error_that_names_file_line_key_value_and_the_way_on(write_lines):
    path = write_lines("x.jsonl", gsm8k_row(0), {"question": "q", "answer": "seven"})
    with pytest.raises(InputError) as error:
        load_corpus(CorpusArgs("gsm8k", str(path)), root=None, seed=0)
    for part in (f"{path}:2: ", "`answer`", "'seven'", "on_bad_row: skip"):
        assert part in str(error.value)


def test_skipped_rows_are_recorded_and_never_silent(write_lines):
    rows = [gsm8k_row(0), b"{broken", {"question": "q", "answer": "seven"}, {"answer": "#### 1"}, gsm8k_row(4)]
    path = write_lines("x.jsonl", *rows)
    corpus = load_corpus(CorpusArgs("gsm8k", str(path), on_bad_row="skip"), root=None, seed=0)
    assert ids(corpus) == ["x/0", "x/4"]
    assert [bad.split(": ")[0] for bad in corpus.bad_rows] == [f"{path}:2", f"{path}:3", f"{path}:4"]
    assert "broken JSON" in corpus.bad_rows[0]
    assert "seven" in corpus.bad_rows[1]
    assert "no column `question`; the row has answer" in corpus.bad_rows[2]


def test_nothing_but_bad_rows_is_an_error_even_under_skip(write_lines):
    path = write_lines("x.jsonl", b"{broken")
    with pytest.raises(InputError, match=r"every row is bad; the first: .*x.jsonl:1: broken JSON"):
        load_corpus(CorpusArgs("gsm8k", str(path), on_bad_row="skip"), root=None, seed=0)


def test_an_id_that_occurs_twice_is_a_bad_row_that_names_both_places(write_lines):
    path = write_lines("x.jsonl", *({"q": f"q{i}", "id": uid} for i, uid in enumerate("aba")))
    args = {"name": "mapped", "path": str(path), "columns": {"problem": "q", "id": "id"}}
    with pytest.raises(InputError, match=rf"x.jsonl:3: id 'a' occurs twice, first at {path}:1"):
        load_corpus(CorpusArgs(**args), root=None, seed=0)
    corpus = load_corpus(CorpusArgs(**args, on_bad_row="skip"), root=None, seed=0)
    assert ids(corpus) == ["a", "b"]
    assert len(corpus.bad_rows) == 1


def test_source_is_the_name_unless_labelled(write_lines):
    path = str(write_lines("x.jsonl", gsm8k_row(0)))
    for source, expected in ((None, "gsm8k"), ("mine", "mine")):
        corpus = load_corpus(CorpusArgs("gsm8k", path, source=source), root=None, seed=0)
        assert corpus.source == corpus.problems[0].source == expected


def test_a_corpus_without_rows_fails_loudly(tmp_path):
    (tmp_path / "x.jsonl").touch()
    with pytest.raises(InputError, match="the file is empty"):
        load_corpus(CorpusArgs("gsm8k", "x.jsonl"), root=str(tmp_path), seed=0)


def test_where_keeps_the_levels_and_subjects_asked_for(write_lines):
    rows = [math_row(0, "Level 1"), math_row(1, "Level 2", "Geometry"), math_row(2, "Level ?"), math_row(3, "Level 1")]
    rows.append(math_row(4, "Level 2", "Counting & Probability"))
    path = str(write_lines("x.jsonl", *rows))

    def kept(where):
        corpus = load_corpus(CorpusArgs("math", path, where=where), root=None, seed=0)
        assert corpus.num_filtered == len(rows) - len(corpus.problems)
        return [int(problem.answer) for problem in corpus.problems]

    assert kept(None) == [0, 1, 2, 3, 4]
    assert kept({"level": [1]}) == [0, 3]
    assert kept({"level": [2, None]}) == [1, 2, 4]
    assert kept({"level": [2], "subject": ["geometry"]}) == [1]
    assert kept({"subject": ["Counting & Probability"]}) == kept({"subject": ["counting_and_probability"]}) == [4]


def test_a_filter_that_leaves_nothing_shows_the_values_that_exist(write_lines):
    path = write_lines("x.jsonl", math_row(0, "Level 1"), math_row(1, "Level ?", "Geometry"))
    args = CorpusArgs("math", str(path), where={"level": [5], "subject": ["geometri"]})
    with pytest.raises(InputError, match=r"leaves no problem .* level: 1, null; subject: algebra, geometry"):
        load_corpus(args, root=None, seed=0)


def test_the_cap_is_seeded_nested_ordered_and_taken_after_the_filter(write_lines):
    path = str(write_lines("x.jsonl", *(math_row(number, f"Level {number % 2 + 1}") for number in range(100))))

    def drawn(max_rows, seed):
        args = CorpusArgs("math", path, max_rows=max_rows, where={"level": [1]})
        corpus = load_corpus(args, root=None, seed=seed)
        assert (corpus.num_filtered, corpus.num_capped) == (50, 50 - min(max_rows, 50))
        return [int(problem.answer) for problem in corpus.problems]

    assert drawn(10, seed=1) == drawn(10, seed=1) == sorted(drawn(10, seed=1))
    assert drawn(10, seed=1) != drawn(10, seed=2)
    assert set(drawn(10, seed=1)) < set(drawn(20, seed=1))
    assert drawn(500, seed=1) == list(range(0, 100, 2))


def test_the_hash_is_that_of_the_file_whatever_is_kept(write_lines):
    path = write_lines("x.jsonl", gsm8k_row(0), gsm8k_row(1))
    for max_rows in (None, 1):
        corpus = load_corpus(CorpusArgs("gsm8k", str(path), max_rows=max_rows), root=None, seed=0)
        assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("key", "value"), [("subset", "main"), ("revision", "main"), ("streaming", True)])
def test_a_hub_option_on_local_data_is_refused(write_lines, key, value):
    path = write_lines("x.jsonl", gsm8k_row(0))
    with pytest.raises(InputError, match=f"expected no `{key}` for local .*x.jsonl, but got {value!r}"):
        load_corpus(CorpusArgs("gsm8k", str(path), **{key: value}), root=None, seed=0)


def test_archive_and_folder_give_equal_problems(tmp_path):
    members = {f"MATH/train/{subject}/{n}.json": math_row(n) for subject in ("algebra", "geometry") for n in (1, 20, 3)}
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        for name, values in members.items():
            content = json.dumps(values).encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
    by_path = [
        load_corpus(CorpusArgs("math", path), root=str(tmp_path), seed=0).problems
        for path in ("x.tar.gz", "MATH", "MATH/train")
    ]
    assert by_path[0] == by_path[1] == by_path[2]
    assert {problem.id for problem in by_path[0]} == {name[5:-5] for name in members}


@pytest.mark.parametrize(
    ("name", "hub", "subsets"),
    [
        ("gsm8k", "openai/gsm8k", ["main"]),
        ("math", "EleutherAI/hendrycks_math", list(SUBJECTS)),
        ("math500", "HuggingFaceH4/MATH-500", [None]),
    ],
)
def test_without_a_path_the_formats_own_hub_name_is_read(monkeypatch, name, hub, subsets):
    rows = {
        "gsm8k": gsm8k_row(0),
        "math": math_row(0),
        "math500": math_row(0) | {"subject": "Algebra", "answer": "0", "level": 1, "unique_id": "test/algebra/0.json"},
    }
    asked = []

    def load_dataset(path, subset, *, split, revision, streaming):
        asked.append((path, subset, split, revision))
        return datasets.Dataset.from_list([rows[name]])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = load_corpus(CorpusArgs(name, split="test", revision="abc"), root=None, seed=0)
    assert asked == [(hub, subset, "test", "abc") for subset in subsets]
    assert len(corpus.problems) == len(subsets)
    assert len(corpus.sha256) == 64
    assert name in ADAPTERS


def test_every_format_but_those_without_a_hub_name_says_where_the_hub_keeps_it():
    assert {name: adapter.hub for name, adapter in ADAPTERS.items()} == {
        "aime": None,  # several data sets, one or more a year: a path says which
        "aimo": None,  # on Kaggle
        "aqua": "deepmind/aqua_rat",
        "graded": None,  # the runs' own
        "gsm8k": "openai/gsm8k",
        "gsm8k_backward": "meta-math/GSM8K_Backward",
        "gsm8k_platinum": "madrylab/gsm8k-platinum",
        "gsm8k_solutions": None,  # a file beside OpenAI's code
        "limo": "GAIR/LIMO",
        "math": "EleutherAI/hendrycks_math",
        "math500": "HuggingFaceH4/MATH-500",
        "mathinstruct": "TIGER-Lab/MathInstruct",
        "metamathqa": "meta-math/MetaMathQA",
        "nemotron_cc_math": "nvidia/Nemotron-CC-Math-v1",
        "numinamath": "AI-MO/NuminaMath-CoT",
        "openmathinstruct2": "nvidia/OpenMathInstruct-2",
        "orca_math": "microsoft/orca-math-word-problems-200k",
        "preferences": None,  # any
        "text": None,
    }


def test_a_format_without_a_hub_name_wants_a_path():
    with pytest.raises(InputError, match="`path` to be a file or folder for aime, but got None"):
        load_corpus(CorpusArgs("aime"), root=None, seed=0)


def test_a_subset_and_a_hub_name_of_the_users_are_read_as_given(monkeypatch):
    asked = []

    def load_dataset(path, subset, *, split, revision, streaming):
        asked.append((path, subset))
        return datasets.Dataset.from_list([gsm8k_row(0)])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    load_corpus(CorpusArgs("gsm8k", subset="socratic"), root=None, seed=0)
    load_corpus(CorpusArgs("gsm8k", "me/mine"), root=None, seed=0)
    assert asked == [("openai/gsm8k", "socratic"), ("me/mine", None)]


def test_the_hash_of_hub_data_follows_its_content(monkeypatch):
    def sha256(*numbers):
        rows = [gsm8k_row(number) for number in numbers]
        monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: datasets.Dataset.from_list(rows))
        return load_corpus(CorpusArgs("gsm8k"), root=None, seed=0).sha256

    assert sha256(0, 1) == sha256(0, 1)
    assert len({sha256(0, 1), sha256(1, 0), sha256(0), sha256(0, 2)}) == 4


def test_arithmetic_is_generated_with_the_rows_levels_and_label_asked_for():
    args = CorpusArgs("arithmetic", max_rows=20, where={"level": [2, 1]}, source="sums")
    corpus = load_corpus(args, root=None, seed=3)
    assert len(corpus.problems) == 20
    assert {problem.level for problem in corpus.problems} == {1, 2}
    assert {problem.source for problem in corpus.problems} == {"sums"}
    assert (corpus.num_filtered, corpus.num_capped, corpus.bad_rows) == (0, 0, [])
    assert corpus.problems == load_corpus(args, root=None, seed=3).problems
    assert corpus.sha256 != load_corpus(args, root=None, seed=4).sha256


def test_arithmetic_has_2000_rows_by_default():
    assert len(load_corpus(CorpusArgs("arithmetic"), root=None, seed=0).problems) == 2000
