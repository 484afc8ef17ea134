"""Preference pairs out of trajectories: what ``tools/build_preferences.py`` does.

args.py       how many pairs of which kind, and how far apart
candidates.py a row of trajectories or records, with the scores and rewards that it brings or that are computed
choosing.py   the pairs of one problem
thinning.py   which of them stay, so that no source and level has too many
building.py   all of it, from files to a file
report.py     what is said of it; figures.py: means of both sides
"""

from lemma.rollouts.preferences.args import PairingArgs
from lemma.rollouts.preferences.building import build_preferences
from lemma.rollouts.preferences.candidates import Candidate, Scoring, read_candidates
from lemma.rollouts.preferences.choosing import Choice, Pair, choose_pairs
from lemma.rollouts.preferences.report import pairs_table
from lemma.rollouts.preferences.thinning import Thinning

__all__ = [
    "Candidate",
    "Choice",
    "Pair",
    "PairingArgs",
    "Scoring",
    "Thinning",
    "build_preferences",
    "choose_pairs",
    "pairs_table",
    "read_candidates",
]
