"""What Lightning and transformers would silently switch off."""

import importlib
from pathlib import Path

import pytest
import torch


def test_decoder_layers_train_with_gradient_checkpointing_before_and_after_validation(lemma, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    probes = importlib.import_module("probes")
    flags = ["--model.policy.gradient_checkpointing", "true", "--trainer.limit_val_batches", "1.0"]
    flags += ["--data.benchmarks", '[{"name": "arithmetic", "split": "test", "max_rows": 3}]']
    flags += ["--trainer.callbacks", '[{"class_path": "probes.LayerModes"}]', "--trainer.val_check_interval", "2"]
    lemma("fit", *flags, "--trainer.max_steps", "5", "--trainer.default_root_dir", str(tmp_path))
    assert probes.LayerModes.seen == [(True, True)] * 5


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
def test_no_precision_rounds_the_normaliser_of_a_window_or_trips_over_benchmarks(
    lemma, tmp_path, monkeypatch, precision
):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    probes = importlib.import_module("probes")
    probes.WindowWeights.seen.clear()
    flags = [
        "--trainer.precision",
        precision,
        "--trainer.limit_val_batches",
        "1.0",
        "--trainer.val_check_interval",
        "1",
    ]
    flags += ["--data.benchmarks", '[{"name": "arithmetic", "split": "test", "max_rows": 3}]']
    flags += ["--trainer.callbacks", '[{"class_path": "probes.WindowWeights"}]', "--data.batch_size", "11"]
    lemma("fit", *flags, "--trainer.max_steps", "1", "--trainer.default_root_dir", str(tmp_path))
    assert probes.WindowWeights.seen == [torch.float32]


def test_a_run_that_diverges_stops_and_keeps_the_last_weights_that_are_numbers(lemma, last_checkpoint, tmp_path):
    flags = ("--model.optimizer.lr", "1e30", "--model.optimizer.warmup_steps", "0", "--trainer.gradient_clip_val", "0")
    with pytest.raises(SystemExit, match=r"lemma: error: train/loss is (nan|inf) at step \d+\. Lower --model"):
        lemma("fit", *flags, "--trainer.default_root_dir", str(tmp_path))
    saved = last_checkpoint(tmp_path)["state_dict"]
    assert saved
    assert all(weight.isfinite().all() for weight in saved.values())
