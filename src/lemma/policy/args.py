"""What the user says about the policy."""

from dataclasses import dataclass
from pathlib import Path

from lemma.types import InputError

DTYPES = ("float32", "bfloat16", "float16", "auto")
QUANTIZATION_METHODS = ("none", "int8", "nf4")
STORAGE_DTYPES = ("uint8", "bfloat16", "float16", "float32")


def _check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"model.policy.{key}: expected one of {', '.join(choices)}, but got {value!r}.")


@dataclass(frozen=True)
class LoraArgs:
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    r: int = 16
    """Rank of the update."""
    alpha: float = 32.0
    """The update is scaled by alpha / r, or alpha / sqrt(r) where use_rslora is set."""
    dropout: float = 0.0
    """Probability with which an adapter's input is zeroed in training, in [0, 1)."""
    target_modules: str | list[str] = "all-linear"
    """Names of the layers to adapt, or all-linear: every linear (or GPT-2 Conv1D) layer but the head."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r), so that the update keeps its size as r grows (rsLoRA, arXiv:2312.03732)."""
    use_dora: bool = False
    """Train the length of each output's weight vector apart from its direction (DoRA, arXiv:2402.09353)."""

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
class QuantizationArgs:
    """How the frozen base weights are stored under LoRA; bitsandbytes does it while the base is loaded."""

    method: str = "none"
    """none; int8 (LLM.int8(), arXiv:2208.07339); or nf4 (4 bits, QLoRA, arXiv:2305.14314)."""
    double: bool = True
    """nf4: quantise the constants of its blocks of 64 weights too, which saves 0.37 bits a weight."""
    compute_dtype: str = "auto"
    """nf4: what a layer multiplies in: float32, bfloat16, float16, or auto for the data type of the base."""
    storage_dtype: str = "uint8"
    """nf4: data type the packed bits are labelled with: uint8, bfloat16, float16 or float32. FSDP shards only weights
    of one data type together."""

    def __post_init__(self) -> None:
        """Refuse values that do not exist, and settings of nf4 without nf4.

        Raises:
            InputError: If a value is unknown, or another method comes with an option that it would ignore.
        """
        _check_choice("quantization.method", self.method, QUANTIZATION_METHODS)
        _check_choice("quantization.compute_dtype", self.compute_dtype, DTYPES)
        _check_choice("quantization.storage_dtype", self.storage_dtype, STORAGE_DTYPES)
        if self.method == "nf4":
            return
        for name, default in (("double", True), ("compute_dtype", "auto"), ("storage_dtype", "uint8")):
            if (value := getattr(self, name)) != default:
                raise InputError(
                    f"model.policy.quantization.{name}: {value} is a setting of nf4, which method {self.method} would "
                    f"ignore. Leave it at {default}, or set method nf4."
                )


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
    quantization: QuantizationArgs = QuantizationArgs()
    """Storage of the base weights in 8 or 4 bits, where the method is lora."""
    adapter: str | None = None
    """Folder of an adapter in PEFT format to start from; its rank, targets and variant replace those under lora."""
    chat_template: str | None = None
    """None keeps the tokenizer's own; chatml or plain replaces it."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you have read that code."""

    def __post_init__(self) -> None:
        """Refuse values that do not exist or contradict each other.

        Raises:
            InputError: If the dtype or method is unknown, the adapter's folder has no adapter, or an adapter or
                quantisation comes with full fine-tuning.
        """
        _check_choice("dtype", self.dtype, DTYPES)
        _check_choice("method", self.method, ("lora", "full"))
        if self.method == "full" and self.quantization.method != "none":
            raise InputError(
                f"model.policy.quantization.method: weights stored as {self.quantization.method} cannot be trained. "
                "Use --model.policy.method lora, or none with method full."
            )
        if self.adapter is None:
            return
        if self.method == "full":
            raise InputError(
                "model.policy: an adapter cannot be continued with method full; merge it into the base first."
            )
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            if not (Path(self.adapter) / name).is_file():
                whole = (Path(self.adapter) / "config.json").is_file()
                hint = " It holds a whole model: give it as --model.policy.base." if whole else ""
                raise InputError(f"model.policy.adapter: {self.adapter} is no adapter folder, {name} is missing.{hint}")
