"""Coherence of the trajectories of a problem with one another: scores of a group, beside the rewards of a completion.

tokens.py, exact.py, expressions.py, equations.py   what a text calculates, exactly
scores.py       s_end, s_path, s_cf, their weighted mean, the reward; args.py: their weights; group.py: all at once
variants.py     problems whose answer must stay or change in a known way; dataflow.py, numbers.py and
                wording.py: how
"""

from lemma.rewards.coherence.args import CoherenceArgs
from lemma.rewards.coherence.equations import Equation, Path, read_path
from lemma.rewards.coherence.group import Coherence, Trajectory, score_group
from lemma.rewards.coherence.scores import agreement, coherence_reward, s_cf, s_end, s_path, truth, weighted_mean
from lemma.rewards.coherence.variants import KINDS, Variant, make_variants, variant_verdicts

__all__ = [
    "KINDS",
    "Coherence",
    "CoherenceArgs",
    "Equation",
    "Path",
    "Trajectory",
    "Variant",
    "agreement",
    "coherence_reward",
    "make_variants",
    "read_path",
    "s_cf",
    "s_end",
    "s_path",
    "score_group",
    "truth",
    "variant_verdicts",
    "weighted_mean",
]
