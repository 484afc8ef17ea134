"""LightningModules: they hold state and the order of calls; the mathematics is in ``objectives``."""

from lemma.modules.dpo import DPOModule
from lemma.modules.grpo import GRPOModule
from lemma.modules.measured import MeasuredModule
from lemma.modules.optim import OptimizerArgs
from lemma.modules.policy_module import PolicyModule
from lemma.modules.served import ServedModule
from lemma.modules.sft import SFTModule
from lemma.modules.trajectories import TrajectoryModule

__all__ = [
    "DPOModule",
    "GRPOModule",
    "MeasuredModule",
    "OptimizerArgs",
    "PolicyModule",
    "SFTModule",
    "ServedModule",
    "TrajectoryModule",
]
