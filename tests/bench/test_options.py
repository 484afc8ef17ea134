"""What every workload takes and refuses, what it starts from, and which version the reference has."""

import sys
from pathlib import Path

import pytest
from benchmark.base import NEVER, BaseArgs, make_base
from benchmark.dpo import generated_pairs
from benchmark.harness import run_process
from benchmark.problems import with_long_prompts, with_long_solutions
from transformers import AutoConfig

from lemma.corpora import arithmetic
from lemma.encoding import ChatEncoder, TokenizerArgs, load_tokenizer
from lemma.prompts import PromptArgs
from lemma.types import InputError

TOOLS = Path(__file__).parents[2] / "tools"


def test_worked_examples_make_every_prompt_as_long_as_asked(encoder):
    problems = list(arithmetic.generate("train", num_problems=12, seed=0))
    rows = list(with_long_prompts(problems, encoder, 300))
    for row, problem in zip(rows, problems, strict=True):
        assert row.problem.endswith(problem.problem)
        assert (row.solution, row.answer) == (problem.solution, problem.answer)
        assert abs(len(encoder.encode_prompt(row.problem)) - 300) <= 4
    assert problems[1].problem in rows[0].problem


def test_worked_problems_make_every_sequence_as_long_as_asked(encoder):
    problems = list(arithmetic.generate("train", num_problems=12, seed=0))
    for row, problem in zip(with_long_solutions(problems, encoder, 300), problems, strict=True):
        assert row.problem == problem.problem
        assert row.solution.endswith(problem.solution)
        example = encoder.encode(row)
        assert abs(len(example.prompt_ids) + len(example.completions[0]) - 300) <= 4


def test_a_model_whose_stop_token_has_no_row_in_the_head_cannot_end_a_completion(tmp_path):
    texts = [([{"role": "user", "content": "1 + 1 ="}], "2")]
    make_base(BaseArgs("none", layers=1, hidden=32, vocab=512), texts, tmp_path, seed=0, endless=True)
    encoder = ChatEncoder(load_tokenizer(TokenizerArgs(str(tmp_path))), PromptArgs())
    assert encoder.stop_ids == [512] == encoder.tokenizer.convert_tokens_to_ids([NEVER])
    assert max(encoder.encode_prompt("1 + 1 =")) < 512
    assert AutoConfig.from_pretrained(tmp_path).vocab_size == 512


def test_generated_pairs_are_a_right_solution_and_one_of_the_same_problem_with_another_answer():
    pairs = list(generated_pairs(50, seed=3))
    assert len(pairs) == len({pair["prompt"] for pair in pairs}) == 50
    for pair in pairs:
        right, wrong = (pair[side].rpartition("boxed{")[2] for side in ("chosen", "rejected"))
        assert right != wrong
    assert pairs[:9] == list(generated_pairs(9, seed=3)) != list(generated_pairs(9, seed=4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "--steps: expected at least 1, but got 0"),
        (["--hidden", "100"], "--hidden: expected a multiple of 32, but got 100"),
        (["--batch_size", "0"], "--batch_size: expected at least 1, but got 0"),
        (["--length", "9000"], "--length: expected null or 1 to 8192, but got 9000"),
        (["--layout", "flat"], "--layout: expected null or one of auto, padded"),
        (["--sweep", "rows"], "--sweep: expected null or one of steps"),
        (["--sweep", "hidden"], "--sweep_values: expected the values of hidden"),
        (["--reference_python", "/no/python"], "--reference_python: expected null or an interpreter"),
        (["--sweep", "reference_up_to"], "--sweep: expected null or one of steps"),
        (["--sweep_values", "[2]"], "--sweep_values: expected null without --sweep, but got [2]"),
        (["--reference_up_to", "3"], "--reference_up_to: expected null without --sweep, but got 3"),
        (["--out", "report.txt"], "--out: expected a file that ends in .json, but got 'report.txt'"),
        (["--out", f"{__file__}/report.json"], "--out: expected a place in a folder, which "),
        (["--rows", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(bench, options, message):
    refused = bench("sft", *options)
    assert refused.error.startswith("bench: error: ")
    assert message in refused.error
    assert refused.report == {}, "nothing was measured, so nothing is written"


def test_a_side_runs_with_the_threads_that_are_asked_for_and_a_failure_shows_its_last_words():
    args = BaseArgs("none", threads=1)
    printed = run_process([sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"], args)
    assert printed == "1\n"
    with pytest.raises(InputError, match="ended with status 1:\nlast words"):
        run_process([sys.executable, "-c", "import sys; sys.exit('last words')"], args)


def test_the_reference_is_pinned_to_the_versions_that_lemma_is_tested_with():
    constraints = (TOOLS / "constraints.txt").read_text().splitlines()
    pins = [line for line in (TOOLS / "benchmark/trl-requirements.txt").read_text().splitlines() if line[0] != "#"]
    assert "trl==1.16.0" in pins
    assert set(pins) <= set(constraints)
