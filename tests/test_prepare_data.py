"""Data for other tools is what the run would train on: whole, split without overlap, accounted for, resumable."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from lemma.corpora import CleaningArgs, CorpusArgs, load_corpus, problem_key
from lemma.datamodule import MathDataModule
from lemma.encoding import TokenizerArgs
from lemma.preparation import InspectionArgs, PreparationArgs, configured_data, inspection, pipeline, prepare, run_tool
from lemma.preparation.figures import lengths_text
from lemma.prompts import PromptArgs
from lemma.types import InputError

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LEMMA_DATA", ROOT.parent / "shared" / "data"))


def arithmetic(rows: int, split: str = "train", **options) -> CorpusArgs:
    return CorpusArgs("arithmetic", split=split, max_rows=rows, **options)


def module(**options) -> MathDataModule:
    given = {"corpora": [arithmetic(400)], "benchmarks": [arithmetic(40, "test")]}
    return MathDataModule(TokenizerArgs("tiny"), **given | options)


def prepared(folder: Path, data: MathDataModule | None = None, **options) -> Path:
    prepare(data or module(), PreparationArgs(str(folder), **{"formats": []} | options))
    return folder


def rows(folder: Path, side: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{side}.jsonl").read_text("utf-8").split("\n")[:-1]]


def ids(folder: Path, side: str) -> list[str]:
    return [row["id"] for row in rows(folder, side)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, MathDataModule]:
    """Return an output in all formats, by the run's own split, and the data it is from."""
    data = module()
    return prepared(tmp_path_factory.mktemp("whole") / "out", data, formats=["csv", "datasets"]), data


def test_own_sides_are_what_the_run_trains_on_holds_out_and_is_measured_on(whole):
    folder, data = whole
    assert ids(folder, "train") == [example.problem_id for example in data.training.examples]
    assert ids(folder, "val") == [example.problem_id for example in data.training.held_out]
    assert len(ids(folder, "val")) > 5
    assert ids(folder, "test") == [problem.id for problem in data.benchmarks["arithmetic"]]


def test_prompt_and_target_are_to_the_token_what_the_run_trains_on(whole):
    folder, data = whole
    encoder, example = data.encoder, data.training.examples[7]
    row = rows(folder, "train")[7]
    chat = encoder.tokenizer.apply_chat_template(
        [{"role": "user", "content": row["prompt"]}], tokenize=False, add_generation_prompt=True
    )
    assert encoder.tokenizer(chat, add_special_tokens=False)["input_ids"] == example.prompt_ids
    target = encoder.tokenizer(row["target"], add_special_tokens=False)["input_ids"]
    assert [[*target, encoder.stop_id]] == example.completions


def test_csv_datasets_and_jsonl_hold_the_same_rows(whole):
    from datasets import load_dataset, load_from_disk

    folder, _ = whole
    saved = load_from_disk(str(folder / "dataset"))
    by_card = load_dataset(str(folder), cache_dir=str(folder.parent / "cache"))
    for side in ("train", "val", "test"):
        lines = rows(folder, side)
        assert saved[side].to_list() == lines
        assert by_card[side]["id"] == [row["id"] for row in lines]
        with (folder / f"{side}.csv").open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        assert [tuple(row.values()) for row in table] == [
            (f"arithmetic/{row['id']}", row["problem"], row["answer"]) for row in lines
        ]
    again = load_corpus(CorpusArgs("aimo", path=str(folder / "test.csv")), root=None, seed=0)
    assert [problem.answer for problem in again.problems] == [row["answer"] for row in rows(folder, "test")]


def test_the_card_accounts_for_every_problem_and_names_hashes_and_licences(whole):
    folder, data = whole
    card = (folder / "README.md").read_text("utf-8")
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    for name, sha in manifest["files"].items():
        assert name == "README.md" or sha in card
    assert set(manifest["files"]) >= {"train.jsonl", "val.jsonl", "test.jsonl", "dropped.jsonl", "lengths.png"}
    assert all(sha in card for sha in data.data_hashes.values())
    assert "generated" in card
    (line,) = [line for line in card.split("\n") if line.startswith("| arithmetic |")][-1:]
    figures = dict(zip(account_header(card), map(int, line.split("|")[2:-1]), strict=True))
    assert figures.pop("read") == sum(figures.values()) == 400


def account_header(card: str) -> list[str]:
    (header,) = [line for line in card.split("\n") if line.startswith("| corpus") and "in train" in line]
    return [cell.strip() for cell in header.split("|")[2:-1]]


