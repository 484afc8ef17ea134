"""What the user says about servers that draw completions."""

from dataclasses import dataclass, field

from lemma.types import InputError

APIS = ("auto", "completions", "chat")


@dataclass(frozen=True)
class ServedArgs:
    """Servers that draw completions, where the engine is served."""

    urls: list[str] | str = field(default_factory=lambda: ["http://127.0.0.1:8000/v1"])
    """Base URLs of OpenAI-compatible servers, all with the same model; or one URL."""
    model: str | None = None
    """Name of the base model on the servers; null takes the only one that they have."""
    api: str = "auto"
    """completions (prompts as token ids, or as text), chat (messages), or auto: the first of these that it takes."""
    api_key_env: str = "LEMMA_API_KEY"
    """Environment variable that holds the key, which every one of the servers is sent; without it none is."""
    max_in_flight: int = 64
    """Requests under way at each server."""
    request_timeout: float = 600.0
    """Seconds after which a request is given up, and tried again; more than the longest completion takes."""
    deadline: float = 1200.0
    """Seconds that a completion may take over all tries; below the process group's timeout where there are ranks."""
    patience: float = 300.0
    """Seconds without any healthy server after which they are given up; a restart should fit in. Before any server has
    answered, 20 at most: a URL that nobody answers at is mostly mistyped."""
    sleep: bool = False
    """Put the servers to sleep while nothing is drawn, so that the trainer has the memory of a GPU that they share;
    vLLM with --enable-sleep-mode."""
    adapter_folder: str | None = None
    """Where the policy's adapter is saved for the servers, which must see it under this path; null is served/ in the
    run directory."""
    probe_tolerance: float = 0.1
    """Nats a token by which servers and trainer may differ on the same tokens. Kernels of the same base in bfloat16
    give 0.01 to 0.05, another adapter or base more; a base quantised on one side only may need a wider one."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names the key, the rule and the value.
        """
        if isinstance(self.urls, str):
            object.__setattr__(self, "urls", [self.urls])
        if not self.urls:
            raise InputError("model.served.urls: expected at least one server.")
        for url in self.urls:
            if not url.startswith(("http://", "https://")):
                raise InputError(f"model.served.urls: expected http://… or https://…, but got {url!r}.")
            if "@" in url.split("/")[2]:
                raise InputError("model.served.urls: expected no user or password in it; a key goes by api_key_env.")
        if self.api not in APIS:
            raise InputError(f"model.served.api: expected {', '.join(APIS)}, but got {self.api!r}.")
        if self.max_in_flight < 1:
            raise InputError(f"model.served.max_in_flight: expected at least 1, but got {self.max_in_flight}.")
        for name in ("request_timeout", "deadline", "patience", "probe_tolerance"):
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise InputError(f"model.served.{name}: expected a number above 0, but got {value}.")
