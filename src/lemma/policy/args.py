"""What the user says about the policy."""

from dataclasses import dataclass
from pathlib import Path

from lemma.types import InputError

DTYPES = ("float32", "bfloat16", "float16", "auto")


@dataclass(frozen=True)
class LoraArgs:
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    r: int = 16
    """Rank of the update."""
    alpha: float = 32.0
    """The update is scaled by alpha / r."""
    dropout: float = 0.0
    """Probability with which an adapter's input is zeroed in training, in [0, 1)."""
    target_modules: str | list[str] = "all-linear"
    """Names of the layers to adapt, or all-linear: every linear (or GPT-2 Conv1D) layer but the head."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: If ``r``, ``alpha`` or ``dropout`` is out of range.
        """
        if self.r < 1:
            raise InputError(f"model.policy.lora.r: expected at least 1, but got {self.r}.")
        if self.alpha <= 0:
            raise InputError(f"model.policy.lora.alpha: expected more than 0, but got {self.alpha}.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"model.policy.lora.dropout: expected a value in [0, 1), but got {self.dropout}.")


@dataclass(frozen=True)
class PolicyArgs:
    """Base model and what is trained on top of it."""

    base: str = "tiny"
    """Hub name or folder of a causal language model; tiny is the one that ships with Lemma."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: str = "float32"
    """Data type of the base weights: float32, bfloat16, float16 or auto (as stored). LoRA weights stay float32."""
    attn_implementation: str | None = None
    """Attention kernel: sdpa, eager or flash_attention_2; null lets transformers choose for the model."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    method: str = "lora"
    """What is trained: lora (an adapter) or full (every weight)."""
    lora: LoraArgs = LoraArgs()
    """The adapter, where the method is lora."""
    adapter: str | None = None
    """Folder of an adapter in PEFT format to start from; its rank and targets replace those under lora."""
    chat_template: str | None = None
    """None keeps the tokenizer's own; chatml or plain replaces it."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you have read that code."""

    def __post_init__(self) -> None:
        """Refuse values that do not exist or contradict each other.

        Raises:
            InputError: If the dtype or method is unknown, the adapter's folder has no adapter, or an adapter comes
                with full fine-tuning.
        """
        if self.dtype not in DTYPES:
            raise InputError(f"model.policy.dtype: expected one of {', '.join(DTYPES)}, but got {self.dtype!r}.")
        if self.method not in ("lora", "full"):
            raise InputError(f"model.policy.method: expected lora or full, but got {self.method!r}.")
        if self.adapter is None:
            return
        if self.method == "full":
            raise InputError(
                "model.policy: an adapter cannot be continued with method full; merge it into the base first."
            )
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            if not (Path(self.adapter) / name).is_file():
                raise InputError(f"model.policy.adapter: {self.adapter} is no adapter folder, {name} is missing.")
