"""Decides how a reference is kept: its adapter in checkpoints, its log-probabilities on disk, computed once.

Precomputed log-probabilities belong to a hash of all that decides them: the token ids of the examples, the files of
base and adapter, quantisation, precision, device and this package's code. What is found under that hash is still tried
out on a few examples, where the policy that trains can tell what the reference says.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from tqdm import tqdm

from lemma.corpora import cached_folder, cached_path, code_hash
from lemma.encoding import Examples
from lemma.files import write_atomic
from lemma.modules.resume import gather_objects
from lemma.modules.sharding import like, reshard, whole_tensors
from lemma.ops import masked_sum
from lemma.policy import Policy, PolicyArgs, weights_sha256
from lemma.policy.reference import REFERENCE, evaluating
from lemma.types import InputError

_KEY = "reference"
_FILE = "logps.npy"
_PROBES = 8
_TOLERANCE = {"32-true": 1e-3, "64-true": 1e-6}
"""Relative difference up to which log-probabilities of a completion are the same; 0.05 in lower precision."""


def saved_reference(checkpoint: dict[str, Any], policy: Policy) -> None:
    """Put the reference adapter into a checkpoint, if there is one; a collective call.

    Args:
        checkpoint: About to be written.
        policy: Sharded or not.
    """
    named = _adapter(policy)
    if named:
        checkpoint[_KEY] = whole_tensors(named)


def restore_reference(checkpoint: dict[str, Any], policy: Policy) -> None:
    """Take the reference adapter from a checkpoint, for its folder may hold another by now.

    Raises:
        InputError: If the checkpoint has none, or another one's.
    """
    named, saved = _adapter(policy), checkpoint.get(_KEY, {})
    if named.keys() != saved.keys() and (named or saved):
        raise InputError("ckpt_path: the checkpoint's reference adapter is not that of model.policy.adapter.")
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(like(saved[name], parameter))


def _adapter(policy: Policy) -> dict[str, Tensor]:
    """Return the weights of the frozen adapter by name; none where the reference is a base."""
    return {name: parameter for name, parameter in policy.named_parameters() if f".{REFERENCE}." in name}


def _kept(path: Path) -> np.ndarray:
    """Return the values in a file; none if it is damaged."""
    try:
        return np.load(path)
    except (OSError, ValueError, EOFError):
        return np.zeros((0, 2))


class Precomputed:
    """Computes the reference's log-probabilities, or finds them on disk.

    Args:
        policy: Before training, or, where the base is the reference, at any time.
        args: How it was loaded.
        trainer: Knows data, ranks and precision.
    """

    def __init__(self, policy: Policy, args: PolicyArgs, trainer: Trainer) -> None:
        self.policy, self.args, self.trainer = policy, args, trainer
        self.data = trainer.datamodule
        if self.data.cache is None:
            raise InputError("data.cache_dir: expected a folder for model.reference precomputed, but got null.")
        self._is_base = args.method == "lora" and args.adapter is None
        self._can_tell = self._is_base or trainer.ckpt_path is None  # what the reference says

    def of(self, examples: Examples) -> np.ndarray:
        """Return (num_examples, 2) float64 log-probabilities of each completion; a collective call.

        Raises:
            InputError: If they are not there any more and cannot be computed by a policy that has trained.
        """
        if not len(examples):
            return np.zeros((0, 2))
        cache, key = self.data.cache, self._key(examples)
        folder = cached_path(cache, key)
        is_there = all(gather_objects(folder.is_dir()))
        if is_there and self._holds(values := _kept(folder / _FILE), examples):
            rank_zero_info(f"Reference: log-probabilities of {len(examples)} pairs found in {cache}.")
            return values
        if not self._can_tell:
            raise InputError(
                f"data.cache_dir: the reference's log-probabilities, with which this run began, are not in {cache} any "
                "more. Start again, or train with --model.reference live."
            )
        values = self._compute(examples, np.arange(len(examples)))
        if is_there:
            rank_zero_warn("Reference: the log-probabilities kept in data.cache_dir were not this policy's; made anew.")
            if self.trainer.local_rank == 0:
                write_atomic(folder / _FILE, lambda stream: np.save(stream, values))
        else:
            cached_folder(cache, key, lambda folder: np.save(folder / _FILE, values))
        return values

    def _key(self, examples: Examples) -> dict[str, Any]:
        args = self.args
        return {
            "kind": "reference",
            "code": code_hash("encoding", "policy", "ops"),
            "examples": examples.sha256,
            "template": self.data.encoder.template_hash,
            "weights": weights_sha256(args),
            "loading": [args.dtype, args.attn_implementation, repr(args.quantization)],
            "precision": self.trainer.precision,
            "device": self.trainer.strategy.root_device.type,
        }

    def _holds(self, values: np.ndarray, examples: Examples) -> bool:
        """Return whether kept values are the policy's, as far as some examples tell; a collective call."""
        is_whole = values.shape == (len(examples), 2) and bool(np.isfinite(values).all())
        if not all(gather_objects(is_whole)):
            return False
        if not self._can_tell:
            return True
        some = np.linspace(0, len(examples) - 1, min(_PROBES, len(examples))).astype(np.int64)
        found = self._compute(examples, some)[some]
        tolerance = _TOLERANCE.get(str(self.trainer.precision), 0.05)
        return all(gather_objects(bool(np.allclose(found, values[some], rtol=tolerance, atol=tolerance))))

    def _compute(self, examples: Examples, some: np.ndarray) -> np.ndarray:
        """Return (num_examples, 2) values of some examples, the others NaN; on all ranks."""
        mine: list[tuple[np.ndarray, np.ndarray]] = []
        with torch.no_grad(), self.trainer.precision_plugin.forward_context(), self._reference():
            for indices, logps in self._batches(examples, some):
                mine.append((indices, logps.view(-1, 2).double().cpu().numpy()[: len(indices)]))
        reshard(self.policy)
        values = np.full((len(examples), 2), np.nan)
        for rank in gather_objects(mine):
            for indices, logps in rank:
                values[indices] = logps
        return values

    def _reference(self) -> Any:
        return self.policy.as_reference() if self._is_base else evaluating(self.policy)

    def _batches(self, examples: Examples, some: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield (indices, (N,) log-probabilities) of this rank's share, the longest examples first."""
        loader = self.data.measuring_loader(examples, some)
        device = self.trainer.strategy.root_device
        hidden = self.trainer.global_rank > 0 or len(some) <= _PROBES
        turns = tqdm(loader.sampler, total=len(loader.sampler), desc="Reference", unit="batch", disable=hidden)
        for micro_batch in turns:
            batch = loader.dataset[micro_batch].to(device)
            yield micro_batch.indices, masked_sum(self.policy(batch), batch.mask)
