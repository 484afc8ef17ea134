"""Check that strategies train alike on this machine: python tools/check_strategies.py --devices 2

Each strategy trains the embedded policy for a few clipped, accumulated steps, the last window a short one. It
validates on the way, stops, resumes from its checkpoint, and is measured by `lemma validate`. One process does the
same; loss and gradient norm of every step, the final adapter and all completions are compared. A large Adam epsilon
keeps the update in proportion to the gradient, so that a gradient of the wrong size shows in the adapter too.
"""

import csv
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import yaml
from jsonargparse import CLI
from safetensors.torch import load_file
from tabulate import tabulate

STRATEGIES = ("ddp", "fsdp", "fsdp2", "zero2", "deepspeed_stage_2", "deepspeed_stage_3")
TOLERANCES = {"64-true": 1e-9, "32-true": 1e-3, "bf16-mixed": 0.1, "bf16-true": 0.1}
"""Relative difference of the adapters; losses and gradient norms may differ by as much of their largest value."""
STEPS = {"first": 3, "all": 5}  # 35 examples in windows of 8 per two devices: four full ones, and one of 3


@dataclass
class Outcome:
    """What became of one strategy.

    Attributes:
        strategy: Lightning's name, or ``one process``.
        quantization: Storage of the base.
        loss: Largest difference of a step's loss, relative to the largest loss.
        grad_norm: The same for the gradient's norm before clipping.
        adapter: Norm of the difference of the final adapters, relative to how far training moved them.
        completions: Share of validated completions that are the same text.
        seconds: Wall time of all verbs.
        verdict: ``reference``, ``ok``, ``differs``, ``refused: …`` or ``failed: …``.
    """

    strategy: str
    quantization: str
    loss: float | None = None
    grad_norm: float | None = None
    adapter: float | None = None
    completions: float | None = None
    seconds: float = 0.0
    verdict: str = "reference"


class VerbError(Exception):
    """A verb ended with an error; the message is its verdict."""


def check_strategies(
    strategies: list[str] | None = None,
    devices: int = 2,
    quantization: list[str] | None = None,
    precision: str | None = None,
    json_file: str | None = None,
) -> None:
    """Run every strategy, print a table, and end with status 1 if one differs or fails.

    Args:
        strategies: Lightning's names; null takes all that this machine may run.
        devices: Processes of each strategy; 35 examples must not fill its windows.
        quantization: Of none, int8 and nf4; null is none.
        precision: Lightning's name; null is 64-true on a CPU without quantisation, else 32-true.
        json_file: Where the table is written as JSON too.
    """
    accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for method in quantization or ["none"]:
            chosen = precision or ("64-true" if accelerator == "cpu" and method == "none" else "32-true")
            outcomes += _check(Path(folder) / method, strategies, accelerator, devices, method, chosen)
    rows = [[f"{cell:.1e}" if isinstance(cell, float) else cell for cell in asdict(one).values()] for one in outcomes]
    headers = ["strategy", "quantization", "Δ loss", "Δ grad norm", "Δ adapter", "same texts", "seconds", "verdict"]
    print(tabulate(_rounded(rows, outcomes), headers, disable_numparse=True))
    if json_file is not None:
        Path(json_file).write_text(json.dumps([asdict(one) for one in outcomes], indent=1) + "\n")
    if any(one.verdict.startswith(("differs", "failed")) for one in outcomes):
        sys.exit(1)


def _rounded(rows: list[list], outcomes: list[Outcome]) -> list[list]:
    for row, one in zip(rows, outcomes, strict=True):
        row[5] = None if one.completions is None else f"{100 * one.completions:.0f} %"
        row[6] = f"{one.seconds:.0f}"
    return rows


def _check(
    folder: Path, strategies: list[str] | None, accelerator: str, devices: int, method: str, precision: str
) -> list[Outcome]:
    folder.mkdir(parents=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(_config(accelerator, method, precision)))
    reference = Outcome("one process", method)
    outcomes, one = [reference], folder / "reference"
    start = time.monotonic()
    print(f"one process, {method} …", file=sys.stderr, flush=True)
    _train_and_validate(config, one, ["--trainer.devices", "1", "--data.batch_size", str(2 * devices)])
    reference.seconds = time.monotonic() - start
    for strategy in strategies or STRATEGIES:
        outcome, start = Outcome(strategy, method), time.monotonic()
        print(f"{strategy}, {method} …", file=sys.stderr, flush=True)
        flags = ["--trainer.strategy", strategy, "--trainer.devices", str(devices), "--data.batch_size", "2"]
        try:
            _train_and_validate(config, folder / strategy, flags)
            _compare(outcome, one, folder / strategy, TOLERANCES[precision])
        except VerbError as error:
            outcome.verdict = str(error)
        outcome.seconds = time.monotonic() - start
        outcomes.append(outcome)
    return outcomes


