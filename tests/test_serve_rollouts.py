"""A server gets the flags that a run's configuration needs, and ends with all that it started, however that comes."""

import json
import logging
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lemma.preparation import configured_run
from lemma.types import InputError

ROOT = Path(__file__).parents[1]
TINY = ("--config", str(ROOT / "configs/policy/tiny.yaml"))
GRPO = ("--config", str(ROOT / "configs/quickstart/grpo.yaml"))

# Stands for the interpreter of an environment with vLLM: a server that is well, and a process that it starts
INTERPRETER = """#!{python}
import http.server, json, os, pathlib, signal, subprocess, sys
if sys.argv[1] == "-c":  # is vllm there?
    sys.exit(0)
folder = pathlib.Path(__file__).parent
if (folder / "dies").exists():
    sys.exit("no GPU memory is left")
if (folder / "stubborn").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "300"])
(folder / "seen.tmp").write_text(json.dumps(
    {{"argv": sys.argv, "environ": dict(os.environ), "pids": [os.getpid(), child.pid]}}))
(folder / "seen.tmp").rename(folder / "seen.json")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *args):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def _as_a_tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let modules beside the tools be found, and leave the level of messages as it was."""
    said = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = said.level
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    monkeypatch.setattr(sys, "argv", ["serve_rollouts.py"])
    yield
    said.setLevel(level)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Return a virtual environment whose vLLM is the tests' own."""
    interpreter = tmp_path / "env" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(INTERPRETER.format(python=sys.executable))
    interpreter.chmod(0o755)
    return tmp_path / "env"


def seen(environment: Path) -> dict:
    """Return what the server of an environment was started with, once it is."""
    path = environment / "bin" / "seen.json"
    wait_for(path.is_file)
    return json.loads(path.read_text())


def wait_for(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "nothing came in time"
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Return whether a process runs; one that waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def launch(*flags: str, device: str = "cuda"):
    from vllm_server.launch import launch_for
    from vllm_server.options import ServerArgs

    return launch_for(*configured_run(ServerArgs, "", list(flags)), device=device)


def value(made, name: str) -> str:
    """Return what follows a flag of vLLM's."""
    return made.arguments[made.arguments.index(name) + 1]


def test_the_flags_are_those_that_the_configuration_needs():
    made = launch(*GRPO, "--data.max_prompt_length=300", "--model.sampling.max_new_tokens=120", "--seed_everything=5")
    assert value(made, "--model") == str(ROOT / "src/lemma/assets/tiny")
    assert value(made, "--served-model-name") == "tiny"
    assert value(made, "--dtype") == "float32"
    assert value(made, "--max-model-len") == "420"  # rollouts of 120 tokens, evaluations of 96
    assert value(made, "--seed") == "5"
    assert value(made, "--max-lora-rank") == "16"
    assert value(made, "--max-loras") == "2"
    assert value(made, "--logprobs-mode") == "processed_logprobs"
    assert value(made, "--generation-config") == "vllm"
    assert value(made, "--host") == "127.0.0.1"
    assert made.variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert made.notes == []
    for flag in ("--trust-remote-code", "--gpu-memory-utilization", "--enable-sleep-mode", "--enforce-eager"):
        assert flag not in made.arguments


def test_the_longest_completion_may_be_one_of_the_evaluation():
    made = launch(*TINY, "--data.max_prompt_length=300", "--model.evaluation.sampling.max_new_tokens=500")
    assert value(made, "--max-model-len") == "800"
    assert value(launch(*TINY, "--max_model_length=99"), "--max-model-len") == "99"


@pytest.mark.parametrize(("rank", "allowed"), [(1, "1"), (2, "8"), (16, "16"), (17, "32"), (300, "320")])
def test_ranks_are_rounded_up_to_one_that_vllm_knows(rank, allowed):
    assert value(launch(*TINY, f"--model.policy.lora.r={rank}"), "--max-lora-rank") == allowed


def test_the_rank_is_that_of_the_adapter_that_is_continued(tmp_path):
    (tmp_path / "adapter_model.safetensors").touch()
    settings = {"r": 4, "rank_pattern": {"q_proj": 33}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    assert value(launch(*TINY, f"--model.policy.adapter={tmp_path}"), "--max-lora-rank") == "64"
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, "use_dora": True}))
    with pytest.raises(InputError, match="vLLM serves no DoRA"):
        launch(*TINY, f"--model.policy.adapter={tmp_path}")


