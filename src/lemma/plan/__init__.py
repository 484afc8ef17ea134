"""What a run would be, said before any of it is computed: steps, trained parameters, memory.

cluster.py   the trainer's flags → strategy, precision, devices
steps.py     batch size, accumulation and devices → examples a step, steps an epoch
examples.py  a run on given examples → its steps and its largest micro-batch
rollouts.py  a run on its own completions → the same, and what sampling holds
memory.py    sizes and precision → bytes of each kind of part
parts.py     the parts of one device in a training step
report.py    all of it as the text that is printed
"""

from lemma.plan.cluster import Cluster, cluster_of
from lemma.plan.parts import memory_parts
from lemma.plan.report import plan

__all__ = ["Cluster", "cluster_of", "memory_parts", "plan"]
