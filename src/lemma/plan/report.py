"""Decides what is said of a run before it starts: batches and steps, what is trained, the memory of one device."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from tabulate import tabulate

from lemma.compatibility import DEEPSPEED, PRECISIONS, SHARDED
from lemma.datamodule import MathDataModule
from lemma.modules import OptimizerArgs
from lemma.plan.memory import (
    Computation,
    activation_bytes,
    head_bytes,
    int8_bytes,
    nf4_bytes,
    optimizer_bytes,
)
from lemma.plan.steps import Steps
from lemma.policy import PolicyArgs
from lemma.policy.meta import PolicySizes, meta_model, policy_sizes
from lemma.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Cluster:
    """What the trainer's flags say.

    Attributes:
        strategy: Name of Lightning's strategy, or of its class.
        precision: Lightning's name in full, such as ``bf16-mixed``.
        ranks: Devices of all nodes.
        accumulate: Micro-batches an optimiser step and rank.
        max_steps: Optimiser steps after which training ends, or None.
        max_epochs: Epochs after which it ends, or None.
    """

    strategy: str
    precision: str
    ranks: int
    accumulate: int
    max_steps: int | None
    max_epochs: int | None

    @property
    def shards_states(self) -> bool:
        """Return whether each device holds a share of the gradients and the optimiser's states."""
        return self.strategy in SHARDED

    @property
    def shards_weights(self) -> bool:
        """Return whether each device holds a share of the weights in a step, too; ZeRO stage 2 gathers all."""
        return self.shards_states and self.strategy not in ("zero2", "deepspeed_stage_2", "DeepSpeedShards")


def cluster_of(trainer: Mapping[str, Any]) -> Cluster:
    """Return what the trainer's flags say.

    Args:
        trainer: Arguments of Lightning's ``Trainer``; a strategy may be a name or an object.
    """
    strategy, precision = trainer.get("strategy") or "auto", str(trainer.get("precision"))
    max_steps, max_epochs = trainer.get("max_steps"), trainer.get("max_epochs")
    if max_epochs is None and max_steps in (None, -1):
        max_epochs = 1000  # Lightning's own
    return Cluster(
        strategy=strategy if isinstance(strategy, str) else type(strategy).__name__,
        precision=PRECISIONS.get(precision, precision),
        ranks=_devices(trainer.get("devices")) * int(trainer.get("num_nodes") or 1),
        accumulate=trainer.get("accumulate_grad_batches") or 1,
        max_steps=None if max_steps in (None, -1) else max_steps,
        max_epochs=None if max_epochs in (None, -1) else max_epochs,
    )


def plan(
    cluster: Cluster,
    policy: PolicyArgs,
    optimizer: OptimizerArgs,
    data: MathDataModule,
    config: "PreTrainedConfig | None" = None,
    *,
    loads_reference: bool = False,
) -> str:
    """Return what the run would be, as text. The data is read, where that can be done; no weights are.

    Args:
        cluster: What the trainer's flags say.
        policy: What is trained.
        optimizer: By what.
        data: Not yet set up.
        config: The base's configuration; None reads it from the hub, its cache or a folder.
        loads_reference: Whether a frozen adapter or a second model stands beside the policy.

    Raises:
        InputError: If there is no configuration, or the adapter does not fit the base.
    """
    sizes = policy_sizes(meta_model(policy, config), policy)
    reading = _read(data)
    lengths = _lengths(data)
    pairs = any(corpus.holds_pairs for corpus in data.corpora)
    upper_bound = data.limits.max_prompt_length + (1 + pairs) * data.limits.max_completion_length
    longest = max(lengths, default=upper_bound)
    steps = Steps(
        batch_size=data.batch_size,
        accumulate=cluster.accumulate,
        ranks=cluster.ranks,
        examples=len(lengths) or None,
        max_steps=cluster.max_steps,
        max_epochs=cluster.max_epochs,
    )
    mean = sum(lengths) / len(lengths) if lengths else None
    positions = data.arrangement.most_positions if data.arrangement is not None else data.batch_size * longest
    parts = memory_parts(sizes, cluster, policy, optimizer, positions=positions, loads_reference=loads_reference)
    return "\n\n".join(
        [
            *([reading] if reading else []),
            _steps_text(steps, mean, longest, pairs=pairs),
            _parameters_text(sizes, policy),
            _memory_text(parts, positions),
        ]
    )


def memory_parts(
    sizes: PolicySizes,
    cluster: Cluster,
    policy: PolicyArgs,
    optimizer: OptimizerArgs,
    *,
    positions: int,
    loads_reference: bool = False,
) -> dict[str, int]:
    """Return the bytes of each part on one device, in the training step, by name.

    Args:
        sizes: Of the policy.
        cluster: Strategy, precision and devices.
        policy: What is trained.
        optimizer: By what.
        positions: Tokens of a micro-batch on one device, padding included.
        loads_reference: Whether a frozen copy of what is trained stands beside it: an adapter, or a second model.
    """
    run = _computation(sizes, cluster, policy, positions)
    bits = policy.quantization
    quantized = sum(
        int8_bytes(rows, columns) if bits.method == "int8" else nf4_bytes(rows * columns, double=bits.double)
        for rows, columns in sizes.quantized
    )
    widest = 2 if "16-true" in cluster.precision else 8  # Lightning casts all weights but an adapter's
    frozen = sum(count * min(itemsize, widest) for count, itemsize in sizes.frozen)
    tensors = [(count, min(itemsize, widest) if run.full else itemsize) for count, itemsize in sizes.trained]
    trained = sum(count * itemsize for count, itemsize in tensors)
    copied = cluster.strategy in DEEPSPEED  # its optimiser works on float32: on copies, but for shares that are in it
    copies = sum(count for count, itemsize in tensors if copied and (itemsize < 4 or not cluster.shards_weights))
    states = sum(optimizer_bytes(count, 4 if copied else itemsize, name=optimizer.name) for count, itemsize in tensors)
    weights = cluster.ranks if cluster.shards_weights else 1
    shares = cluster.ranks if cluster.shards_states else 1
    parts = {
        f"base weights in {bits.method}": quantized,  # bitsandbytes' bits stay whole
        "frozen weights": _ceil(frozen, weights),
        "trained weights": _ceil(trained, weights),
        "reference": _ceil(trained, weights) if loads_reference else 0,
        "a layer's gathered weights": _ceil(frozen + trained, sizes.layers) if weights > 1 else 0,
        "weights cast to 16 bits": _cast_bytes(sizes, cluster, policy),
        "gradients": _ceil(trained, shares),
        "gradient buckets of DDP": trained if cluster.ranks > 1 and shares == 1 else 0,
        "optimiser states": _ceil(states, shares),
        "trained weights in float32": _ceil(4 * copies, shares),
        "activations": activation_bytes(sizes, run),
        "logits": head_bytes(sizes, run),
    }
    return {name: size for name, size in parts.items() if size}


