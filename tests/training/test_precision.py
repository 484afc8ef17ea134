"""Whether an adapter trains, and stays in float32, under Lightning's precisions and on a quantised base."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3TextConfig

from lemma.assets import resolve_base

STEPS = 8


@pytest.fixture
def losses(lemma, tmp_path) -> Callable[..., list[float]]:
    """Return a function that runs fit in a folder with flags, checks the adapter, and returns the loss of each step."""

    def run(name: str, *flags: str) -> list[float]:
        folder = tmp_path / name
        logger = json.dumps(
            {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(folder)}}
        )
        common = ["--trainer.max_steps", str(STEPS), "--trainer.max_epochs", "-1", "--data.batch_size", "4"]
        common += ["--trainer.logger", logger, "--trainer.default_root_dir", str(folder)]
        lemma("fit", *common, *flags)
        adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
        assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}
        assert any((t != t.bfloat16().float()).any() for n, t in adapter.items() if "lora_B" in n)  # never rounded
        [metrics] = folder.rglob("metrics.csv")
        with metrics.open() as lines:
            found = [float(row["train/loss"]) for row in csv.DictReader(lines) if row["train/loss"]]
        assert len(found) == STEPS
        return found

    return run


@pytest.fixture
def gemma(tmp_path) -> str:
    """Return the folder of a random Gemma 3 that reads the shipped policy's tokens."""
    folder = tmp_path / "gemma"
    tokenizer = AutoTokenizer.from_pretrained(resolve_base("tiny"))
    tokenizer.save_pretrained(folder)
    config = Gemma3TextConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, vocab_size=len(tokenizer), sliding_window=8, layer_types=["sliding_attention", "full_attention"],
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "--model.policy.quantization.method int8 --model.policy.lora.use_rslora true",
        "--model.policy.quantization.method nf4 --model.policy.quantization.storage_dtype float32 "
        "--model.policy.dtype bfloat16 --model.policy.lora.use_dora true",
    ],
    ids=["lora-float32", "rslora-int8", "dora-nf4-bf16-f32-storage"],
)
def test_an_adapter_trains_in_float32_and_alike_under_every_precision(losses, gemma, policy):
    exact = losses("32-true", "--trainer.precision", "32-true", "--model.policy.base", gemma, *policy.split())
    assert sum(exact[-3:]) / 3 < sum(exact[:3]) / 3 - 0.2
    for precision in ("bf16-mixed", "bf16-true"):
        found = losses(precision, "--trainer.precision", precision, "--model.policy.base", gemma, *policy.split())
        assert found == pytest.approx(exact, abs=0.02)


def test_a_stage_continues_the_adapter_of_another_on_a_quantised_base(losses, gemma, tmp_path):
    flags = [
        "--model.policy.quantization.method",
        "nf4",
        "--model.policy.base",
        gemma,
        "--trainer.precision",
        "bf16-true",
    ]
    first = losses("first", *flags)
    second = losses("second", *flags, "--model.policy.adapter", str(tmp_path / "first" / "adapter"))
    assert second[0] < first[0] - 0.2


def test_a_quantised_run_validates_and_resumes(lemma, tmp_path):
    flags = ["--model.policy.quantization.method", "nf4", "--trainer.limit_val_batches", "1.0"]
    flags += ["--data.benchmarks", '[{"name": "arithmetic", "split": "test", "max_rows": 3}]']
    flags += ["--trainer.val_check_interval", "2", "--model.optimizer.schedule", "constant"]

    def run(name: str, *more: str) -> dict[str, torch.Tensor]:
        lemma("fit", *flags, *more, "--trainer.default_root_dir", str(tmp_path / name))
        return load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")

    whole = run("whole", "--trainer.max_steps", "5")
    run("cut", "--trainer.max_steps", "3")
    last = str(Path(tmp_path, "cut", "checkpoints", "last.ckpt"))
    resumed = run("cut", "--trainer.max_steps", "5", "--ckpt_path", last)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
