"""Prints the FLOP/s that matrix products reach here: python -m benchmark.matmul cpu float32"""

import sys
import time

import torch

_SIZES = {"cpu": 1024, "cuda": 8192}
_ROUNDS = 6


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Return the FLOP/s of square matrix products, the best of six rounds.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: Of the factors.
    """
    size = _SIZES[device]
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(_seconds(left, right) for _ in range(_ROUNDS))


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    """Return the time of one product, over three."""
    _wait(left)
    begin = time.perf_counter()
    for _ in range(3):
        left @ right
    _wait(left)
    return (time.perf_counter() - begin) / 3


def _wait(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    print(matmul_rate(sys.argv[1], getattr(torch, sys.argv[2])))
