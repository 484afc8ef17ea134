"""What a checkpoint needs beyond weights and optimiser to go on bit for bit: each rank's RNG and open window.

Lightning writes rank 0's state alone, and neither random generators nor gradients that are still being accumulated.
Every rank's are gathered into the checkpoint here, and put back when training starts.
"""

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lemma.modules.sharding import from_share, share
from lemma.types import InputError

OTHER_STRATEGY = (
    "ckpt_path: the checkpoint was written in the middle of a window, under another strategy. Resume with that one, or "
    "from the end of a step."
)


def gather_objects(value: Any) -> list[Any]:
    """Return every rank's value, in rank order; a list of one without distribution."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def rng_state() -> dict[str, Any]:
    """Return the state of every random generator of this process, as tensors and primitives."""
    version, keys, gauss = random.getstate()
    name, numpy_keys, *numpy_rest = np.random.get_state()
    return {
        "python": [version, list(keys), gauss],
        "numpy": [name, torch.from_numpy(numpy_keys.astype(np.int64)), *numpy_rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what ``rng_state`` returned."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, numpy_keys, *numpy_rest = state["numpy"]
    np.random.set_state((name, numpy_keys.numpy().astype(np.uint32), *numpy_rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def open_gradients(module: nn.Module) -> dict[str, Tensor]:
    """Return what this rank holds of the gradients accumulated so far, by parameter name, on the CPU."""
    return {name: share(p.grad.detach()).cpu() for name, p in module.named_parameters() if p.grad is not None}


def set_open_gradients(module: nn.Module, gradients: dict[str, Tensor]) -> None:
    """Put back what ``open_gradients`` returned.

    Raises:
        InputError: If they are not the module's, but shares that DeepSpeed numbers, or that were cut in another way.
    """
    if gradients.keys() - dict(module.named_parameters()).keys():
        raise InputError(OTHER_STRATEGY)
    for name, parameter in module.named_parameters():
        if name in gradients:
            if gradients[name].shape != share(parameter).shape:
                raise InputError(OTHER_STRATEGY)
            parameter.grad = from_share(gradients[name].to(parameter.dtype), parameter)
