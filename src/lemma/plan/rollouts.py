"""Decides what is said of a run on its own completions: the algebra of its rollouts, and what sampling them holds."""

from collections.abc import Mapping

from lemma.datamodule import MathDataModule
from lemma.datamodule.rollouts import RolloutLoader
from lemma.encoding import Example
from lemma.modules import GRPOModule
from lemma.plan.cluster import Cluster
from lemma.plan.parts import computation
from lemma.plan.steps import SampledBatch, Work, run_text, total_steps
from lemma.policy import PolicyArgs
from lemma.policy.meta import PolicySizes
from lemma.rollouts import RolloutSize

_DRAWING = 24
"""Bytes a logit while a token is drawn: logits and scores in float32, probabilities and their sums in float64."""
_OF_A_STEP = {"weights cast to 16 bits", "activations", "logits"}
"""Parts that end with the training step; its gradients stay until the next one."""


def rollouts_work(cluster: Cluster, module: GRPOModule, data: MathDataModule) -> Work:
    """Return what the optimiser steps compute, and what is sampled for them, if all are as long as they may be.

    Args:
        cluster: What the trainer's flags say.
        module: Makes the rollouts.
        data: Set up for the module, if that can be done.

    Raises:
        InputError: If the numbers of a rollout do not go together, or an epoch has too few problems for one.
    """
    size, max_new_tokens = data.rollout_size(), module.sampling.max_new_tokens
    prompt_length, per_epoch, epoch = data.limits.max_prompt_length, None, []
    if data.training is not None:
        order = data.training.mixture.epoch_order(0)
        prompt_length = int(data.training.examples.lengths[order].max()) - 1  # without the stop token
        per_epoch = len(RolloutLoader(module.next_batch, size, len(order))) // size.accumulate
        epoch = [
            f"An epoch is {len(order):,} problems in {len(order) // size.problems:,} rollouts, {per_epoch:,} steps."
        ]
    length = prompt_length + max_new_tokens
    bounds = {"max_steps": cluster.max_steps, "max_epochs": cluster.max_epochs}
    lines = [
        f"A rollout is {size.describe()}.",
        f"A sequence is at most {length:,} tokens: a prompt of {prompt_length:,} and a completion of "
        f"{max_new_tokens:,}.",
        *epoch,
        run_text(total_steps(per_epoch, **bounds), **bounds),
    ]
    rows = min(size.completions // size.ranks, max(1, module.sampling.max_batch_tokens // length))
    positions = _positions(data, size, prompt_length, max_new_tokens)
    return Work("\n".join(lines), positions, SampledBatch(rows, length))


def sampling_parts(
    in_training: Mapping[str, int],
    sizes: PolicySizes,
    cluster: Cluster,
    policy: PolicyArgs,
    batch: SampledBatch,
) -> dict[str, int]:
    """Return the bytes of each part on one device, while completions are drawn, by name.

    Args:
        in_training: Parts of the training step, of which most stay.
        sizes: Of the policy.
        cluster: Strategy, precision and devices.
        policy: What is trained.
        batch: What is sampled at once.
    """
    positions = batch.rows * batch.length
    itemsize = computation(sizes, cluster, policy, positions).compute_size
    merges = "16" not in cluster.precision and not cluster.shards_weights
    parts = {name: size for name, size in in_training.items() if name not in _OF_A_STEP}
    parts |= {
        "merged copy of adapted weights": sizes.merged if merges else 0,
        "keys and values": positions * sizes.cached * itemsize,
        "logits of a token": _DRAWING * batch.rows * sizes.vocab,
    }
    return {name: size for name, size in parts.items() if size}


def _positions(data: MathDataModule, size: RolloutSize, prompt_length: int, max_new_tokens: int) -> int:
    """Return the tokens of a micro-batch of the longest prompts and completions, padding included."""
    if data.arrangement is None:
        return size.batch_size * (prompt_length + max_new_tokens)
    at_once = min(size.batch_size, size.group_size)
    group = Example("", "", [0] * prompt_length, [[0] * max_new_tokens] * at_once, 1.0)
    return data.arrangement.layout(pad_id=0)([group] * (size.batch_size // at_once)).num_positions
