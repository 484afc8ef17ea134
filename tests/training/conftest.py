"""Runs the real command line on the embedded policy and a few problems."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils._pytree import tree_flatten

from lemma.cli import main

CONFIG = {
    "seed_everything": 7,
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 3,
        "gradient_clip_val": 1.0,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
    },
    "checkpoint": {"save_top_k": 0},
    "last_checkpoint": {"every_n_steps": 1},
    "model": {
        "class_path": "lemma.modules.SFTModule",
        "init_args": {
            "policy": {"base": "tiny", "lora": {"r": 4, "alpha": 8, "dropout": 0.1}},
            "optimizer": {"lr": 0.01, "warmup_steps": 2},
            "evaluation": {"sampling": {"num_samples": 4, "max_new_tokens": 24}, "ks": [1, 4]},
        },
    },
    "data": {
        "batch_size": 2,
        "held_out_share": 0.0,
        "corpora": [
            {"name": "arithmetic", "max_rows": 22, "source": "light", "weight": 0.7},
            {
                "name": "arithmetic",
                "split": "pretrain",
                "max_rows": 22,
                "source": "heavy",
                "weight": 0.3,
                "loss_weight": 2.5,
            },
        ],
    },
}


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Path of a small configuration: two corpora, dropout, warm-up, clipping."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return str(path)


@pytest.fixture
def lemma(config: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run ``lemma VERB --config <small configuration> …`` in this process."""

    def run(verb: str, *args: str) -> None:
        monkeypatch.setattr(sys, "argv", ["lemma", verb, "--config", config, *args])
        main()

    return run


@pytest.fixture
def lemma_process(config: str) -> Callable[..., subprocess.CompletedProcess]:
    """Run the same in a process of its own, and return it finished."""

    def run(verb: str, *args: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "lemma", verb, "--config", config, *args]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)

    return run


@pytest.fixture
def last_checkpoint() -> Callable[[Path], dict]:
    """Load a run's last checkpoint, as untrusted data."""
    return lambda run: torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture
def assert_close() -> Callable[[object, object, float], None]:
    """Compare nested collections of tensors within a tolerance, and everything else exactly."""

    def compare(one: object, other: object, tolerance: float) -> None:
        ours, spec = tree_flatten(one)
        theirs, other_spec = tree_flatten(other)
        assert spec == other_spec
        assert any(isinstance(leaf, torch.Tensor) for leaf in ours)
        for a, b in zip(ours, theirs, strict=True):
            if isinstance(a, torch.Tensor):
                torch.testing.assert_close(a, b, rtol=0, atol=tolerance)
            else:
                assert a == b

    return compare
