"""What the DataModule hands out: benchmark shards, held-out examples, and the real corpora without silent losses."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from lemma.corpora import CorpusArgs, corpus_args
from lemma.datamodule import MathDataModule
from lemma.encoding import TokenizerArgs

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LEMMA_DATA", ROOT.parent / "shared" / "data"))


def data_module(*, fn: str = "fit", ranks: int = 1, rank: int = 0, **options) -> MathDataModule:
    data = MathDataModule(TokenizerArgs("tiny"), **options)
    data.trainer = SimpleNamespace(
        state=SimpleNamespace(fn=fn), world_size=ranks, global_rank=rank, accumulate_grad_batches=1
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