def test_a_share_of_the_memory_sleep_and_several_gpus_are_asked_for():
    made = launch(*TINY, "--gpu_memory_share=0.4", "--sleep=true", "--tensor_parallel=2")
    assert value(made, "--gpu-memory-utilization") == "0.4"
    assert value(made, "--tensor-parallel-size") == "2"
    assert "--enable-sleep-mode" in made.arguments
    assert made.variables["VLLM_SERVER_DEV_MODE"] == "1"


def test_without_a_gpu_the_cache_is_in_the_memory():
    made = launch(*TINY, "--cpu_cache=2", device="cpu")
    assert made.variables["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert "--enforce-eager" in made.arguments


def test_without_a_gpu_no_prompt_is_cut():
    """A prompt that vLLM 0.32.0 cuts, with a seed, ended the server there: CPU Generator does not use offset."""
    made = launch(*TINY, "--max_model_length=5000", device="cpu")
    assert "--no-enable-chunked-prefill" in made.arguments
    assert value(made, "--max-num-batched-tokens") == "5000"
    assert "--no-enable-chunked-prefill" not in launch(*TINY).arguments


def test_remote_code_and_revision_come_from_the_configuration():
    made = launch(*TINY, "--model.policy.trust_remote_code=true", "--model.policy.revision=abc")
    assert "--trust-remote-code" in made.arguments
    assert value(made, "--revision") == value(made, "--tokenizer-revision") == "abc"


def test_a_quantised_base_is_served_as_it_is_and_the_user_is_told():
    made = launch(*TINY, "--model.policy.quantization.method=nf4", "--model.policy.dtype=bfloat16")
    assert "--quantization" not in made.arguments
    assert value(made, "--dtype") == "bfloat16"
    (note,) = made.notes
    assert "method nf4: vLLM cannot store a base like that, and keeps it in bfloat16." in note


def test_all_weights_are_served_for_validation_and_refused_for_rollouts():
    assert "--enable-lora" not in launch(*TINY, "--model.policy.method=full").arguments
    with pytest.raises(InputError, match=r"model\.policy\.method: full changes the base"):
        launch(*GRPO, "--model.policy.method=full")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.policy.lora.r=600"], r"lora\.r: vLLM serves adapters of rank up to 512, but got 600"),
        (["--model.policy.lora.use_dora=true"], "vLLM serves no DoRA"),
        (["--port=70000"], "--port: expected 0 to 65535, but got 70000"),
        (["--gpu_memory_share=0"], "--gpu_memory_share: expected a share above 0"),
        (["--tensor_parallel=0"], "--tensor_parallel: expected at least 1"),
    ],
)
def test_what_cannot_be_served_is_refused(flags, message):
    with pytest.raises(InputError, match=message):
        launch(*TINY, *flags)


def test_sleep_is_refused_without_a_gpu():
    with pytest.raises(InputError, match="--sleep: expected a GPU"):
        launch(*TINY, "--sleep=true", device="cpu")


def test_an_open_port_without_a_key_is_warned_of_and_the_key_is_never_shown(monkeypatch):
    from vllm_server.launch import fit_command

    open_port = ("--host=0.0.0.0", "--sleep=true")
    anyone, asleep = launch(*TINY, *open_port).notes
    assert "let it load any file" in anyone
    assert "asks for no key" in asleep
    monkeypatch.setenv("VLLM_API_KEY", "s3cret")
    made = launch(*TINY, *open_port)
    assert made.notes == [asleep]
    shown = fit_command(made, [*TINY, *open_port])
    assert shown.endswith(":8000/v1]' --model.served.api_key_env VLLM_API_KEY --model.served.sleep true")
    assert made.environment["VLLM_API_KEY"] == "s3cret"
    assert "s3cret" not in made.shown(Path("python")) + shown


def test_an_address_of_six_parts_stands_in_brackets():
    made = launch(*TINY, "--host=::1")
    assert (made.url, made.notes) == ("http://[::1]:8000", [])


@pytest.fixture
def serve(monkeypatch, environment, tmp_path) -> Callable[..., None]:
    """Return a function that runs the tool in this process."""

    def run(*flags: str) -> None:
        argv = ["serve_rollouts.py", *TINY, f"--env={environment}", f"--log={tmp_path / 'log'}", *flags]
        monkeypatch.setattr(sys, "argv", argv)
        runpy.run_path(str(ROOT / "tools/serve_rollouts.py"), run_name="__main__")

    return run


