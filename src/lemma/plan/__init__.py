"""What a run would be, said before any of it is computed: steps, trained parameters, memory.

steps.py   batch size, accumulation and devices → examples a step, steps an epoch
memory.py  sizes and precision → bytes of each part
report.py  the flags of a run → the parts on one device, and the text that is printed
"""

from lemma.plan.report import Cluster, cluster_of, memory_parts, plan

__all__ = ["Cluster", "cluster_of", "memory_parts", "plan"]
