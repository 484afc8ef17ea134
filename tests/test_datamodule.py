"""What the DataModule hands out: benchmark shards, held-out examples, pairs, the real corpora without silent losses."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer

from lemma.corpora import CorpusArgs, corpus_args
from lemma.datamodule import MathDataModule
from lemma.encoding import PairArgs, TokenizerArgs
from lemma.prompts import PromptArgs
from lemma.types import InputError

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LEMMA_DATA", ROOT.parent / "shared" / "data"))


def data_module(*, fn: str = "fit", ranks: int = 1, rank: int = 0, **options) -> MathDataModule:
    data = MathDataModule(TokenizerArgs("tiny"), **options)
    data.trainer = SimpleNamespace(
        state=SimpleNamespace(fn=fn),
        world_size=ranks,
        global_rank=rank,
        accumulate_grad_batches=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    data.setup(fn)
    return data


def arithmetic(split: str, rows: int, **options) -> CorpusArgs:
    return CorpusArgs("arithmetic", split=split, max_rows=rows, **options)


def benchmark_batches(**options) -> list[list[int]]:
    data = data_module(benchmarks=[arithmetic("test", 23)], benchmark_batch_size=4, **options)
    return [[item.index for item in batch.items] for batch in data.val_dataloader()[-1]]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_ranks_share_a_benchmark_once_and_take_the_same_number_of_batches(ranks):
    shards = [benchmark_batches(fn="validate", ranks=ranks, rank=rank) for rank in range(ranks)]
    assert len({len(batches) for batches in shards}) == 1
    assert sorted(index for batches in shards for batch in batches for index in batch) == list(range(23))


def test_fit_measures_the_same_subset_on_any_number_of_ranks_and_validate_measures_all():
    one = {i for batch in benchmark_batches(fit_problems=9) for i in batch}
    two = [{i for batch in benchmark_batches(fit_problems=9, ranks=2, rank=rank) for i in batch} for rank in (0, 1)]
    assert len(one) == 9
    assert two[0] | two[1] == one
    assert not two[0] & two[1]
    assert len([i for batch in benchmark_batches(fn="validate", fit_problems=9) for i in batch]) == 23


def test_another_seed_trains_on_other_problems_but_is_measured_on_the_same():
    one, two = (
        data_module(seed=seed, corpora=[arithmetic("train", 50)], benchmarks=[arithmetic("test", 9)]) for seed in (0, 1)
    )
    assert one.benchmarks == two.benchmarks
    assert {e.problem_id for e in one.training.examples} != {e.problem_id for e in two.training.examples}


def test_held_out_problems_are_never_trained_on_and_stay_held_out_when_the_corpus_grows():
    small, large = (
        data_module(corpora=[arithmetic("train", rows)], held_out_share=0.2, max_held_out=10_000).training
        for rows in (500, 1000)
    )
    for training in (small, large):
        kept, out = ({example.problem_id for example in side} for side in (training.examples, training.held_out))
        assert not kept & out
        share = len(out) / (len(kept) + len(out))
        assert 0.2 - 4 * (0.2 * 0.8 / 500) ** 0.5 < share < 0.2 + 4 * (0.2 * 0.8 / 500) ** 0.5
    assert {e.problem_id for e in small.held_out} <= {e.problem_id for e in large.held_out}


def test_an_explicit_held_out_corpus_is_used_whole_beside_the_share():
    held = [arithmetic("validation", 17)]
    training = data_module(corpora=[arithmetic("train", 100)], held_out=held, held_out_share=0.0).training
    assert len(training.examples) == 100
    assert [example.problem_id.split("/")[0] for example in training.held_out] == ["validation"] * 17


@pytest.mark.skipif(not (DATA / "gsm8k").is_dir(), reason="needs GSM8K and MATH files (LEMMA_DATA)")
def test_all_of_gsm8k_mixes_with_math_at_70_to_30_and_every_loss_is_counted(caplog):
    config = yaml.safe_load((ROOT / "configs/corpora/gsm8k-math-files.yaml").read_text())["data"]
    groups = {name: [corpus_args(c) for c in config.pop(f"{name}+")] for name in ("corpora", "held_out", "benchmarks")}
    with caplog.at_level("INFO"):
        data = data_module(**groups, **config, root=str(DATA))
    sources = [example.source for example in data.training.examples]
    assert sources.count("gsm8k") == 7473, "no row of GSM8K is dropped"
    order = data.training.mixture.epoch_order(0)
    assert len(set(order.tolist())) == len(order)
    shares = [sources[i] for i in order]
    assert shares.count("gsm8k") == 7473, "an epoch sees each of them once"
    assert shares.count("gsm8k") / len(shares) == pytest.approx(0.7, abs=1e-3)
    assert len(data.benchmarks["gsm8k"]) == 1319
    assert len(data.benchmarks["math500"]) == 500
    for bad_row in ("number_theory/7115.json", "number_theory/7117.json"):
        assert f"{bad_row}: `solution`" in caplog.text, "the two rows with an empty box are named"
    assert data.cleaning.counts() == {"math/tested on": int(data.cleaning.dropped[1].sum())}, "GSM8K loses none"
    clean = 7498 - int(data.cleaning.dropped[1].sum())
    dropped = clean - sources.count("math")
    assert dropped > 0
    assert f"{dropped / clean:.1%}" in data.training.report, "what is too long is in the census"


# Preference pairs


def write_pairs(path: Path, number: int, *, first: int = 0, longer: int = 0) -> CorpusArgs:
    """Write pairs whose chosen side has so many words more; returns the corpus."""
    rows = [
        {
            "prompt": f"A crate holds {n} pears and {3 * n + 1} plums; how many pieces of fruit are in crate {n}?",
            "chosen": f"{'well ' * (longer + n % 3)}{4 * n + 1}",
            "rejected": f"{'well ' * (n % 4)}{4 * n}",
        }
        for n in range(first, first + number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return CorpusArgs("preferences", path=str(path), source=path.stem)


def test_pairs_are_trained_on_in_the_shared_layout_and_whole_ones_are_held_out(tmp_path, caplog):
    corpora = [write_pairs(tmp_path / "crates.jsonl", 200)]
    with caplog.at_level("INFO"):
        data = data_module(corpora=corpora, held_out_share=0.2, batch_size=4)
        [held_out] = data.val_dataloader()
    training = data.training
    assert training.examples.holds_pairs
    assert training.held_out.holds_pairs
    assert len(training.examples) + len(training.held_out) == 200
    assert not {e.problem_id for e in training.examples} & {e.problem_id for e in training.held_out}
    assert data.arrangement.name == "shared_prefix"
    assert "Layout: shared_prefix, rows of up to" in caplog.text
    assert f"beside {len(training.held_out)} held-out pairs" in caplog.text
    assert "chosen (given): «" in caplog.text
    assert sum(len(batch.num_completions) for batch in held_out) == len(training.held_out)
    [*batches] = data.train_dataloader()
    assert f"An epoch is {len(training.examples)} pairs in windows of 4 (batch_size 4 x" in caplog.text
    assert {len(batch.num_completions) for batch in batches[:-1]} == {4}
    assert all(batch.groups is not None and batch.labels[0] == ("crates", "given") for batch in batches)
    assert float(batches[0].window_examples) == 4


def test_layouts_hold_the_same_pairs(tmp_path):
    corpora = [write_pairs(tmp_path / "crates.jsonl", 30)]
    for layout in ("padded", "packed", "shared_prefix"):
        data = data_module(corpora=corpora, layout=layout, held_out_share=0.0, batch_size=30)
        [batch] = data.train_dataloader()
        assert data.arrangement.name == layout
        assert len(batch.weights) == 60
        assert float(batch.window_examples) == 30


def test_held_out_pairs_are_not_trained_on(tmp_path):
    held_out = [write_pairs(tmp_path / "kept.jsonl", 30, first=50, longer=2)]
    data = data_module(corpora=[write_pairs(tmp_path / "crates.jsonl", 60)], held_out=held_out, held_out_share=0.0)
    assert data.cleaning.counts() == {"crates/tested on": 10}
    assert len(data.training.examples) == 50
    assert len(data.training.held_out) == 30


def test_a_benchmark_problem_is_no_pair_to_train_on(tmp_path):
    asked = "A crate holds 7 pears and 22 plums; how many pieces of fruit are in crate 7?"
    more = [f"What is {n} + {n}?" for n in range(40)]
    rows = [{"question": text, "answer": f"#### {n}"} for n, text in enumerate([asked, *more])]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = CorpusArgs("gsm8k", path=str(tmp_path / "asked.jsonl"), source="asked")
    data = data_module(corpora=[write_pairs(tmp_path / "crates.jsonl", 60)], benchmarks=[benchmark])
    assert data.cleaning.counts() == {"crates/tested on": 1}


@pytest.mark.parametrize("place", ["corpora", "held_out"])
def test_pairs_beside_problems_are_refused_before_anything_is_read(place):
    groups = {"corpora": [CorpusArgs("preferences", path="absent.jsonl", source="mine")], "held_out": []}
    groups[place] = [*groups[place], arithmetic("train", 5)]
    names = rf"data\.corpora: mine \(preferences\) holds preference pairs, but data\.{place}: arithmetic \(arithmetic\)"
    with pytest.raises(InputError, match=names):
        MathDataModule(TokenizerArgs("tiny"), **groups)


def test_pairs_whose_answers_the_prompt_asks_for_in_another_format_are_refused():
    pairs = CorpusArgs("gsm8k_solutions", path="absent.jsonl")
    with pytest.raises(InputError, match=r"data\.prompt\.answer_format: .*gsm8k_solutions.* boxed, but .* tags"):
        MathDataModule(TokenizerArgs("tiny"), [pairs], prompt=PromptArgs(answer_format="tags"))


def test_a_length_bias_is_limited_and_reported(tmp_path, caplog):
    corpora = [write_pairs(tmp_path / "crates.jsonl", 120, longer=2)]
    free = data_module(corpora=corpora)
    [(source, before)] = free.training.balances
    assert (source, before.left_out) == ("crates", 0)
    assert before.bias == before.bias_before > 0.1
    with caplog.at_level("INFO"):
        limited = data_module(corpora=corpora, pairs=PairArgs(0.05))
    [(_, after)] = limited.training.balances
    assert after.bias_before == before.bias
    assert 0 < after.bias <= 0.05 + 1e-12
    assert after.num_pairs == len(limited.training.examples) == len(free.training.examples) - after.left_out
    assert list(limited.training.held_out) == list(free.training.held_out), "what measures stays as it is"
    lengths = [[len(ids) for ids in example.completions] for example in limited.training.examples]
    assert sum((a - b) / (a + b) for a, b in lengths) / len(lengths) == pytest.approx(after.bias)
    line = next(line for line in caplog.text.splitlines() if line.split()[:2] == ["crates", str(after.num_pairs)]
                and f"{after.bias_before:+.3f}" in line)  # fmt: skip
    assert line.split()[-2:] == [str(after.left_out), f"{after.bias_before:+.3f}"]


def test_a_corpus_of_which_no_pair_is_left_is_named_with_the_counts(tmp_path):
    corpora = [write_pairs(tmp_path / "crates.jsonl", 30, longer=8)]
    with pytest.raises(InputError, match=r"left to train on in 'crates': 0 of 30 pairs .* 30 are left out by data\.pa"):
        data_module(corpora=corpora, pairs=PairArgs(0.01), held_out_share=0.0)
    with pytest.raises(InputError, match=r"left to train on in 'crates': 0 of 30 pairs .*, 30 are too long, 0 are"):
        data_module(corpora=corpora, max_completion_length=2, truncation="drop", held_out_share=0.0)


def test_encoded_pairs_are_cached_by_all_that_decides_them(tmp_path):
    corpora, cache = [write_pairs(tmp_path / "crates.jsonl", 20)], tmp_path / "cache"

    def encoded(**options) -> list:
        data = data_module(corpora=corpora, cache_dir=str(cache), held_out_share=0.0, **options)
        return list(data.training.examples)

    one, number = encoded(), len(list(cache.iterdir()))
    assert (encoded(), len(list(cache.iterdir()))) == (one, number)
    assert encoded(pairs=PairArgs(0.9)) == one
    assert len(list(cache.iterdir())) == number, "the limit chooses among encoded pairs"
    assert encoded(prompt=PromptArgs("step_by_step")) != one
    assert encoded(max_completion_length=2, truncation="keep_start") != one
    assert len(list(cache.iterdir())) == number + 2


def test_a_measuring_loader_gives_each_rank_its_share_once_the_longest_first(tmp_path):
    corpora, some = [write_pairs(tmp_path / "crates.jsonl", 40)], np.arange(3, 40, 2)
    seen, turns = [], []
    for rank in (0, 1):
        data = data_module(corpora=corpora, ranks=2, rank=rank, batch_size=3, held_out_share=0.0)
        planned = list(data.measuring_loader(data.training.examples, some).sampler)
        turns.append(len(planned))
        seen += [int(i) for turn in planned for i in turn.indices]
        lengths = [data.training.examples.lengths[i] for turn in planned for i in turn.indices]
        assert lengths == sorted(lengths, reverse=True)
    assert sorted(seen) == some.tolist()
    assert turns[0] == turns[1]


# Prompts for rollouts


class Turns(LightningModule):
    """Notes when it is asked for a batch and when it trains on one; a batch is its number."""

    makes_rollouts = True
    problems_per_rollout = 6
    group_size = 4
    num_iterations = 2

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.log_of = []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def next_batch(self):
        self.log_of.append("asked")
        return torch.tensor(len(self.log_of))

    def training_step(self, batch, batch_idx):
        self.log_of.append("trained")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def rollout_data(*, ranks: int = 1, rank: int = 0, accumulate: int = 1, **options) -> MathDataModule:
    """Return the data of a module that makes rollouts, without held-out benchmarks."""
    data = MathDataModule(TokenizerArgs("tiny"), **{"batch_size": 8, **options})
    data.trainer = SimpleNamespace(
        state=SimpleNamespace(fn="fit"), world_size=ranks, global_rank=rank, accumulate_grad_batches=accumulate,
        lightning_module=Turns(),
        _accelerator_connector=SimpleNamespace(use_distributed_sampler=False),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # fmt: skip
    data.setup("fit")
    return data


def write_problems(path: Path, answers: dict[str, str], **options) -> CorpusArgs:
    """Write a question with a worked solution for each answer; returns the corpus."""
    rows = [{"question": text, "answer": f"Long {'and long ' * 900}.\n#### {a}"} for text, a in answers.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return CorpusArgs("gsm8k", path=str(path), source=path.stem, **options)


def asked(number: int, answer: str = "7") -> dict[str, str]:
    return {f"A crate holds {n} pears and {3 * n + 1} plums; how many in crate {n}?": answer for n in range(number)}


def test_examples_of_rollouts_are_prompts_and_long_solutions_are_no_obstacle(tmp_path, encoder, caplog):
    corpora = [write_problems(tmp_path / "crates.jsonl", asked(25)), arithmetic("train", 10)]
    with caplog.at_level("INFO"):
        data = rollout_data(corpora=corpora, held_out_share=0.4, max_completion_length=4)
    assert len(data.training.examples) == 35
    assert not data.training.held_out
    assert data.val_dataloader() == []
    assert "Rollouts have no held-out loss" in caplog.text
    assert "Layout: shared_prefix, each prompt once before" in caplog.text
    sources = []
    for index, example in enumerate(data.training.examples):
        problem = data.prompts.problem(index)
        assert (problem.id, problem.source) == (example.problem_id, example.source)
        assert problem.answer
        assert data.prompts.prompt(index) == example.prompt_ids == encoder.encode_prompt(problem.problem)
        sources.append(problem.source)
    assert sources == ["crates"] * 25 + ["arithmetic"] * 10


def test_drawn_prompts_are_those_of_the_stream_and_the_same_on_every_rank():
    drawn = [rollout_data(corpora=[arithmetic("train", 20)], ranks=2, rank=rank).prompts.draw(50) for rank in (0, 1)]
    assert drawn[0] == drawn[1]
    data = rollout_data(corpora=[arithmetic("train", 20)])
    order = [index for epoch in range(3) for index in data.training.mixture.epoch_order(epoch)]
    assert data.stream.epoch_length == 20
    assert [prompt.index for prompt in drawn[0]] == order[:50]
    assert [prompt.place for prompt in drawn[0]] == list(range(50))
    assert all(prompt.problem == data.prompts.problem(prompt.index) for prompt in drawn[0])
    assert all(prompt.ids == data.prompts.prompt(prompt.index) for prompt in drawn[0])


def test_a_problem_that_cannot_be_graded_is_named_or_left_out_and_counted(tmp_path, caplog):
    answers = {**asked(12), "Which of these crates is it?": "\\int_0^1 (("}
    with pytest.raises(InputError, match=r"data\.corpora: crates, problem crates/12: .* of the answer '.*on_bad"):
        rollout_data(corpora=[write_problems(tmp_path / "crates.jsonl", answers)])
    skipping = write_problems(tmp_path / "crates.jsonl", answers, on_bad_row="skip")
    for _ in range(2):  # found, and from the cache
        caplog.clear()
        with caplog.at_level("INFO"):
            data = rollout_data(corpora=[skipping], cache_dir=str(tmp_path / "cache"))
        assert len(data.training.examples) == 12
        assert "crates: 1 of 13 problems cannot be graded and are left out: crates, problem crates/12:" in caplog.text
    learnt = data_module(corpora=[skipping], held_out_share=0.0, max_completion_length=5000)
    assert len(learnt.training.examples) == 13, "they can be learnt from, though"


def test_pairs_are_no_prompts(tmp_path):
    with pytest.raises(InputError, match="holds preference pairs, but problems are needed"):
        rollout_data(corpora=[write_pairs(tmp_path / "crates.jsonl", 20)])


@pytest.mark.parametrize(
    ("options", "key"), [({"row_length": 512}, "row_length"), ({"group_by_length": True}, "group")]
)
def test_what_needs_lengths_beforehand_is_refused_for_rollouts(options, key):
    with pytest.raises(InputError, match=rf"data\.{key}.*: expected null for rollouts"):
        rollout_data(corpora=[arithmetic("train", 20)], layout="padded" if "group" in key else "auto", **options)


def test_an_epoch_is_as_many_turns_as_its_rollouts_take(caplog):
    data = rollout_data(corpora=[arithmetic("train", 20)])
    with caplog.at_level("INFO"):
        loader = data.train_dataloader()
    assert len(loader) == 3 * 2 * (6 * 4 // 8), "20 // 6 rollouts, gone through twice, in micro-batches of 8"
    assert "A rollout is 6 problems x 4 completions = 24 a rollout; 3 optimiser steps of 8" in caplog.text
    with pytest.raises(InputError, match=r"data\.batch_size: expected a multiple or a divisor of model\.group_size"):
        rollout_data(corpora=[arithmetic("train", 20)], batch_size=6).train_dataloader()
    with pytest.raises(InputError, match=r"problems_per_rollout: expected at most the 5 problems of an epoch, but"):
        rollout_data(corpora=[arithmetic("train", 5)]).train_dataloader()


def test_the_loader_goes_on_where_it_was_saved_and_so_does_the_stream():
    data = rollout_data(corpora=[arithmetic("train", 20)])
    turns = iter(data.train_dataloader())
    ahead = [next(turns) for _ in range(5)]
    data.prompts.draw(33)
    state, left = data.state_dict(), len(list(turns))
    again = rollout_data(corpora=[arithmetic("train", 20)])
    again.load_state_dict(state)
    loader = again.train_dataloader()
    assert (len(ahead), len(list(loader)), len(list(loader))) == (5, left, len(loader)), "then a whole epoch"
    assert again.prompts.draw(10) == data.prompts.draw(10)
    other = rollout_data(corpora=[arithmetic("train", 20)], batch_size=4)
    other.load_state_dict(state)
    with pytest.raises(InputError, match="written with num_micro_batches = 18, this run has 36"):
        other.train_dataloader()


def test_lightning_asks_for_a_batch_only_when_the_one_before_was_trained_on(tmp_path):
    data, module = MathDataModule(TokenizerArgs("tiny"), [arithmetic("train", 14)], batch_size=8), Turns()
    trainer = Trainer(
        default_root_dir=tmp_path, max_epochs=2, logger=False, enable_checkpointing=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, data)
    assert module.log_of == ["asked", "trained"] * (2 * 12)