def _computation(sizes: PolicySizes, cluster: Cluster, policy: PolicyArgs, positions: int) -> Computation:
    mixed = "mixed" in cluster.precision
    stored = (
        2 if "16-true" in cluster.precision else max((size for _, size in sizes.frozen or sizes.trained), default=4)
    )
    compute_size = 2 if mixed else stored
    adapter_size = 2 if mixed else 4
    dropout = policy.method == "lora" and policy.lora.dropout > 0
    return Computation(
        positions=positions,
        compute_size=compute_size,
        adapter_size=adapter_size,
        copies_inputs=dropout or mixed or adapter_size != compute_size,
        dropout=dropout,
        full=policy.method == "full",
        checkpointing=policy.gradient_checkpointing,
    )


def _cast_bytes(sizes: PolicySizes, cluster: Cluster, policy: PolicyArgs) -> int:
    """Return what autocast adds: float32 matrices are copied into 16 bits, and the copies live until the backward."""
    if "mixed" not in cluster.precision:
        return 0
    stored = max((size for _, size in sizes.frozen or sizes.trained), default=4)
    matrices = 0
    if stored == 4 and not sizes.quantized:
        matrices = sum(rows * columns for rows, columns in sizes.linear)
        matrices = _ceil(matrices, sizes.layers) if policy.gradient_checkpointing else matrices
    adapter = sizes.num_trained if policy.method == "lora" else 0
    return 2 * (matrices + adapter)


def _read(data: MathDataModule) -> str | None:
    """Set the data up; return why it could not be read, or None."""
    try:
        data.setup("fit")
    except InputError as error:
        return f"The data has not been read, lengths are upper bounds: {error}"
    return None


def _lengths(data: MathDataModule) -> list[int]:
    """Return the tokens of each example of the first epoch, a prompt once, or nothing if there is no data."""
    if data.training is None:
        return []
    return data.training.examples.shared_lengths[data.training.mixture.epoch_order(0)].tolist()


def _steps_text(steps: Steps, mean: float | None, longest: int, *, pairs: bool) -> str:
    nouns, one = ("pairs", "a pair") if pairs else ("examples", "an example")
    lines = [
        f"An optimiser step sees {steps.window} {nouns}: batch_size {steps.batch_size} x accumulate "
        f"{steps.accumulate} x ranks {steps.ranks}."
    ]
    if mean is None:
        lines.append(f"At most {steps.window * longest:,} tokens a step ({longest:,} {one}).")
    else:
        lines.append(f"{round(steps.window * mean):,} tokens a step on average ({mean:.0f} {one}, {longest:,} most).")
    if steps.per_epoch is not None:
        lines.append(f"An epoch is {steps.examples:,} {nouns} in {steps.per_epoch:,} steps.")
    bounds = [f"{steps.max_epochs} epochs"] if steps.max_epochs is not None else []
    bounds += [f"at most {steps.max_steps:,} optimiser steps"] if steps.max_steps is not None else []
    total = f"{steps.total:,} optimiser steps" if steps.total is not None else ", ".join(bounds) or "without end"
    return "\n".join([*lines, f"The run: {total}."])


def _parameters_text(sizes: PolicySizes, policy: PolicyArgs) -> str:
    trained, total = sizes.num_trained, sizes.num_trained + sizes.num_frozen
    return f"{policy.base}: {trained:,} of {total:,} parameters are trained ({trained / total:.2%})."


def _memory_text(parts: dict[str, int], positions: int) -> str:
    total = sum(parts.values())
    unit, size = ("GiB", 2**30) if total >= 2**30 else ("MiB", 2**20)
    rows = [[name, f"{part / size:.2f}"] for name, part in [*parts.items(), ("together", total)]]
    headers = ["memory of one device, in training", unit]
    note = (
        f"An estimate for a micro-batch of {positions:,} positions, the largest expected. Add 1 to 2 GiB for kernels "
        "and fragmentation. Validation keeps no activations and gradients, but keys and values."
    )
    return f"{tabulate(rows, headers, disable_numparse=True, colalign=('left', 'right'))}\n{note}"


def _devices(devices: Any) -> int:
    """Return the number of devices of a node; ``auto`` and -1 are all GPUs, or one CPU."""
    if isinstance(devices, list | tuple):
        return len(devices)
    text = str(devices)
    if text.isdigit():
        return int(text)
    if "," in text:
        return len([part for part in text.split(",") if part.strip()])
    return max(1, torch.cuda.device_count())


def _ceil(count: int, share: int) -> int:
    return -(-count // share)