def test_a_split_by_hash_keeps_a_problem_on_one_side_and_its_shares_within_error(tmp_path):
    data = module(corpora=[arithmetic(3000)], benchmarks=[])
    folder = prepared(tmp_path / "out", data, split="80/10/10")
    sides = {side: {problem_key(row["problem"]) for row in rows(folder, side)} for side in ("train", "val", "test")}
    total = sum(map(len, sides.values()))
    assert len(set.union(*sides.values())) == total > 2500
    for side, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        assert abs(len(sides[side]) / total - share) < 4 * (share * (1 - share) / total) ** 0.5
    card = (folder / "README.md").read_text("utf-8")
    levels = [line for line in card.split("\n") if line.startswith("| arithmetic |") and "±" in line]
    assert len(levels) == 8, "all, and seven levels"
    assert "Expected 80.0% / 10.0% / 10.0%" in card


def test_without_a_test_fold_the_benchmarks_are_the_test(tmp_path):
    folder = prepared(tmp_path / "out", split="90/10")
    assert len(rows(folder, "test")) == 40
    assert len(rows(folder, "train")) + len(rows(folder, "val")) == 400
    with pytest.raises(InputError, match="--split: 90/10 leaves no problem for test"):
        prepared(tmp_path / "none", module(benchmarks=[]), split="90/10")
    with pytest.raises(InputError, match="--split: 98/1/1 leaves no problem for"):
        prepared(tmp_path / "few", module(corpora=[arithmetic(5)], held_out_share=0.0), split="98/1/1")


@pytest.mark.parametrize("epoch", ["shortest", "longest"])
def test_train_is_one_epoch_of_the_weighted_mixture(tmp_path, epoch):
    corpora = [arithmetic(300, weight=0.75, source="more"), arithmetic(300, "validation", weight=0.25, source="less")]
    data = module(corpora=corpora, benchmarks=[], epoch=epoch, held_out_share=0.0)
    lines = rows(prepared(tmp_path / "out", data), "train")
    expected = Counter(data.training.examples[i].problem_id for i in data.training.mixture.epoch_order(0))
    assert Counter(row["id"] for row in lines) == expected
    assert Counter(row["source"] for row in lines) == {
        "shortest": {"more": 300, "less": 100}, "longest": {"more": 900, "less": 300},
    }[epoch]  # fmt: skip


def test_a_system_prompt_is_in_the_messages(tmp_path):
    folder = prepared(tmp_path / "out", module(prompt=PromptArgs(system="tutor")), formats=["datasets"])
    row = rows(folder, "val")[0]
    assert [message["role"] for message in row["messages"]] == ["system", "user"]
    assert row["messages"][-1]["content"] == row["prompt"]


def write_problems(path: Path, *problems: tuple[str, str, str]) -> CorpusArgs:
    lines = [json.dumps({"question": q, "solution": s, "answer": a}) + "\n" for q, s, a in problems]
    path.write_text("".join(lines))
    columns = {"problem": "question", "solution": "solution", "answer": "answer"}
    return CorpusArgs("mapped", path=str(path), source=path.stem, columns=columns)


SHOP = "{0} buys {1} pens and {2} books at the corner shop, where a pen costs 2 dollars. How many things does {0} buy?"


def test_near_duplicates_are_dropped_with_what_they_resemble_and_solutions_of_one_problem_stay_together(tmp_path):
    pytest.importorskip("datasketch")
    first, renamed, numbers = (SHOP.format(*fill) for fill in (("Ann", 3, 4), ("Tom", 3, 4), ("Tom", 5, 4)))
    tested = (
        "A farmer has 12 cows and sells 5 of them on the market in the old town. How many cows are left on the farm?"
    )
    corpus = write_problems(
        tmp_path / "train.jsonl",
        (first, "3 + 4 = 7.", "7"),
        (first, "4 + 3 = 7.", "7"),
        (renamed, "Tom: 3 + 4 = 7.", "7"),
        (renamed, "Tom: 4 + 3 = 7.", "7"),
        (numbers, "5 + 4 = 9.", "9"),
        (tested.replace("farmer", "peasant"), "12 - 5 = 7.", "7"),
        ("What is 1 + 1?", "1 + 1 = 2.", "2"),
    )
    benchmark = write_problems(tmp_path / "test.jsonl", (tested, "12 - 5 = 7.", "7"))
    data = module(
        corpora=[corpus], benchmarks=[benchmark], held_out_share=0.0, cleaning=CleaningArgs(decontaminate="exact")
    )
    folder = prepared(tmp_path / "out", data, near_duplicates=0.5)
    assert [row["problem"] for row in rows(folder, "train")] == [first, first, numbers, "What is 1 + 1?"]
    dropped = [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]
    assert [(row["reason"], row["resembles_source"]) for row in dropped] == [
        ("near duplicate", "train"), ("near duplicate", "train"), ("near duplicate", "test"),
    ]  # fmt: skip
    assert dropped[0]["where"].endswith("train.jsonl:3")
    assert dropped[0]["resembles_where"].endswith("train.jsonl:1")
    assert all(0.5 <= row["similarity"] <= 1 for row in dropped)


