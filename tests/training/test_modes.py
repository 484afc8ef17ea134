"""What Lightning and transformers would silently switch off."""

from pathlib import Path

import pytest


def test_decoder_layers_train_with_gradient_checkpointing_before_and_after_validation(lemma, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    probes = pytest.importorskip("probes")
    flags = ["--model.policy.gradient_checkpointing", "true", "--trainer.limit_val_batches", "1.0"]
    flags += ["--data.benchmarks", '[{"name": "arithmetic", "split": "test", "max_rows": 3}]']
    flags += ["--trainer.callbacks", '[{"class_path": "probes.LayerModes"}]', "--trainer.val_check_interval", "2"]
    lemma("fit", *flags, "--trainer.max_steps", "5", "--trainer.default_root_dir", str(tmp_path))
    assert probes.LayerModes.seen == [(True, True)] * 5
