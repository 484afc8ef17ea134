"""A real vLLM server draws what the model at hand would draw: before and after an adapter, and in training.

Needs an environment with vLLM, which LEMMA_VLLM_ENV names; some minutes on two cores without a GPU.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from lemma.corpora.arithmetic import generate
from lemma.encoding import Example
from lemma.encoding.layouts import padded
from lemma.generation import SamplingArgs, ServedArgs
from lemma.generation.problems import drawing_of, requests_of
from lemma.generation.served import ServedEngine
from lemma.policy import Policy, PolicyArgs
from lemma.types import GREEDY

ROOT = Path(__file__).parents[1]
ENV = os.environ.get("LEMMA_VLLM_ENV", "")
NUM_PROBLEMS = 100

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not ENV, reason="LEMMA_VLLM_ENV names no environment with vLLM"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """Start a server by the tool, and end it."""
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "tools/serve_rollouts.py", "--config", "configs/quickstart/grpo.yaml"]
    command += ["--env", ENV, "--port", "0", "--cpu_cache", "1", "--log", str(log)]
    tool = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        shown = next((line for line in iter(tool.stdout.readline, "") if "--model.served.urls" in line), None)
        assert shown is not None, log.read_text()
        yield shown.split("[")[1].split("]")[0]
    finally:
        tool.send_signal(signal.SIGTERM)
        tool.wait(60)
        tool.stdout.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Callable[..., Path]:
    """Return a function that runs ``lemma VERB --config configs/quickstart/NAME.yaml …`` and returns its folder."""
    folder = tmp_path_factory.mktemp("runs")
    few = folder / "few.yaml"
    benchmark = {"name": "arithmetic", "split": "test", "max_rows": NUM_PROBLEMS}
    evaluation = {"sampling": {"num_samples": 1, "max_new_tokens": 96}, "ks": [1]}
    model = {"init_args": {"evaluation": evaluation}}
    few.write_text(json.dumps({"data": {"benchmarks": [benchmark]}, "model": model}))

    def start(verb: str, config: str, name: str, *flags: str) -> Path:
        command = [sys.executable, "-m", "lemma", verb, "--config", f"configs/quickstart/{config}.yaml"]
        command += ["--config", str(few), "--trainer.default_root_dir", str(folder / name), *flags]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "training")}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-4000:]
        return folder / name

    return start


@pytest.fixture(scope="module")
def adapter(run) -> str:
    """Return the folder of an adapter that changes what the policy draws."""
    flags = ("--trainer.max_steps=20", "--trainer.limit_val_batches=0", "--checkpoint.monitor=null")
    return str(run("fit", "sft", "adapted", *flags) / "adapter")


def served(url: str) -> tuple[str, ...]:
    return ("--model.engine=served", f"--model.served.urls=[{url}]", "--model.served.deadline=300")


def greedy_completions(folder: Path) -> dict[str, str]:
    """Return the greedy completion of each problem of a validation."""
    rows = map(json.loads, (folder / "validate" / "records.jsonl").read_text().splitlines())
    return {row["problem_id"]: row["completions"][row["samples"].index(GREEDY)] for row in rows}


def test_greedy_completions_equal_those_of_the_model_at_hand_before_and_after_an_adapter(run, url, adapter):
    found = {}
    for name, flags in (("base", ()), ("adapter", (f"--model.policy.adapter={adapter}",))):
        theirs = greedy_completions(run("validate", "sft", f"{name}-served", *flags, *served(url)))
        ours = greedy_completions(run("validate", "sft", f"{name}-local", *flags))
        assert len(ours) == NUM_PROBLEMS
        assert theirs == ours
        found[name] = theirs
    assert found["base"] != found["adapter"]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_samples_come_again_with_their_seeds_and_have_the_policy_s_log_probabilities(url, encoder, temperature):
    sampling = SamplingArgs(num_samples=4, greedy=False, temperature=temperature, max_new_tokens=96)
    asked = [
        request
        for problem in generate("test", num_problems=25)
        for request in requests_of(problem, sampling.samples, encoder, sampling)
    ]
    engine = ServedEngine(ServedArgs(urls=[url], deadline=300.0), encoder)
    try:
        drawing = drawing_of(encoder, sampling)
        samples = dict(engine.draw(asked, drawing))
        again = dict(engine.draw(asked[::-1], drawing))
    finally:
        engine.close()
    assert [samples[i].ids for i in range(len(asked))] == [again[i].ids for i in reversed(range(len(asked)))]
    assert len({tuple(sample.ids) for sample in samples.values()}) > len(asked) / 4
    policy = Policy(PolicyArgs()).eval()
    for number, request in enumerate(asked):
        drawn = samples[number]
        batch = padded([Example("p", "s", request.prompt_ids, [drawn.ids])], pad_id=encoder.pad_id, window_weight=1.0)
        with torch.no_grad():
            ours = policy(batch, temperature=temperature)[0]
        torch.testing.assert_close(torch.tensor(drawn.logps), ours, rtol=0, atol=1e-4)


def test_three_steps_of_reinforcement_have_every_version_of_the_adapter_on_the_server(run, url, adapter, tmp_path):
    probe = [{"class_path": "probes.SaveFigures", "init_args": {"folder": str(tmp_path)}}]
    flags = ["--trainer.max_steps=3", "--trainer.limit_val_batches=0", "--checkpoint.monitor=null"]
    flags += ["--model.problems_per_rollout=4", "--data.batch_size=16", "--trainer.accumulate_grad_batches=2"]
    flags += ["--model.optimizer.warmup_steps=0", "--trainer.log_every_n_steps=1"]
    flags += [f"--trainer.callbacks={json.dumps(probe)}"]
    folder = run("fit", "grpo", "reinforced", f"--model.policy.adapter={adapter}", *flags, *served(url))
    figures = [json.loads(line) for line in (tmp_path / "figures.jsonl").read_text().splitlines()]
    assert len(figures) >= 3
    assert all(each["served/probe_difference"] < 1e-4 for each in figures)  # of each new version
    assert all(each["train/sampler_difference"] < 1e-4 for each in figures)
    weights = "adapter_model.safetensors"
    assert (folder / "adapter" / weights).read_bytes() != (Path(adapter) / weights).read_bytes()
