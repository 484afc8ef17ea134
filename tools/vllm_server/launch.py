"""Decides the command and environment of the vLLM server that serves a run's configuration."""

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lemma.assets import resolve_base
from lemma.datamodule import MathDataModule
from lemma.modules import PolicyModule
from lemma.policy import PolicyArgs
from lemma.types import InputError
from vllm_server.options import ServerArgs, without_own

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vLLM's choices for --max-lora-rank
_CPU_BATCH = 4096  # tokens of a step at most
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True)
class Launch:
    """What is run.

    Attributes:
        arguments: Of the interpreter that has vLLM.
        variables: Environment variables that are set beside those of this process.
        url: Where the server will be, as a client on this machine writes it, without a path.
        notes: What the user is told before it starts.
    """

    arguments: list[str]
    variables: dict[str, str]
    url: str
    notes: list[str]

    def shown(self, python: Path) -> str:
        """Return the command as a shell would take it.

        Args:
            python: The interpreter that has vLLM.
        """
        variables = (f"{name}={shlex.quote(value)}" for name, value in self.variables.items())
        return f"{' '.join(variables)} {shlex.join([str(python), *self.arguments])}"

    @property
    def environment(self) -> dict[str, str]:
        """Return all variables of the server's process: this one's, but for Python's own, and those that are set."""
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        return kept | self.variables


def launch_for(model: PolicyModule, data: MathDataModule, args: ServerArgs, *, device: str) -> Launch:
    """Return how to serve the policy of a configuration.

    Args:
        model: Of the run; its weights are not loaded.
        data: Of the run.
        args: What is asked for besides.
        device: cpu or cuda.

    Raises:
        InputError: If vLLM cannot do what the configuration asks for.
    """
    if args.sleep and device == "cpu":
        raise InputError("--sleep: expected a GPU, whose memory sleep would free; there is none here.")
    policy, length = model.policy_args, args.max_model_length or _longest(model, data)
    host = _WILDCARDS.get(args.host, args.host)
    arguments = [
        *("-m", "vllm.entrypoints.openai.api_server"),
        *("--model", resolve_base(policy.base)),
        *("--served-model-name", policy.base),
        *("--dtype", policy.dtype),
        *("--max-model-len", str(length)),
        *("--seed", str(data.seed)),
        *("--tensor-parallel-size", str(args.tensor_parallel)),
        *("--logprobs-mode", "processed_logprobs"),  # at the sampling temperature, as the trainer's
        *("--generation-config", "vllm"),  # none of the sampling defaults that come with the base
        *("--host", args.host, "--port", str(args.port)),
        "--disable-uvicorn-access-log",
        *_revision(policy),
        *_adapters(model),
        *_memory(args, device, length),
    ]
    variables = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_NO_USAGE_STATS": "1"}
    if args.sleep:
        variables["VLLM_SERVER_DEV_MODE"] = "1"  # has the endpoints
    if device == "cpu":
        variables |= {"VLLM_CPU_KVCACHE_SPACE": str(args.cpu_cache), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    url = f"http://[{host}]:{args.port}" if ":" in host else f"http://{host}:{args.port}"
    return Launch(arguments, variables, url, [*_storage_notes(policy), *_access_notes(args)])


def fit_command(launch: Launch, arguments: Sequence[str]) -> str:
    """Return the command of a run that draws from the server.

    Args:
        launch: Of the server.
        arguments: Of the tool that starts it.
    """
    shown = ["--model.engine", "served", "--model.served.urls", f"[{launch.url}/v1]"]
    if os.environ.get("VLLM_API_KEY"):
        shown += ["--model.served.api_key_env", "VLLM_API_KEY"]
    if "--enable-sleep-mode" in launch.arguments:
        shown += ["--model.served.sleep", "true"]
    return shlex.join(["lemma", "fit", *without_own(arguments), *shown])


def _longest(model: PolicyModule, data: MathDataModule) -> int:
    """Return the tokens of the longest prompt with the longest completion, of rollouts and of evaluation."""
    drawn = [model.evaluation_args.sampling, *([model.sampling] if model.makes_rollouts else [])]
    return data.limits.max_prompt_length + max(each.max_new_tokens for each in drawn)


def _revision(policy: PolicyArgs) -> list[str]:
    found = ["--revision", policy.revision, "--tokenizer-revision", policy.revision] if policy.revision else []
    return [*found, "--trust-remote-code"] if policy.trust_remote_code else found


def _adapters(model: PolicyModule) -> list[str]:
    """Return the flags for adapters that the run pushes: the last version, and the one before while it is replaced."""
    policy = model.policy_args
    if policy.method == "full":
        if model.makes_rollouts:
            raise InputError(
                "model.policy.method: full changes the base itself, which vLLM does not load anew while it serves. Use "
                "lora, or --model.engine local."
            )
        return []
    rank, is_dora = policy.lora.r, policy.lora.use_dora
    if policy.adapter is not None:
        stored = json.loads((Path(policy.adapter) / "adapter_config.json").read_text("utf-8"))
        rank = max([stored["r"], *stored.get("rank_pattern", {}).values()])
        is_dora = bool(stored.get("use_dora"))
    if is_dora:
        raise InputError("model.policy.lora.use_dora: vLLM serves no DoRA adapters. Use LoRA, or --model.engine local.")
    if rank > RANKS[-1]:
        raise InputError(f"model.policy.lora.r: vLLM serves adapters of rank up to {RANKS[-1]}, but got {rank}.")
    allowed = next(each for each in RANKS if each >= rank)
    return ["--enable-lora", "--max-loras", "2", "--max-lora-rank", str(allowed)]


def _memory(args: ServerArgs, device: str, length: int) -> list[str]:
    if device == "cpu":
        # a prompt that is cut, with a seed, ends the server there: "CPU Generator does not use offset" (0.32.0)
        batch = max(_CPU_BATCH, length)
        return ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", str(batch)]
    share = [] if args.gpu_memory_share is None else ["--gpu-memory-utilization", str(args.gpu_memory_share)]
    return [*share, "--enable-sleep-mode"] if args.sleep else share


def _storage_notes(policy: PolicyArgs) -> list[str]:
    method = policy.quantization.method
    if method == "none":
        return []
    return [
        f"model.policy.quantization.method {method}: vLLM cannot store a base like that, and keeps it in "
        f"{policy.dtype}. So its log-probabilities are not quite the trainer's: GRPO corrects for that, validation "
        "measures the base as the server has it, and --model.served.probe_tolerance may have to be wider."
    ]


def _access_notes(args: ServerArgs) -> list[str]:
    if args.on_loopback:
        return []
    notes = []
    if not os.environ.get("VLLM_API_KEY"):
        notes.append(
            f"--host {args.host} without VLLM_API_KEY: whoever reaches port {args.port} can use the model, and let it "
            "load any file that it can read as an adapter."
        )
    if args.sleep:
        notes.append(
            f"--host {args.host} with --sleep: POST /sleep asks for no key; whoever reaches port {args.port} can put "
            "the server to sleep."
        )
    return notes
