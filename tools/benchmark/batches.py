"""Finds the sequences of a padded batch again. Needs torch alone."""

from collections.abc import Iterator

import torch

from benchmark.meter import Sequence


def sequences(input_ids: torch.Tensor, attention_mask: torch.Tensor, counts: torch.Tensor) -> Iterator[Sequence]:
    """Yield prompt and completion of each row.

    Args:
        input_ids: (N, L) long.
        attention_mask: (N, L), not 0 on real tokens.
        counts: (N, L) bool, True on tokens of completions.
    """
    for ids, attended, counted in zip(input_ids, attention_mask.bool(), counts, strict=True):
        real, of_completion = ids[attended].tolist(), counted[attended].tolist()
        first = of_completion.index(True)
        yield real[:first], [token for token, counts in zip(real, of_completion, strict=True) if counts]
