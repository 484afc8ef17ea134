"""Anybody's outputs become records, are graded as an evaluation's, and agree with labels where the labels are right."""

import json
from pathlib import Path

import pytest

from lemma.answers import Grader
from lemma.evaluation.outputs import Columns, cut_samples, read_outputs
from lemma.evaluation.regrading import regrade
from lemma.types import GREEDY, InputError, Verdict

DATA = Path(__file__).parents[3] / "shared" / "data"
SETTINGS = {"seed": 0}


@pytest.fixture
def write(tmp_path):
    def write(*rows: object, name: str = "theirs.jsonl") -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), "utf-8")
        return path

    return write


def graded(outputs, ks=(1, 2)):
    seen = []
    with Grader() as grader:
        evaluation, disagreements = regrade(
            outputs, grader, ks=ks, seed=0, settings=SETTINGS, progress=lambda number: seen.append(number)
        )
    assert sum(seen) == sum(len(record.completions) for record in outputs.records)
    return evaluation, disagreements


def row(question: str, gold: str, text: str, **more: object) -> dict:
    return {"question": question, "gold": gold, "text": text, **more}


COLUMNS = Columns(["text"], problem="question", answer="gold")


def test_rows_of_one_problem_are_its_samples_in_order(write):
    path = write(
        row("a?", "1", r"\boxed{1}"), row("b?", "2", r"\boxed{3}"), row("a?", "1", r"\boxed{2}"), row("b?", "2", "2")
    )
    [outputs] = read_outputs(path, COLUMNS)
    assert [record.problem.problem for record in outputs.records] == ["a?", "b?"]
    assert [record.samples for record in outputs.records] == [[0, 1], [0, 1]]
    assert [record.problem.source for record in outputs.records] == ["theirs"] * 2
    evaluation, _ = graded(outputs)
    assert [record.num_correct for record in evaluation.records] == [1, 0]
    metrics = evaluation.results["benchmarks"]["theirs"]["metrics"]
    assert metrics["pass@1"]["value"] == 0.25
    assert metrics["flexible_pass@1"]["value"] == 0.5
    assert metrics["pass@2"]["value"] == 0.5
    assert "completion_length" not in metrics
    assert evaluation.results["average_tokens_out"] is None
    assert evaluation.results["label_agreement"] is None


def test_a_list_of_texts_is_as_many_samples(write):
    [outputs] = read_outputs(write({**row("a?", "1", ""), "text": [r"\boxed{1}", "", r"\boxed{4}"]}), COLUMNS)
    assert outputs.records[0].completions == [r"\boxed{1}", "", r"\boxed{4}"]
    assert graded(outputs)[0].results["pass_at_k"] == pytest.approx({"1": 1 / 3, "2": 2 / 3})


def test_one_completion_of_each_problem_is_scored_as_greedy(write):
    [outputs] = read_outputs(write(row("a?", "1", r"\boxed{1}"), row("b?", "2", r"\boxed{1}")), COLUMNS)
    assert [record.samples for record in outputs.records] == [[GREEDY], [GREEDY]]
    results = graded(outputs)[0].results
    assert (results["accuracy"], results["pass_at_k"]) == (0.5, None)


def test_dotted_columns_lead_into_objects_and_several_are_several_models(write):
    models = {"big.model": {"solution": r"\boxed{1}", "right": True}, "small": {"solution": "no idea", "right": False}}
    path = write({"meta": {"q": "a?", "gold": 1, "level": "Level 3"}, **models})
    columns = Columns(["big.model", "small.solution"], problem="meta.q", answer="meta.gold", level="meta.level")
    with pytest.raises(InputError, match=r"theirs\.jsonl:1: `big\.model`: expected a text or a list of texts"):
        read_outputs(path, columns)  # a key with a dot in it comes first
    path = write(
        {"meta": {"q": "a?", "gold": 1, "level": "Level 3"}, "big": models["big.model"], "small": models["small"]}
    )
    columns = Columns(
        ["big.solution", "small.solution"], problem="meta.q", answer="meta.gold", level="meta.level",
        labels=["big.right", "small.right"],
    )  # fmt: skip
    big, small = read_outputs(path, columns)
    assert (big.name, small.name) == ("big.solution", "small.solution")
    assert (big.records[0].problem.answer, big.records[0].problem.level) == ("1", 3)
    assert (big.labels, small.labels) == ([[True]], [[False]])


def test_agreement_with_labels_is_counted_and_disagreements_are_told(write):
    path = write(
        row("a?", "1", r"\boxed{1}", ok=True),
        row("b?", "2", "it is 2", ok=True),  # only flexible extraction finds it
        row("c?", "3", r"\boxed{3}", ok=False),  # the label is wrong
        row("d?", "4", r"\boxed{5}", ok=None),
    )
    [outputs] = read_outputs(path, Columns(["text"], "question", "gold", labels=["ok"]))
    evaluation, disagreements = graded(outputs)
    assert evaluation.results["label_agreement"] == {
        "labels": 3, "strict": 1, "flexible": 2, "only_we_say_correct": 1, "only_label_says_correct": 1,
    }  # fmt: skip
    assert [(one["answer"], one["verdict"], one["label"]) for one in disagreements] == [
        ("2", "unparseable", True), ("3", "correct", False),
    ]  # fmt: skip


