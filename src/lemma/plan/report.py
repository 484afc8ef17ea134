"""Decides what is said of a run before it starts: batches and steps, what is trained, the memory of one device."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from tabulate import tabulate

from lemma.datamodule import MathDataModule
from lemma.modules import PolicyModule
from lemma.plan.cluster import Cluster
from lemma.plan.examples import examples_work
from lemma.plan.parts import memory_parts
from lemma.plan.rollouts import rollouts_work, sampling_parts
from lemma.policy import PolicyArgs
from lemma.policy.meta import PolicySizes, meta_model, policy_sizes
from lemma.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_IN_TRAINING = (
    "An estimate for a micro-batch of {positions:,} positions, the largest expected. Add 1 to 2 GiB for kernels and "
    "fragmentation. Validation keeps no activations and gradients, but keys and values."
)
_SAMPLING = (
    "For {rows:,} completions at once, each with its prompt {length:,} tokens (model.sampling.max_batch_tokens). While "
    "they grow, buffers of keys and values have up to a quarter more room."
)


def plan(cluster: Cluster, module: PolicyModule, data: MathDataModule, config: "PreTrainedConfig | None" = None) -> str:
    """Return what the run would be, as text. The data is read, where that can be done; no weights are.

    Args:
        cluster: What the trainer's flags say.
        module: The objective, without a policy yet.
        data: Not yet set up.
        config: The base's configuration; None reads it from the hub, its cache or a folder.

    Raises:
        InputError: If there is no configuration, the adapter does not fit the base, or the numbers of a rollout do not
            go together.
    """
    policy = module.policy_args
    sizes = policy_sizes(meta_model(policy, config), policy)
    reading = _read(cluster, module, data)
    work = rollouts_work(cluster, module, data) if module.makes_rollouts else examples_work(cluster, data)
    parts = memory_parts(
        sizes,
        cluster,
        policy,
        module.optimizer_args,
        positions=work.positions,
        loads_reference=module.loads_reference,
    )
    paragraphs = [work.text, _parameters_text(sizes, policy)]
    paragraphs.append(_memory_text("in training", parts, _IN_TRAINING.format(positions=work.positions)))
    if work.sampled is not None:
        while_sampling = sampling_parts(parts, sizes, cluster, policy, work.sampled)
        note = _SAMPLING.format(**work.sampled._asdict())
        paragraphs.append(_memory_text("while sampling", while_sampling, note))
    return "\n\n".join([*([reading] if reading else []), *paragraphs])


def _read(cluster: Cluster, module: PolicyModule, data: MathDataModule) -> str | None:
    """Set the data up as fit would; return why it could not be read, or None."""
    data.trainer = SimpleNamespace(  # what of a trainer decides how data is read and cut
        lightning_module=module,
        accumulate_grad_batches=cluster.accumulate,
        world_size=cluster.ranks,
        global_rank=0,
        strategy=SimpleNamespace(root_device=torch.device(cluster.device)),
    )
    try:
        data.setup("fit")
    except InputError as error:
        return f"The data has not been read, lengths are upper bounds: {error}"
    return None


def _parameters_text(sizes: PolicySizes, policy: PolicyArgs) -> str:
    trained, total = sizes.num_trained, sizes.num_trained + sizes.num_frozen
    return f"{policy.base}: {trained:,} of {total:,} parameters are trained ({trained / total:.2%})."


def _memory_text(when: str, parts: dict[str, int], note: str) -> str:
    total = sum(parts.values())
    unit, size = ("GiB", 2**30) if total >= 2**30 else ("MiB", 2**20)
    rows = [[name, f"{part / size:.2f}"] for name, part in [*parts.items(), ("together", total)]]
    headers = [f"memory of one device, {when}", unit]
    return f"{tabulate(rows, headers, disable_numparse=True, colalign=('left', 'right'))}\n{note}"
