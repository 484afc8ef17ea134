"""From prompts to micro-batches of completions that were just drawn.

algebra.py   which numbers of problems, completions, micro-batches and ranks go together
stream.py    which problem comes next
prompts.py   problems as prompts alone
sampling.py  how completions are drawn
collect.py   from prompts to groups: drawn, graded, rewarded
groups.py    what is kept of a problem and its completions
layout.py    how a group's completions become rows
batch.py     the tensors of a micro-batch
buffer.py    `Rollout`: the groups of a rank, cut into micro-batches, saved and restored

And, for `lemma predict`, to trajectories by several strategies:

arms.py          what a strategy is
bandit.py        which strategies a problem is asked by
rounds.py        what is asked between two changes of the bandit's posterior
trajectories.py  drawn, graded, held against one another: rows (trajectory_rows.py)
"""

from lemma.rollouts.algebra import RolloutSize
from lemma.rollouts.arms import ArmArgs, check_arms
from lemma.rollouts.bandit import BanditArgs, Posterior, Tally
from lemma.rollouts.batch import RolloutBatch
from lemma.rollouts.buffer import Rollout
from lemma.rollouts.collect import Collected, Prompt, collect
from lemma.rollouts.groups import Group, reward_tensor
from lemma.rollouts.layout import RolloutLayout
from lemma.rollouts.prompts import PromptEncoder
from lemma.rollouts.rounds import Arm, Attempt, Round, RoundItem
from lemma.rollouts.sampling import RolloutSampling
from lemma.rollouts.stream import PromptStream
from lemma.rollouts.trajectories import TrajectorySettings, TrajectorySource
from lemma.rollouts.trajectory_rows import checked_row, earned

__all__ = [
    "Arm",
    "ArmArgs",
    "Attempt",
    "BanditArgs",
    "Collected",
    "Group",
    "Posterior",
    "Prompt",
    "PromptEncoder",
    "PromptStream",
    "Rollout",
    "RolloutBatch",
    "RolloutLayout",
    "RolloutSampling",
    "RolloutSize",
    "Round",
    "RoundItem",
    "Tally",
    "TrajectorySettings",
    "TrajectorySource",
    "check_arms",
    "checked_row",
    "collect",
    "earned",
    "reward_tensor",
]