def _config(accelerator: str, method: str, precision: str) -> dict:
    csv_logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "unset"}}
    return {
        "seed_everything": 0,
        "trainer": {
            "accelerator": accelerator,
            "precision": precision,
            "accumulate_grad_batches": 2,
            "gradient_clip_val": 0.1,
            "max_epochs": 1,
            "val_check_interval": 4,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": csv_logger,
        },
        "checkpoint": {"save_top_k": 0},
        "model": {
            "class_path": "lemma.modules.SFTModule",
            "init_args": {
                "policy": {"base": "tiny", "lora": {"r": 3}, "quantization": {"method": method}},
                "optimizer": {"lr": 1.0, "eps": 1.0, "schedule": "constant"},
                "evaluation": {"sampling": {"num_samples": 2, "max_new_tokens": 24}, "ks": [1, 2]},
            },
        },
        "data": {
            "held_out_share": 0.0,
            "benchmark_batch_size": 2,
            "corpora": [{"name": "arithmetic", "max_rows": 35}],
            "benchmarks": [{"name": "arithmetic", "split": "test", "max_rows": 5}],
        },
    }


def _train_and_validate(config: Path, run: Path, flags: list[str]) -> None:
    """Train some steps, resume to the end, validate; steps are logged in ``first`` and ``rest``."""
    last = str(run / "checkpoints" / "last.ckpt")
    shared = ["--config", str(config), *flags, "--trainer.default_root_dir", str(run)]
    logs = "--trainer.logger.init_args.save_dir"
    _lemma("fit", *shared, "--trainer.max_steps", str(STEPS["first"]), logs, str(run / "first"))
    _lemma("fit", *shared, "--ckpt_path", last, logs, str(run / "rest"))
    _lemma("validate", *shared, "--ckpt_path", last, logs, str(run / "logs"))


def _lemma(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "lemma", *arguments], capture_output=True, text=True)
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
    refusal = next((line for line in lines if line.startswith("lemma: error: ")), None)
    raise VerbError(f"refused: {refusal[len('lemma: error: ') :]}" if refusal else f"failed: {lines[-1]}")


def _compare(outcome: Outcome, one: Path, other: Path, tolerance: float) -> None:
    """Fill in the differences and the verdict."""
    ours, theirs = _steps(one), _steps(other)
    for name in ("loss", "grad_norm"):
        reference, values = ours[f"train/{name}"], theirs[f"train/{name}"]
        if len(reference) != STEPS["all"] or len(values) != STEPS["all"]:
            outcome.verdict = f"differs: {len(values)} steps of {name}, {len(reference)} of one process"
            return
        difference = max(abs(a - b) for a, b in zip(reference, values, strict=True))
        setattr(outcome, name, difference / max(map(abs, reference)))
    first, second = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (one, other))
    moved = torch.cat([first[name].flatten() for name in first if "lora_B" in name]).norm()  # B begins at 0
    outcome.adapter = float(torch.cat([(first[name] - second[name]).flatten() for name in first]).norm() / moved)
    texts = [_completions(run / "validate" / "records.jsonl") for run in (one, other)]
    outcome.completions = sum(map(str.__eq__, *texts)) / len(texts[0]) if len(texts[0]) == len(texts[1]) else 0.0
    exact = outcome.completions == 1.0 or tolerance > 1e-2  # in bfloat16 a draw may fall on a neighbouring token
    close = max(outcome.loss, outcome.grad_norm, outcome.adapter) <= tolerance
    outcome.verdict = "ok" if close and exact else "differs"


def _steps(run: Path) -> dict[str, list[float]]:
    """Return what was logged of each optimiser step, before and after the resume."""
    steps: dict[str, list[float]] = {"train/loss": [], "train/grad_norm": []}
    for part in ("first", "rest"):
        for path in sorted((run / part).rglob("metrics.csv")):
            with path.open() as stream:
                for row in csv.DictReader(stream):
                    for name, values in steps.items():
                        if row.get(name):
                            values.append(float(row[name]))
    return steps


def _completions(path: Path) -> list[str]:
    return [text for line in path.read_text().split("\n") if line for text in json.loads(line)["completions"]]


if __name__ == "__main__":
    CLI(check_strategies, as_positional=False)
