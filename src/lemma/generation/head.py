"""Multiplies a vocabulary's head with few rows the other way round, which a CPU does at twice the rate.

MKL copies the wider factor of a product into blocks of its own. With 32 rows that is the head, as large as all there
is to read; of the transposed product it is the rows. Measured with a head of 8,192 x 256: 2.2 ms against 4.1.
"""

import contextlib
import functools
from collections.abc import Iterator

from torch import Tensor, nn


@contextlib.contextmanager
def head_for_few_rows(causal_lm: nn.Module) -> Iterator[None]:
    """Let a model compute its logits so for the time of the context, where they are a plain product on a CPU.

    Args:
        causal_lm: A transformers causal language model.
    """
    head = causal_lm.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None or head.weight.device.type != "cpu":
        yield
        return
    head.forward = functools.partial(_logits, head)
    try:
        yield
    finally:
        del head.forward


def _logits(head: nn.Linear, hidden: Tensor) -> Tensor:
    rows = hidden.reshape(-1, hidden.shape[-1])  # (B, H)
    return (head.weight @ rows.T).T.reshape(*hidden.shape[:-1], -1)
