"""Accuracy, pass@k, maj@k and agreement, their confidence intervals, and paired tests.

functional.py    pass@k
voting.py        maj@k, agreement
intervals.py     Wilson, bootstrap
significance.py  McNemar, paired bootstrap, Holm
paired.py        means of two models over the same problems
plots.py         curves over k
per_problem.py   states that count each problem once on any number of ranks; classes.py: the metrics
"""

from lemma.metrics.classes import Accuracy, Agreement, CompletionLength, MajAtK, PassAtK, TruncationRate
from lemma.metrics.functional import pass_at_k
from lemma.metrics.intervals import (
    bootstrap_band,
    bootstrap_interval,
    paired_bootstrap_interval,
    wilson_interval,
)
from lemma.metrics.plots import plot_over_k
from lemma.metrics.significance import holm, mcnemar_exact, paired_bootstrap_test
from lemma.metrics.voting import agreement, maj_at_k

__all__ = [
    "Accuracy",
    "Agreement",
    "CompletionLength",
    "MajAtK",
    "PassAtK",
    "TruncationRate",
    "agreement",
    "bootstrap_band",
    "bootstrap_interval",
    "holm",
    "maj_at_k",
    "mcnemar_exact",
    "paired_bootstrap_interval",
    "paired_bootstrap_test",
    "pass_at_k",
    "plot_over_k",
    "wilson_interval",
]
