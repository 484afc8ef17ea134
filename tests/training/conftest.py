"""Runs the real command line on the embedded policy and a few problems."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from ranks import run_ranks
from torch.utils._pytree import tree_flatten
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lemma.assets import resolve_base
from lemma.cli import main

_PROBES = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}

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

# Two sources and two kinds; two ways round, so that there is something to learn
PAIRS = {
    source: [
        {
            "prompt": f"Tom has {i + 3} pens and buys {2 * i + 1} more{' in a shop' * (i % 3)}. How many are there?",
            "chosen": f"{i + 3} + {2 * i + 1} = {3 * i + 4}." + f" The answer is {3 * i + 4}." * (i % 4),
            "rejected": f"{i + 3} + {2 * i + 1} = {3 * i + 5 + i % 2}." + " I think." * (i % 5),
            "kind": "given" if i % 3 else "right_over_wrong",
        }
        for i in numbers
    ]
    for source, numbers in {"light": range(12), "heavy": range(12, 21), "kept": range(21, 28)}.items()
}
DPO = {
    "model": {
        "class_path": "lemma.modules.DPOModule",
        "init_args": {"policy": {"lora": {"dropout": 0.0}}, "optimizer": {"lr": 0.01, "warmup_steps": 2}},
    },
    "trainer": {"max_epochs": 1},
    "data": {"batch_size": 4},
}

# Correctness differs within some groups, lengths within all: there is always something to learn
GRPO = {
    "model": {
        "class_path": "lemma.modules.GRPOModule",
        "init_args": {
            "policy": {"lora": {"dropout": 0.0}},
            "optimizer": {"lr": 0.01, "warmup_steps": 0},
            "group_size": 4,
            "problems_per_rollout": 4,
            "sampling": {"max_new_tokens": 40},
            "rewards": ["correctness", {"name": "length", "weight": 0.5}],
        },
    },
    "trainer": {"max_epochs": 1},
    "data": {"batch_size": 8, "corpora": [{"name": "arithmetic", "max_rows": 16}]},
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
        return subprocess.run(command, env=os.environ | _PROBES, capture_output=True, text=True, timeout=240)

    return run


@pytest.fixture
def lemma_ranks(config: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run the same on several ranks that are started as torchrun does, and return it finished."""

    def run(verb: str, *args: str, ranks: int = 2) -> subprocess.CompletedProcess:
        arguments = [verb, "--config", config, "--trainer.devices", str(ranks), *args]
        return run_ranks(arguments, ranks, tmp_path / "printed", _PROBES)

    return run


@pytest.fixture
def pairs_rows() -> dict[str, list[dict[str, str]]]:
    """Return the rows of the preference files of ``pairs_config``, by source."""
    return PAIRS


@pytest.fixture
def pairs_config(tmp_path: Path) -> str:
    """Path of a configuration to come after ``config``: DPO on 12 light and 9 heavy pairs, and 7 held-out ones.

    Validation is off, as it is there.
    """
    for source, rows in PAIRS.items():
        (tmp_path / f"{source}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpora = [
        {"name": "preferences", "path": str(tmp_path / f"{source}.jsonl"), "source": source, "loss_weight": weight}
        for source, weight in (("light", 1.0), ("heavy", 2.5), ("kept", 1.5))
    ]
    data = {**DPO["data"], "corpora": corpora[:2], "held_out": corpora[2:]}
    path = tmp_path / "pairs.yaml"
    path.write_text(yaml.safe_dump({**DPO, "data": data}))
    return str(path)


@pytest.fixture
def dpo(
    lemma: Callable[..., None],
    lemma_ranks: Callable[..., subprocess.CompletedProcess],
    pairs_config: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Path]:
    """Run a verb on pairs in a folder of the given name, its figures in ``figures.jsonl``; return the folder."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def run(verb: str, name: str, *flags: str, probes: tuple[tuple[str, dict], ...] = (), ranks: int = 1) -> Path:
        folder = tmp_path / name
        callbacks = [
            {"class_path": f"probes.{probe}", "init_args": args}
            for probe, args in (("SaveFigures", {"folder": str(folder)}), *probes)
        ]
        arguments = ["--config", pairs_config, "--trainer.default_root_dir", str(folder)]
        arguments += ["--trainer.callbacks", json.dumps(callbacks), *flags]
        if ranks == 1:
            lemma(verb, *arguments)
        else:
            done = lemma_ranks(verb, *arguments, ranks=ranks)
            assert done.returncode == 0, done.stderr
        return folder

    return run


@pytest.fixture
def grpo(
    lemma: Callable[..., None],
    lemma_ranks: Callable[..., subprocess.CompletedProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Path]:
    """Run a verb on rollouts in a folder of the given name, its figures in ``figures.jsonl``; return the folder.

    A run on several ranks may end with another status than 0.
    """
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    path = tmp_path / "grpo.yaml"
    path.write_text(yaml.safe_dump(GRPO))

    def run(
        verb: str, name: str, *flags: str, probes: tuple[tuple[str, dict], ...] = (), ranks: int = 1, status: int = 0
    ) -> Path:
        folder = tmp_path / name
        callbacks = [
            {"class_path": f"probes.{probe}", "init_args": args}
            for probe, args in (("SaveFigures", {"folder": str(folder)}), *probes)
        ]
        arguments = ["--config", str(path), "--trainer.default_root_dir", str(folder)]
        arguments += ["--trainer.callbacks", json.dumps(callbacks), *flags]
        if ranks == 1:
            lemma(verb, *arguments)
        else:
            done = lemma_ranks(verb, *arguments, "--trainer.strategy", "ddp", ranks=ranks)
            assert done.returncode == status, done.stderr
        return folder

    return run


@pytest.fixture
def figures() -> Callable[[Path], list[dict[str, float]]]:
    """Read the figures that a run of ``dpo`` or ``grpo`` logged, a dictionary a step or validation."""
    return lambda run: [json.loads(line) for line in (run / "figures.jsonl").read_text().splitlines()]


@pytest.fixture
def untrained_base(tmp_path: Path) -> str:
    """Return the folder of the shipped policy's shape with random weights.

    The shipped weights are sure of most tokens, so that a small gradient is the difference of large numbers: there
    float32 itself is 2e-6 off float64, whatever the cut.
    """
    folder = tmp_path / "untrained"
    AutoTokenizer.from_pretrained(resolve_base("tiny")).save_pretrained(folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(resolve_base("tiny")), dtype=torch.float32
    ).save_pretrained(folder)
    return str(folder)


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
