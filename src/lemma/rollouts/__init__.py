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
"""

from lemma.rollouts.algebra import RolloutSize
from lemma.rollouts.batch import RolloutBatch
from lemma.rollouts.buffer import Rollout
from lemma.rollouts.collect import Collected, Prompt, collect
from lemma.rollouts.groups import Group, reward_tensor
from lemma.rollouts.layout import RolloutLayout
from lemma.rollouts.prompts import PromptEncoder
from lemma.rollouts.sampling import RolloutSampling
from lemma.rollouts.stream import PromptStream

__all__ = [
    "Collected",
    "Group",
    "Prompt",
    "PromptEncoder",
    "PromptStream",
    "Rollout",
    "RolloutBatch",
    "RolloutLayout",
    "RolloutSampling",
    "RolloutSize",
    "collect",
    "reward_tensor",
]
