"""Records become medians, ratios and tables; batches become sequences again; memory is a process's own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmark.lemma_side import examples, sequences
from benchmark.meter import Meter
from benchmark.report import summarise, table

from lemma.encoding import Batch

TOOLS = Path(__file__).parents[2] / "tools"


def rates(*tokens: float, memory: int) -> dict:
    return {"rates": {"pairs": [rate / 8 for rate in tokens], "tokens": list(tokens)}, "peak_memory": memory}


def test_medians_are_over_all_steps_and_extremes_over_repeats():
    lemma = [rates(10.0, 30.0, memory=5), rates(40.0, 60.0, memory=7)]
    other = [rates(10.0, 10.0, memory=10), rates(20.0, 20.0, memory=10)]
    # steps 10 30 40 60 -> 35 against 10 10 20 20 -> 15; repeats 20 / 10 and 50 / 20; memory 6 / 10, 5 / 10, 7 / 10
    summary = summarise({"lemma": lemma, "reference": other}, flops_per_token=4.0, matmul=700.0)
    assert summary["lemma"] == {
        "pairs_per_second": 4.375,
        "tokens_per_second": 35.0,
        "peak_memory": 6.0,
        "model_flops_utilisation": pytest.approx(0.2),
    }
    assert summary["ratio"]["tokens_per_second"] == {"value": 35 / 15, "low": 2.0, "high": 2.5}
    assert summary["ratio"]["pairs_per_second"] == {"value": 35 / 15, "low": 2.0, "high": 2.5}
    assert summary["ratio"]["peak_memory"] == {"value": 0.6, "low": 0.5, "high": 0.7}
    header, _, mine, _, ratio, _ = table(summary, {"lemma": "Lemma", "reference": "TRL"}).splitlines()
    assert header.split()[:2] == ["pairs/s", "tokens/s"]
    assert mine.split()[:3] == ["Lemma", "4.38", "35"]
    assert ratio.split() == ["ratio", "2.33x", "2.33x", "0.60x"]


def common(num_sequences: int, num_completions: list[int]) -> dict:
    """What the batches below have besides their tokens: completions of 2 tokens, the last of 1."""
    mask = torch.ones(num_sequences, 2, dtype=torch.bool)
    mask[-1, 1] = False
    labels = [("s", "")] * len(num_completions)
    weights = {"weights": torch.ones(num_sequences), "window_weight": torch.tensor(float(mask.sum()))}
    return {"mask": mask, "num_tokens": 6, "num_completions": num_completions, "labels": labels} | weights


def test_a_prompt_counts_with_each_of_its_completions():
    meter = Meter("cpu")
    meter.start()
    meter.end_step([[([1, 2], [3]), ([1, 2], [4, 5])], [([1], [2]), ([1], [3])]], torch.tensor(0.5))
    found = meter.record(iter, ())
    assert (found["tokens"], found["completion_tokens"], found["losses"]) == ([11], [5], [0.5])
    assert len(found["examples"][0]) == 2


def test_sequences_are_found_again_in_a_padded_and_in_a_packed_batch():
    padded = Batch(
        input_ids=torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0]]),  # prompts 1 and 4
        attention_mask=torch.tensor([[True, True, True, False], [True, True, False, False]]),
        position_ids=None,
        completion_index=torch.tensor([1, 2, 5]),
        **common(2, [1, 1]),
    )
    packed = Batch(
        input_ids=torch.tensor([[4, 5, 1, 2, 3, 0, 0]]),
        attention_mask=None,
        position_ids=torch.tensor([[0, 1, 0, 1, 2, 0, 0]]),
        completion_index=torch.tensor([3, 4, 1]),
        **common(2, [1, 1]),
    )
    assert list(sequences(padded)) == list(sequences(packed)) == [([1], [2, 3]), ([4], [5])]
    assert list(examples(packed)) == [[([1], [2, 3])], [([4], [5])]]


def test_pairs_are_found_again_whether_the_prompt_stands_once_or_twice():
    expected = [[([1, 2], [3, 4]), ([1, 2], [5, 6])], [([7], [8, 9]), ([7], [3])]]
    shared = Batch(
        input_ids=torch.tensor([[7, 8, 9, 3, 0, 0], [1, 2, 3, 4, 5, 6]]),
        attention_mask=None,
        position_ids=torch.tensor([[0, 1, 2, 1, 0, 1], [0, 1, 2, 3, 2, 3]]),
        completion_index=torch.tensor([8, 9, 10, 11, 1, 2, 3]),
        previous_index=torch.tensor([7, 8, 7, 10, 0, 1, 0]),
        groups=torch.tensor([[1, 1, 1, 1, -1, -1], [0, 0, 0, 0, 0, 0]]),
        branches=torch.tensor([[0, 1, 1, 2, 0, 0], [0, 0, 1, 1, 2, 2]]),
        **common(4, [2, 2]),
    )
    padded = Batch(
        input_ids=torch.tensor([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0], [7, 3, 0, 0]]),
        attention_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]).bool(),
        position_ids=None,
        completion_index=torch.tensor([2, 3, 6, 7, 9, 10, 13]),
        **common(4, [2, 2]),
    )
    assert list(examples(shared)) == list(examples(padded)) == expected


def test_peak_memory_is_the_process_s_own_and_not_inherited(tmp_path):
    child = "from benchmark.process import resident_memory; print(resident_memory())"
    code = f"import subprocess, sys; x = b'x' * 1_000_000_000; subprocess.run([sys.executable, '-c', {child!r}])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TOOLS, capture_output=True, text=True, check=True, timeout=60
    )
    assert 5e6 < int(done.stdout) < 0.8e9