def test_what_is_too_long_or_cannot_be_read_is_in_dropped(tmp_path):
    sums = [(f"What is {i} + 1?", f"It is {i + 1}.", str(i + 1)) for i in range(9)]
    corpus = write_problems(tmp_path / "train.jsonl", *sums)
    long = json.dumps({"question": "long?", "solution": "so " * 900, "answer": "1"})
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write(f'{{"question": "broken\n{long}\n')
    corpus.on_bad_row = "skip"
    data = module(corpora=[corpus], held_out_share=0.0, truncation="drop")
    folder = prepared(tmp_path / "out", data)
    dropped = [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in dropped] == ["bad row", "too long"]
    assert "train.jsonl:10: broken JSON" in dropped[0]["what"]
    assert len(rows(folder, "train")) == 9


def test_an_interrupted_output_goes_on_and_a_finished_stage_is_not_done_again(tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_csv", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            prepared(tmp_path / "out", formats=["csv"])
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.jsonl")}
    assert set(before) == {"train.jsonl", "val.jsonl", "test.jsonl", "dropped.jsonl"}
    assert not (tmp_path / "out" / "README.md").exists()
    (tmp_path / "out" / "val.jsonl").write_text("half a line")
    (tmp_path / "out" / "train.csv.partial-123").write_text("id,")
    folder = prepared(tmp_path / "out", formats=["csv"])
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.jsonl")}
    assert {name for name in before if before[name] != after[name]} == {"val.jsonl"}, "only what was damaged is written"
    alone = prepared(tmp_path / "alone", formats=["csv"])
    assert {path.name for path in alone.iterdir()} == {path.name for path in folder.iterdir()}
    for path in alone.iterdir():
        if path.name != "lengths.png":
            assert (folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_format_can_be_added_later_and_the_card_names_it(tmp_path):
    folder = prepared(tmp_path / "out")
    before = (folder / "train.jsonl").stat().st_mtime_ns
    assert "train.csv" not in (folder / "README.md").read_text()
    prepared(folder, formats=["csv"])
    assert "train.csv" in (folder / "README.md").read_text()
    assert (folder / "train.jsonl").stat().st_mtime_ns == before


def test_the_output_of_another_configuration_and_a_folder_of_other_files_are_refused(tmp_path):
    folder = prepared(tmp_path / "out")
    before = (folder / "train.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"another configuration \(other: corpora, data\)"):
        prepared(folder, module(corpora=[arithmetic(401)]))
    with pytest.raises(InputError, match=r"other: split\)"):
        prepared(folder, split="80/10/10")
    with pytest.raises(InputError, match=r"other: prompt and tokenizer\)"):
        prepared(folder, module(prompt=PromptArgs(answer_format="gsm8k")))
    assert (folder / "train.jsonl").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds other files"):
        prepared(tmp_path / "mine")
    with pytest.raises(InputError, match=r"--output: .*thesis.tex.*cannot be written to"):
        prepared(tmp_path / "mine" / "thesis.tex" / "out")
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="not what this tool wrote"):
        prepared(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "80-20"}, "--split: expected own, 80/10/10 or 90/10"),
        ({"near_duplicates": 1.5}, "--near_duplicates"),
        ({"formats": ["xml"]}, "--formats: expected among csv, datasets"),
        ({"output": ""}, "--output"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        PreparationArgs(**{"output": "out"} | options)


def test_nothing_to_write_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"data.corpora: nothing to write"):
        prepared(tmp_path / "out", module(corpora=[]))


def test_the_configuration_is_that_of_lemma_fit(tmp_path, monkeypatch):
    own = tmp_path / "config.yaml"  # what a run writes down has more keys than a file of configs/
    own.write_text(yaml.safe_dump({"ckpt_path": None, "print_plan": False, "trainer": {"max_steps": 3, "devices": 8}}))
    monkeypatch.setattr(sys, "argv", ["prepare_data.py"])
    files = ["base.yaml", "objective/sft.yaml", "policy/tiny.yaml", "corpora/arithmetic.yaml"]
    flags = [flag for name in files for flag in ("--config", str(ROOT / "configs" / name))]
    arguments = [*flags, "--config", str(own), "--seed_everything", "3", "--output", str(tmp_path), "--split", "90/10"]
    data, options = configured_data(PreparationArgs, "", arguments)
    assert options == PreparationArgs(str(tmp_path), split="90/10")
    assert [corpus.max_rows for corpus in data.corpora] == [8000]
    assert (data.tokenizer_args.base, data.seed) == ("tiny", 3)
    alone, _ = configured_data(InspectionArgs, "", ["--config", str(ROOT / "configs/corpora/arithmetic.yaml")])
    assert alone.tokenizer_args.base == "tiny"


def tool(name: str, *arguments: str) -> str:
    corpora = ("--data.corpora", '[{"name": "arithmetic", "max_rows": 60}]')
    command = [sys.executable, f"tools/{name}", "--config", "configs/corpora/arithmetic.yaml", *corpora, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tools_run_as_printed(tmp_path):
    assert "Written: " in tool("prepare_data.py", "--output", str(tmp_path / "out"))
    assert len(rows(tmp_path / "out", "train")) > 40
    shown = tool("inspect_data.py", "--num_examples", "1", "--output", str(tmp_path / "lengths.png"))
    assert shown.count("«") == 1
    assert (tmp_path / "lengths.png").stat().st_size > 5_000


def test_bad_input_ends_a_tool_with_one_line():
    def fail() -> None:
        raise InputError("--output: taken.")

    with pytest.raises(SystemExit, match=r"^prepare_data: error: --output: taken\.$"):
        run_tool("prepare_data", fail, verbose=True)


def test_inspection_marks_the_tokens_that_count_and_shows_what_was_asked_for():
    corpora = [arithmetic(60, source="one"), arithmetic(60, "validation", source="two")]
    data = module(corpora=[*corpora, arithmetic(70, source="again")], held_out_share=0.0)
    data.setup("fit")
    text = inspection(data, InspectionArgs(num_examples=2))
    assert text.count("«") == text.count("»") == 6
    example = data.training.examples[0]
    decode = data.encoder.tokenizer.decode
    assert f"{decode(example.prompt_ids)}«{decode(example.completions[0])}»" in text
    assert f"{sum(map(len, example.completions))} count" in text
    for word in ("per epoch", "padding", "dropped from again: duplicate: 60", "share of them"):
        assert word in text
    only = inspection(data, InspectionArgs(num_examples=1, source="two"))
    assert only.count("«") == 1
    assert "Tokens of an example of one" not in only
    with pytest.raises(InputError, match="--source: expected one of one, two"):
        inspection(data, InspectionArgs(source="three"))


def test_the_histogram_counts_every_length_once():
    lengths = np.random.default_rng(0).lognormal(5, 0.7, 5000).astype(int)
    lines = lengths_text(lengths, "Tokens").split("\n")
    assert sum(int(line.split()[-1].replace(",", "")) for line in lines[1:]) == 5000
    assert 5 < len(lines) < 16
    assert lengths_text(np.array([3]), "One").count("#") == 46
    assert lengths_text([], "None") == "None: none"


@pytest.mark.skipif(not (DATA / "gsm8k").is_dir(), reason="needs GSM8K and MATH files (LEMMA_DATA)")
def test_gsm8k_and_math_are_split_and_every_problem_is_accounted_for(tmp_path):
    corpora = [
        CorpusArgs("gsm8k", path="gsm8k/train.jsonl", max_rows=800),
        CorpusArgs("math", path="math/MATH_train.tar.gz", on_bad_row="skip", max_rows=800),
    ]
    benchmarks = [CorpusArgs("math500", path="math500/test.jsonl", split="test")]
    lengths = {"max_prompt_length": 640, "max_completion_length": 768, "truncation": "drop"}
    data = module(corpora=corpora, benchmarks=benchmarks, root=str(DATA), **lengths)
    folder = prepared(tmp_path / "out", data, split="80/10/10")
    lines = {side: rows(folder, side) for side in ("train", "val", "test")}
    dropped = [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]
    bad = sum(row["reason"] == "bad row" for row in dropped)
    assert bad == 2
    assert sum(map(len, lines.values())) + len(dropped) - bad == 1600
    assert " ! |" not in (folder / "README.md").read_text("utf-8"), "no share is more than three standard errors off"


def test_the_two_sides_of_a_pair_are_shown_apart_and_their_lengths_compared(tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"What is {n} + {n}?", "chosen": f"It is {2 * n}.", "rejected": "Why?"} for n in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = module(corpora=[CorpusArgs("preferences", path=str(file), source="mine")], benchmarks=[])
    data.setup("fit")
    text = inspection(data, InspectionArgs(num_examples=1))
    first = data.training.examples[0]
    sides = [data.encoder.tokenizer.decode(ids) for ids in first.completions]
    assert f"«{sides[0]}»«{sides[1]}»" in text
    assert f"{sum(map(len, first.completions))} count" in text
    assert "Tokens of the two sides of a pair, on average" in text
    assert "100.0%" in next(line for line in text.splitlines() if line.startswith("mine") and "+0." in line)