def test_a_dry_run_prints_the_command_and_starts_nothing(serve, environment, capsys):
    serve("--dry_run=true")
    shown = capsys.readouterr().out
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1" in shown
    assert f"{environment}/bin/python -m vllm.entrypoints.openai.api_server --model" in shown
    assert not (environment / "bin" / "seen.json").exists()


def test_a_server_that_dies_is_an_error_with_the_end_of_its_log(serve, environment):
    (environment / "bin" / "dies").touch()
    with pytest.raises(SystemExit, match=r"(?s)error: the server ended with status 1\..*no GPU memory is left"):
        serve("--port=0")


def test_a_server_that_takes_its_time_shows_seconds_and_not_its_log(environment, tmp_path, monkeypatch, capsys):
    """Lines of the log that were cut off looked alarming."""
    from vllm_server import process

    monkeypatch.setattr(process, "_EVERY", 0.2)
    command = [sys.executable, "-c", "import time; print('WARNING: error', flush=True); time.sleep(60)"]
    server = process.Server(command, dict(os.environ), tmp_path / "log")
    with pytest.raises(InputError, match="not up after 1 s"):
        server.wait_until_healthy("http://127.0.0.1:9", timeout=1.0)
    server.stop()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert all(line.split()[1:] == ["s"] for line in lines)


def test_a_step_of_an_environment_that_takes_its_time_is_seen_to_go_on(monkeypatch, capfd):
    import environments

    monkeypatch.setattr(environments, "_SECONDS", 0.1)
    environments._run([sys.executable, "-c", "import time; time.sleep(0.5)"], "1 of 3")
    assert "  1 of 3: 0 s" in capfd.readouterr().out.splitlines()
    with pytest.raises(InputError, match="ended with status 3"):
        environments._run([sys.executable, "-c", "raise SystemExit(3)"], "1 of 3")


def test_a_port_that_is_taken_and_an_environment_without_vllm_are_refused(serve, environment):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=f"cannot listen at 127.0.0.1:{port}"):
            serve(f"--port={port}")
    (environment / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(SystemExit, match=r"--env: \S+ has no vLLM"):
        serve("--port=0")


def test_sigterm_ends_the_server_with_all_that_it_started(environment, tmp_path):
    command = [sys.executable, str(ROOT / "tools/serve_rollouts.py"), *TINY, f"--env={environment}", "--port=0"]
    command.append(f"--log={tmp_path / 'log'}")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    tool = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environ)
    try:
        lines = iter(tool.stdout.readline, "")
        shown = next(line for line in lines if "lemma fit" in line)
        started = seen(environment)
        port = started["argv"][started["argv"].index("--port") + 1]
        served = f"--model.engine served --model.served.urls '[http://127.0.0.1:{port}/v1]'"
        assert shown.strip() == f"lemma fit {' '.join(TINY)} {served}", (
            "can be pasted: the run's arguments, not the tool's"
        )
        assert "PYTHONPATH" not in started["environ"]
        assert started["environ"]["HF_HUB_OFFLINE"] == "1"
        assert all(map(runs, started["pids"]))
        tool.send_signal(signal.SIGTERM)
        assert tool.wait(60) == 128 + signal.SIGTERM
        assert not any(map(runs, started["pids"]))
    finally:
        tool.kill()
        tool.stdout.close()


def test_a_server_that_ignores_sigterm_is_killed(environment, tmp_path, monkeypatch):
    from vllm_server import process

    monkeypatch.setattr(process, "GRACE", 0.5)
    (environment / "bin" / "stubborn").touch()
    server = process.Server([str(environment / "bin/python"), "--port", "0"], dict(os.environ), tmp_path / "log")
    pids = seen(environment)["pids"]
    server.stop()
    wait_for(lambda: not any(map(runs, pids)), seconds=10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_kill_9_of_the_tool_ends_the_server(environment, tmp_path):
    code = (
        "import os, pathlib, sys; from vllm_server.process import Server; "
        "Server([sys.argv[1], '--port', '0'], dict(os.environ), pathlib.Path(sys.argv[2])).wait()"
    )
    command = [sys.executable, "-c", code, str(environment / "bin/python"), str(tmp_path / "log")]
    tool = subprocess.Popen(command, cwd=ROOT / "tools")
    server, child = seen(environment)["pids"]
    tool.kill()
    tool.wait()
    wait_for(lambda: not runs(server), seconds=10)
    os.kill(child, signal.SIGKILL)  # the tests' server, unlike vLLM, leaves it