def test_a_gold_may_stand_at_the_end_of_a_solution(write):
    path = write(row("a?", "2 + 2 = <<2+2=4>>4\nA: 4", r"\boxed{4}"), row("b?", "so\n#### 1,200", r"\boxed{1200}"))
    [outputs] = read_outputs(path, COLUMNS, extract_gold=True)
    assert graded(outputs)[0].results["accuracy"] == 1.0


def test_records_are_regraded_as_they_were_sampled(write, make_record):
    records = [make_record(0, "CWC"), make_record(1, "WCC")]
    rows = [record.as_json() for record in records]
    rows[0]["completions"], rows[1]["completions"] = (
        [r"\boxed{1}", "2", r"\boxed{1.0}"],
        ["", r"\boxed{1}", r"\boxed{1}"],
    )
    [outputs] = read_outputs(write(*rows, name="records.jsonl"), COLUMNS)
    evaluation, disagreements = graded(outputs)
    assert [record.samples for record in evaluation.records] == [[GREEDY, 0, 1]] * 2
    verdicts = [[grade.verdict for grade in record.grades] for record in evaluation.records]
    assert verdicts[0] == [Verdict.CORRECT, Verdict.UNPARSEABLE, Verdict.CORRECT]
    assert disagreements == []  # what was wrong is not correct, what was correct is
    assert [record.tokens_out for record in evaluation.records] == [record.tokens_out for record in records]
    assert evaluation.results["label_agreement"]["labels"] == 6


def test_numbers_of_samples_must_agree_or_be_cut(write):
    path = write(
        row("a?", "1", "x"), row("b?", "2", "y"), row("a?", "1", "z"), row("b?", "2", "w"), row("a?", "1", "v")
    )
    [outputs] = read_outputs(path, COLUMNS)
    with pytest.raises(InputError, match=r"theirs\.jsonl:2: problem theirs/1 has 2 of 3 samples\. --num_samples 2"):
        cut_samples(outputs, None)
    with pytest.raises(InputError, match="has 2 of 3 samples"):
        cut_samples(outputs, 3)
    cut = cut_samples(outputs, 2)
    assert [record.completions for record in cut.records] == [["x", "z"], ["y", "w"]]
    assert [len(labels) for labels in cut.labels] == [2, 2]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"question": "b?"', "broken JSON"),
        ('"text"', "expected a JSON object"),
        ({"question": "b?", "text": "x"}, "no column `gold`; the row has ok, uid, question, text"),
        (row("b?", "", "x"), "`gold`: expected a non-empty text"),
        (row("b?", "1", "x") | {"text": None}, "`text`: expected a text or a list of texts, but got None"),
        (row("b?", "1", "x") | {"text": []}, "`text`: expected at least one completion"),
        (row("b?", "1", "x", ok="yes"), "`ok`: expected true, false or null, but got 'yes'"),
        (row("b?", "1", "x", ok=[True, True]), "`ok`: expected 1 labels"),
        (row("b?", "1", "x", uid="0"), "`uid`: another problem or answer than at .*theirs.jsonl:1"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_key_or_skipped(write, bad, message):
    if isinstance(bad, dict):
        bad = {"ok": True, "uid": "1", **bad}
    path = write(row("a?", "1", "x", ok=True, uid="0"), bad, row("c?", "1", "x", ok=True, uid="2"))
    columns = Columns(["text"], "question", "gold", labels=["ok"], id="uid")
    with pytest.raises(InputError, match=rf"theirs\.jsonl:2: .*{message}"):
        read_outputs(path, columns)
    [outputs] = read_outputs(path, columns, on_bad_row="skip")
    assert [record.problem.problem for record in outputs.records] == ["a?", "c?"]
    assert len(outputs.bad_rows) == 1


def test_a_file_of_bad_rows_only_is_an_error(write):
    with pytest.raises(InputError, match=r"every row is bad; the first: .*:1: no column"):
        read_outputs(write({"x": 1}), COLUMNS, on_bad_row="skip")
    with pytest.raises(InputError, match="no such file"):
        read_outputs(Path("nowhere.jsonl"), COLUMNS)


def test_labels_must_be_as_many_as_completion_columns():
    with pytest.raises(InputError, match="labels: expected none or one for each of the 2"):
        Columns(["a", "b"], labels=["c"])


def test_an_unreadable_gold_is_named_by_place(write):
    [outputs] = read_outputs(write(row("a?", "1", "x"), row("b?", "???", "x")), COLUMNS)
    with Grader() as grader:
        grader.unreadable = lambda golds: [golds.index("???")]
        with pytest.raises(
            InputError, match=r"theirs\.jsonl:2: the grader can make nothing of the gold answer '\?\?\?'"
        ):
            regrade(outputs, grader, ks=[1], seed=0, settings=SETTINGS, progress=print)


@pytest.mark.parametrize(
    ("name", "num_problems", "num_samples", "least"),
    [("qwen_math100x8", 45, 8, 0.99), ("nemo_skills_math", 24, 3, 0.95)],
)
def test_real_outputs_agree_with_their_labels(name, num_problems, num_samples, least):
    path = DATA / "outputs" / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip("the data is not here")
    columns = Columns(["response"], answer="gold", labels=["recorded_correct"])
    [outputs] = read_outputs(path, columns)
    assert [len(record.completions) for record in outputs.records] == [num_samples] * num_problems
    agreement = graded(outputs)[0].results["label_agreement"]
    assert agreement["labels"] == num_problems * num_samples
    assert agreement["strict"] >= least * agreement["labels"]
