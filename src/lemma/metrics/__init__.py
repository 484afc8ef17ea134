"""Accuracy, pass@k, maj@k and their confidence intervals."""

from lemma.metrics.classes import Accuracy, MajAtK, PassAtK
from lemma.metrics.functional import (
    bootstrap_interval,
    maj_at_k,
    paired_bootstrap_interval,
    pass_at_k,
    wilson_interval,
)

__all__ = [
    "Accuracy",
    "MajAtK",
    "PassAtK",
    "bootstrap_interval",
    "maj_at_k",
    "paired_bootstrap_interval",
    "pass_at_k",
    "wilson_interval",
]
