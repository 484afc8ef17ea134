"""Refuses combinations of flags that cannot work, when the configuration is parsed, and says what works instead.

A rule that concerns one group of settings alone stands with that group; here stand those across trainer, policy and
optimiser. Each would otherwise fail hours later, inside a library, or train something else in silence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from lemma.modules import MeasuredModule, OptimizerArgs
from lemma.modules.partition import DORA_ON_STAGE_3
from lemma.policy import PolicyArgs
from lemma.policy.architecture import load_config
from lemma.policy.load import DORA_ON_INT8
from lemma.types import InputError

DEEPSPEED = ("deepspeed_stage_2", "deepspeed_stage_3", "DeepSpeedShards")
FSDP = ("fsdp", "FlatShards")
SHARDED = ("fsdp2", "zero2", "ShardedStrategy", *FSDP, *DEEPSPEED)
PRECISIONS = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed", "None": "32-true"}


@dataclass(frozen=True)
class Setup:
    """What the rules look at.

    Attributes:
        device: ``cpu``, ``cuda`` or another type of torch device.
        strategy: Name of Lightning's strategy, ``auto`` or ``ddp`` for example, or of its class.
        precision: Lightning's name in full, such as ``bf16-mixed``.
        clip: Threshold of gradient clipping, 0 for none.
        policy: What is trained.
        optimizer: By what.
        model_type: Architecture of the base, where a rule asks for it.
        clip_algorithm: ``norm`` or ``value``.
        loads_reference: Whether a frozen adapter or a second model stands beside the policy.
    """

    device: str
    strategy: str
    precision: str
    clip: float
    policy: PolicyArgs
    optimizer: OptimizerArgs
    model_type: str = ""
    clip_algorithm: str = "norm"
    loads_reference: bool = False


class Rule(NamedTuple):
    """A combination and what a user should do about it."""

    matches: Callable[[Setup], bool]
    message: str


RULES = (
    Rule(
        lambda s: s.precision not in ("32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed"),
        "trainer.precision: expected 32-true, bf16-mixed, bf16-true, 16-mixed or 64-true. Weights in float16 without "
        "a loss scale lose small gradients: use bf16-true, or 16-mixed.",
    ),
    Rule(
        lambda s: s.precision == "16-mixed" and s.device == "cpu",
        "trainer.precision: 16-mixed needs a GPU; on a CPU use bf16-mixed or 32-true.",
    ),
    Rule(
        lambda s: s.precision == "16-mixed" and s.policy.dtype in ("bfloat16", "auto"),
        "trainer.precision: 16-mixed needs --model.policy.dtype float32 or float16, for bfloat16 weights reach beyond "
        "float16's 65504; or use bf16-mixed, or bf16-true.",
    ),
    Rule(
        lambda s: s.precision == "16-mixed" and s.policy.dtype == "float16" and s.policy.method == "full",
        "trainer.precision: 16-mixed cannot unscale gradients of float16 weights; full fine-tuning under it needs "
        "--model.policy.dtype float32.",
    ),
    Rule(
        lambda s: s.precision == "16-mixed" and s.model_type.startswith("gemma"),
        "trainer.precision: activations of Gemma models outgrow float16 and become NaN; use bf16-mixed or 32-true.",
    ),
    Rule(
        lambda s: s.device == "cpu" and s.policy.quantization.method == "int8" and s.policy.lora.use_dora,
        DORA_ON_INT8,
    ),
    Rule(
        lambda s: s.strategy in ("FSDPStrategy", "fsdp_cpu_offload"),
        "trainer.strategy: Lightning's own FSDP clips no norms and writes the frozen base into every checkpoint, and "
        "nothing is offloaded to the CPU; use fsdp (configs/hardware/fsdp.yaml) or fsdp2, which shard the same.",
    ),
    Rule(
        lambda s: s.strategy.lower().startswith("deepspeed") and s.strategy not in DEEPSPEED,
        "trainer.strategy: of DeepSpeed there are deepspeed_stage_2 and deepspeed_stage_3 (configs/hardware), for "
        "Lightning's others take no step of a short window.",
    ),
    Rule(
        lambda s: s.strategy == DEEPSPEED[1] and s.policy.lora.use_dora,
        DORA_ON_STAGE_3,
    ),
    Rule(
        lambda s: s.strategy == DEEPSPEED[1] and s.loads_reference,
        "trainer.strategy: under deepspeed_stage_3 no frozen adapter and no second model is gathered for the "
        "reference; use --model.reference precomputed, or fsdp2 (for rollouts, --model.kl_coef 0 or fsdp2).",
    ),
    Rule(
        lambda s: s.strategy in DEEPSPEED and s.precision == "64-true",
        "trainer.precision: DeepSpeed keeps what is trained in float32; use 32-true, or zero2 for 64-true.",
    ),
    Rule(
        lambda s: s.strategy in DEEPSPEED and s.clip_algorithm == "value",
        "trainer.gradient_clip_algorithm: DeepSpeed clips by norm alone; use norm, or zero2.",
    ),
    Rule(
        lambda s: s.strategy == "ModelParallelStrategy",
        "trainer.strategy: Lightning's ModelParallelStrategy writes the frozen base into a folder of shards, and its "
        "tensor parallelism does not fit batches planned by rank; use fsdp2, which is built on it.",
    ),
    Rule(
        lambda s: s.strategy in SHARDED and s.optimizer.name != "adamw",
        "model.optimizer.name: bitsandbytes' optimisers cannot work on shards; use adamw, or ddp.",
    ),
    Rule(
        lambda s: s.strategy in SHARDED and s.precision == "16-mixed",
        "trainer.precision: sharded weights know no loss scale, which 16-mixed needs; use bf16-mixed.",
    ),
    Rule(
        lambda s: bool(s.optimizer.fused and s.clip and "mixed" in s.precision),
        "model.optimizer.fused: a fused optimiser takes no gradient clipping under mixed precision. Leave it null, or "
        "use bf16-true or 32-true, or --trainer.gradient_clip_val 0.",
    ),
    Rule(
        lambda s: s.optimizer.lora_plus_ratio is not None and s.policy.method == "full",
        "model.optimizer.lora_plus_ratio: there is no LoRA to set the rates of under --model.policy.method full.",
    ),
)


def check_compatibility(setup: Setup) -> None:
    """Refuse what cannot work.

    Raises:
        InputError: Names every rule that is broken.
    """
    if broken := [rule.message for rule in RULES if rule.matches(setup)]:
        raise InputError("\n".join(broken))


def check_rollouts(trainer: Mapping[str, Any], module: MeasuredModule, batch_size: int) -> None:
    """Refuse numbers of a module's rollouts that do not go together, as far as flags tell them.

    What one device cannot cut, no number of devices can: one stands for ``auto``.

    Args:
        trainer: Arguments of Lightning's ``Trainer``.
        module: To be trained.
        batch_size: Of the data.

    Raises:
        InputError: As ``RolloutSize.check``.
    """
    if module.makes_rollouts:
        devices = str(trainer.get("devices"))
        ranks = max(1, int(devices)) * int(trainer.get("num_nodes") or 1) if devices.isdigit() else 1
        module.rollout_size(batch_size, trainer.get("accumulate_grad_batches") or 1, ranks).check()


def setup_of(
    trainer: dict[str, Any], policy: PolicyArgs, optimizer: OptimizerArgs, *, loads_reference: bool = False
) -> Setup:
    """Return what the rules look at.

    Args:
        trainer: Arguments of Lightning's ``Trainer``; a strategy may be a name or an object.
        policy: What is trained.
        optimizer: By what.
        loads_reference: Whether a frozen adapter or a second model stands beside the policy.
    """
    strategy, precision = trainer.get("strategy") or "auto", str(trainer.get("precision"))
    precision = PRECISIONS.get(precision, precision)
    asks = precision == "16-mixed"  # a configuration may come from the hub, which is not asked for nothing
    return Setup(
        device=_device(str(trainer.get("accelerator") or "auto")),
        strategy=strategy if isinstance(strategy, str) else type(strategy).__name__,
        precision=precision,
        clip=float(trainer.get("gradient_clip_val") or 0.0),
        policy=policy,
        optimizer=optimizer,
        model_type=load_config(policy.base, policy.revision, policy.trust_remote_code).model_type if asks else "",
        clip_algorithm=trainer.get("gradient_clip_algorithm") or "norm",
        loads_reference=loads_reference,
    )


def _device(accelerator: str) -> str:
    if accelerator in ("auto", "gpu"):
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return accelerator
