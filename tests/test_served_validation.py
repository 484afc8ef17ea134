"""Validation by servers through the real command line, what a kill leaves under both engines, models behind an API."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from serving import randomly, schedule, serve, serve_policy, steady_brain

from lemma.generation import LocalEngine

ROOT = Path(__file__).parents[1]
NUM_PROBLEMS, NUM_COMPLETIONS = 12, 36
SMALL = [
    *("--data.benchmarks", f'[{{"name": "arithmetic", "split": "test", "max_rows": {NUM_PROBLEMS}}}]'),
    *("--model.evaluation.sampling.num_samples", "2", "--model.evaluation.sampling.max_new_tokens", "24"),
    *("--model.evaluation.ks", "[1]", "--trainer.accelerator", "cpu", "--trainer.logger", "false"),
]
SFT = ["--config", "configs/objective/sft.yaml", *SMALL]
NO_BAR = ["--trainer.enable_progress_bar", "false"]
SERVED = ["--config", "configs/objective/served.yaml", *SMALL]


def at(url: str) -> list[str]:
    return ["--model.served.urls", json.dumps([url])]


@pytest.fixture
def kill_validate():
    """Return a function that runs ``lemma validate`` until its journal holds some completions, and kills it."""
    processes = []

    def run(folder: Path, *args: str, completions: int) -> list[dict]:
        command = [sys.executable, "-m", "lemma", "validate", *args, *NO_BAR, "--trainer.default_root_dir", str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        processes.append(process)
        journal, end = folder / "validate" / "completions-rank0.jsonl", time.monotonic() + 120
        while not journal.exists() or len(journal.read_bytes().splitlines()) <= completions:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.002)
        process.kill()
        process.wait()
        return [json.loads(line) for line in journal.read_text().split("\n")[1:-1]]

    yield run
    for process in processes:
        process.kill()


def records(folder: Path) -> list[dict]:
    lines = (folder / "validate" / "records.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": None} for line in lines]


def identity(row: dict) -> tuple:
    return row["problem_id"], row["sample"]


def test_a_killed_local_validation_draws_the_rest_and_nothing_twice(
    lemma, kill_validate, monkeypatch, tmp_path, caplog
):
    flags = [*SFT, "--data.benchmark_batch_size", "1", *NO_BAR]
    lemma("validate", *flags, "--trainer.default_root_dir", str(tmp_path / "whole"))
    kept = kill_validate(tmp_path / "killed", *flags, completions=3)
    assert 3 <= len(kept) < NUM_COMPLETIONS

    asked, own = [], LocalEngine.draw
    monkeypatch.setattr(LocalEngine, "draw", lambda self, r, d: asked.extend(r) or own(self, r, d))
    lemma("validate", *flags, "--trainer.default_root_dir", str(tmp_path / "killed"))
    assert len(asked) == NUM_COMPLETIONS - len({identity(row) for row in kept})
    assert records(tmp_path / "killed") == records(tmp_path / "whole")
    assert f"resumed: {len(kept)} of {NUM_COMPLETIONS} completions from {tmp_path / 'killed'}" in caplog.text
    assert not list((tmp_path / "killed" / "validate").glob("completions*"))


def test_a_killed_served_validation_under_faults_draws_the_rest_and_nothing_twice(lemma, kill_validate, tmp_path):
    async def brain(model, prompt_ids, body):
        await asyncio.sleep(0.05)
        return steady_brain(model, prompt_ids, body)

    def asked() -> list[tuple]:
        return [(tuple(body["prompt"]), body.get("seed"), body["temperature"]) for body, _ in server.answered]

    faults = randomly({"500": 0.1, "429": 0.1, "cut": 0.1, "malformed": 0.1}, seed=3)
    with serve(brain, faults=faults) as server:
        flags = [*SERVED, *at(server.url), "--model.served.max_in_flight", "3"]
        lemma("validate", *flags, *NO_BAR, "--trainer.default_root_dir", str(tmp_path / "whole"))
        assert len({*asked()}) == NUM_COMPLETIONS
        server.answered.clear()
        kept = kill_validate(tmp_path / "killed", *flags, completions=8)
        assert 8 <= len(kept) < NUM_COMPLETIONS
        first = set(asked())
        server.answered.clear()
        lemma("validate", *flags, *NO_BAR, "--trainer.default_root_dir", str(tmp_path / "killed"))
        second = asked()
    assert len(second) == len({*second}) == NUM_COMPLETIONS - len(kept)
    assert len(first & {*second}) <= 3, "no more than was under way when the process died"
    assert records(tmp_path / "killed") == records(tmp_path / "whole")


def test_servers_that_are_gone_end_it_with_one_message_and_the_same_command_goes_on(lemma, tmp_path):
    with serve(faults=schedule({20: "die"})) as server:
        flags = [*SERVED, *at(server.url), *NO_BAR, "--model.served.max_in_flight", "2"]
        flags += ["--model.served.deadline", "1", "--trainer.default_root_dir", str(tmp_path)]
        with pytest.raises(SystemExit, match=r"(?s)127\.0\.0\.1.*Run the same command again to go on") as exit_info:
            lemma("validate", *flags)
        assert str(tmp_path / "validate") in str(exit_info.value.code)
        kept = len(server.answered)
        server.revive()
        lemma("validate", *flags)
        assert 18 <= kept <= 21
        assert len(server.answered) == NUM_COMPLETIONS
    assert len(records(tmp_path)) == NUM_PROBLEMS


def test_completions_of_another_model_are_set_aside(lemma, tmp_path, caplog):
    flags = [*SERVED, *NO_BAR, "--model.served.deadline", "1", "--trainer.default_root_dir", str(tmp_path)]
    with serve(faults=schedule({20: "die"})) as server, pytest.raises(SystemExit):
        lemma("validate", *flags, *at(server.url))
    with serve(models=["other"]) as server:
        lemma("validate", *flags, *at(server.url))
        assert len(server.answered) == NUM_COMPLETIONS
    assert "is of another run (served.model ['base'], now ['other'])" in caplog.text


def test_served_greedy_completions_are_the_local_engines(lemma, tmp_path):
    flags = [*SFT, "--model.evaluation.sampling.num_samples", "0", *NO_BAR]
    lemma("validate", *flags, "--trainer.default_root_dir", str(tmp_path / "local"))
    with serve_policy() as server:
        served = [*flags, "--model.engine", "served", *at(server.url), "--data.benchmark_batch_size", "1"]
        lemma("validate", *served, "--trainer.default_root_dir", str(tmp_path / "served"))
        assert server.most_in_flight > 1, "a rank's problems are one stream, whatever the size of a batch"
    assert records(tmp_path / "served") == records(tmp_path / "local")


def test_a_model_behind_an_api_needs_no_weights_and_a_chat_is_sent_as_messages(
    lemma, encoder, monkeypatch, tmp_path, capfd, caplog
):
    monkeypatch.setattr("lemma.policy.load.load_base", None)
    with serve(models=["some/model"], tokenizer=encoder.tokenizer) as server:
        lemma("validate", *SERVED, *at(server.url), "--model.served.api", "chat", "--model.served.model", "some/model",
              "--data.held_out", '[{"name": "arithmetic", "split": "validation", "max_rows": 3}]',
              "--trainer.default_root_dir", str(tmp_path))  # fmt: skip
        bodies = [body for _, body in server.asked]
    assert len(bodies) == NUM_COMPLETIONS
    assert all("prompt" not in body and body["messages"][-1]["role"] == "user" for body in bodies)
    assert len(records(tmp_path)) == NUM_PROBLEMS
    assert json.loads((tmp_path / "validate" / "results.json").read_text())["held_out_loss"] is None
    assert "Servers give no loss on held-out data" in caplog.text
    shown = capfd.readouterr().out
    assert f"{NUM_PROBLEMS}/{NUM_PROBLEMS} problems" in shown
    assert "tokens/s, pass@1 " in shown


def test_no_bar_is_shown_where_none_is_wanted(lemma, tmp_path, capfd):
    with serve() as server:
        lemma("validate", *SERVED, *at(server.url), *NO_BAR, "--trainer.default_root_dir", str(tmp_path))
    shown = capfd.readouterr()
    assert "tokens/s" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("verb", "flags", "message"),
    [
        ("fit", SERVED, "ServedModule has no weights here and cannot be trained"),
        ("validate", [*SERVED, "--ckpt_path", str(ROOT / "pyproject.toml")], "pyproject.toml cannot be read"),
        ("validate", [*SFT, "--model.engine", "remote"], "model.engine: expected one of local, served"),
        ("validate", [*SFT, *at("http://127.0.0.1:1/v1")], "model.served: servers are asked only under --model.engine"),
    ],
    ids=["fit", "checkpoint", "unknown engine", "servers that are not asked"],
)  # fmt: skip
def test_what_cannot_work_is_refused(lemma, capfd, tmp_path, verb, flags, message):
    with pytest.raises(SystemExit) as exit_info:
        lemma(verb, *flags, *NO_BAR, "--trainer.default_root_dir", str(tmp_path))
    assert message in str(exit_info.value.code) + capfd.readouterr().err


def test_the_aime_protocol_is_the_published_one(lemma, capsys):
    path = ROOT / "configs" / "protocols" / "aime.yaml"
    first = path.read_text().split("\n")[0].removeprefix("# lemma ")
    with pytest.raises(SystemExit):
        lemma(*first.split(), "--print_config")
    config = yaml.safe_load(capsys.readouterr().out)
    init = config["model"]["init_args"]
    sampling = init["evaluation"]["sampling"]
    wanted = {"num_samples": 8, "greedy": False, "temperature": 0.3, "top_p": 0.95, "max_new_tokens": 32768, "seed": 0}
    assert wanted.items() <= sampling.items()
    assert [one["source"] for one in config["data"]["benchmarks"]] == ["aime24", "aime25-i", "aime25-ii"]
    assert init["served"]["deadline"] > init["served"]["request_timeout"] > 3600
