"""A gradient does not depend on how a window is cut, nor a metric on how many ranks compute it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

# 31 examples of ragged lengths and two loss weights: three windows of 8 and a short one of 7.
CUTS = {"(8, 1, 1)": ("8", "1", "1"), "(2, 4, 1)": ("2", "4", "1"), "(1, 4, 2)": ("1", "4", "2")}


@pytest.fixture(autouse=True)
def _importable_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def gradients(lemma, lemma_ranks, tmp_path):
    """Gradients of one epoch of full fine-tuning at a learning rate that changes no weight noticeably."""

    def run(batch_size: str, accumulate: str, ranks: str, *flags: str) -> list[torch.Tensor]:
        folder = tmp_path / f"{batch_size}-{accumulate}-{ranks}"
        probe = [{"class_path": "probes.SaveGradients", "init_args": {"folder": str(folder)}}]
        arguments = [*flags, "--trainer.default_root_dir", str(folder), "--trainer.callbacks", json.dumps(probe)]
        arguments += ["--data.batch_size", batch_size, "--trainer.accumulate_grad_batches", accumulate]
        arguments += ["--model.policy.method", "full", "--trainer.max_epochs", "1"]
        arguments += ["--model.optimizer.lr", "1e-15", "--last_checkpoint.every_n_steps", "1000"]
        if ranks == "1":
            lemma("fit", *arguments)
        else:
            done = lemma_ranks("fit", *arguments, "--trainer.strategy", "ddp")
            assert done.returncode == 0, done.stderr
        return [torch.load(folder / f"gradient-{step}.pt", weights_only=True) for step in range(4)]

    return run


def assert_equal_gradients(gradients, tolerance: float, *flags: str) -> None:
    whole, accumulated, two_ranks = (gradients(*cut, *flags) for cut in CUTS.values())
    for step, reference in enumerate(whole):
        assert reference.norm() > 1e-3
        for name, other in (("accumulation", accumulated[step]), ("ranks", two_ranks[step])):
            assert (other - reference).norm() / reference.norm() <= tolerance, (name, step)


def test_gradient_does_not_depend_on_how_the_window_is_cut(gradients, untrained_base):
    assert_equal_gradients(gradients, 1e-6, "--model.policy.base", untrained_base)


def test_gradient_is_the_same_to_double_precision_however_the_window_is_cut(gradients):
    assert_equal_gradients(gradients, 1e-12, "--trainer.precision", "64-true")


def test_two_ranks_train_and_measure_as_one_process(lemma, lemma_ranks, tmp_path):
    # 7 problems on 2 ranks in batches of 3: rank 0 has 3 + 1, rank 1 has 3 and an empty batch; 5 held-out examples
    benchmarks = '[{"name": "arithmetic", "split": "test", "max_rows": 7}]'
    held_out = '[{"name": "arithmetic", "split": "validation", "max_rows": 5}]'
    common = ["--data.benchmarks", benchmarks, "--data.held_out", held_out, "--data.benchmark_batch_size", "3"]
    common += ["--trainer.limit_val_batches", "1.0", "--model.policy.lora.dropout", "0"]
    common += ["--data.fit_problems", "null", "--trainer.max_epochs", "1", "--trainer.precision", "64-true"]
    one, two = tmp_path / "one", tmp_path / "two"
    lemma("fit", *common, "--data.batch_size", "4", "--trainer.default_root_dir", str(one))
    ddp = ["--trainer.strategy", "ddp", "--data.batch_size", "2"]
    done = lemma_ranks("fit", *common, *ddp, "--trainer.default_root_dir", str(two))
    assert done.returncode == 0, done.stderr

    for name, tensor in load_file(one / "adapter" / "adapter_model.safetensors").items():
        other = load_file(two / "adapter" / "adapter_model.safetensors")[name]
        assert torch.allclose(tensor, other, rtol=0, atol=1e-9), name
    ours, theirs = (json.loads((run / "fit" / "step-000008" / "results.json").read_text()) for run in (one, two))
    assert ours["benchmarks"]["arithmetic"]["metrics"] == theirs["benchmarks"]["arithmetic"]["metrics"]
    assert ours["benchmarks"]["arithmetic"]["verdicts"] == theirs["benchmarks"]["arithmetic"]["verdicts"]
    assert ours["held_out_loss"] == pytest.approx(theirs["held_out_loss"], rel=1e-5)
    lines = [(run / "fit" / "step-000008" / "records.jsonl").read_text().splitlines() for run in (one, two)]
    texts = [[json.loads(line)["completions"] for line in side] for side in lines]
    assert len(texts[0]) == 7
    assert texts[0] == texts[1]
