"""Decides what one device holds in a run's training step, part by part: sizes, strategy and precision in, bytes out."""

from lemma.compatibility import DEEPSPEED
from lemma.modules import OptimizerArgs
from lemma.plan.cluster import Cluster
from lemma.plan.memory import (
    Computation,
    activation_bytes,
    head_bytes,
    int8_bytes,
    nf4_bytes,
    optimizer_bytes,
)
from lemma.policy import PolicyArgs
from lemma.policy.meta import PolicySizes


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
    run = computation(sizes, cluster, policy, positions)
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


def computation(sizes: PolicySizes, cluster: Cluster, policy: PolicyArgs, positions: int) -> Computation:
    """Return in which precision a device computes so many positions.

    Args:
        sizes: Of the policy.
        cluster: Precision.
        policy: What is trained.
        positions: Tokens, padding included.
    """
    mixed = "mixed" in cluster.precision
    stored = (
        2 if "16-true" in cluster.precision else max((size for _, size in sizes.frozen or sizes.trained), default=4)
    )
    compute_size = 2 if mixed else stored
    adapter_size = 2 if mixed else 4
    dropout = policy.method == "lora" and policy.lora.dropout > 0
    fused = mixed and policy.quantization.method == "none" and not policy.lora.use_dora  # policy.fused_lora
    return Computation(
        positions=positions,
        compute_size=compute_size,
        adapter_size=adapter_size,
        copies_inputs=dropout or (not fused and (mixed or adapter_size != compute_size)),
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


def _ceil(count: int, share: int) -> int:
    return -(-count // share)
