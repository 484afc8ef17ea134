"""The local engine at rest."""

import sys
from pathlib import Path

import pytest
import torch

from lemma.generation import LocalEngine


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_an_engine_at_rest_gives_freed_memory_back_to_the_system():
    blocks = [torch.ones(25_000) for _ in range(1000)]  # 100 MB on the heap, held down by what stays of it
    kept = blocks[::20]
    del blocks
    before = resident_bytes()
    LocalEngine().rest()
    assert before - resident_bytes() > 50e6
    assert len(kept) == 50
