"""What is asked for besides the configuration of the run that the server is for."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, fields

from lemma.types import InputError


@dataclass(frozen=True)
class ServerArgs:
    """A vLLM server beside a run."""

    host: str = "127.0.0.1"
    """Address to listen at. Whoever reaches it may let it load files as adapters: leave it on loopback, or set
    VLLM_API_KEY."""
    port: int = 8000
    """Port to listen at; 0 takes a free one."""
    env: str | None = None
    """Folder of a virtual environment with vLLM; made where it is missing; null is one under .vllm/ in the checkout."""
    gpu_memory_share: float | None = None
    """Share of each GPU's memory that the server takes, in (0, 1]; null is vLLM's own, nearly all. Lower it beside a
    trainer on the same GPU."""
    sleep: bool = False
    """Let the server be put to sleep (POST /sleep, POST /wake_up), which frees GPU memory for the trainer."""
    tensor_parallel: int = 1
    """GPUs that share the model."""
    max_model_length: int | None = None
    """Tokens of the longest prompt with its completion; null adds the configuration's longest ones."""
    cpu_cache: int = 4
    """Without a GPU: GiB of memory for keys and values."""
    start_timeout: float = 1800.0
    """Seconds until the server must be up."""
    log: str | None = None
    """File for what the server prints; null is runs/serving/port-<port>.log. One that is there is moved aside."""
    dry_run: bool = False
    """Print the command and its environment, and start nothing."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names option, rule and value.
        """
        share = self.gpu_memory_share
        _expect(bool(self.host), "host", "an address or a name", self.host)
        _expect(0 <= self.port < 65536, "port", "0 to 65535", self.port)
        _expect(share is None or 0 < share <= 1, "gpu_memory_share", "a share above 0 and at most 1", share)
        for name in ("tensor_parallel", "cpu_cache"):
            _expect(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        length = self.max_model_length
        _expect(length is None or length >= 2, "max_model_length", "null or at least 2", length)
        _expect(0 < self.start_timeout < float("inf"), "start_timeout", "seconds above 0", self.start_timeout)

    @property
    def on_loopback(self) -> bool:
        """Return whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def without_own(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command line that are a run's, and not ``ServerArgs``."""
    own = {f"--{field.name}" for field in fields(ServerArgs)}
    kept, rest = [], iter(arguments)
    for argument in rest:
        name, equals, _ = argument.partition("=")
        if name not in own:
            kept.append(argument)
        elif not equals:
            next(rest, None)
    return kept


def _expect(holds: bool, name: str, rule: str, value: object) -> None:
    if not holds:
        raise InputError(f"--{name}: expected {rule}, but got {value!r}.")
