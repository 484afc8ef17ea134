"""LightningModules: they hold state and the order of calls; the mathematics is in ``objectives``."""

from lemma.modules.dpo import DPOModule
from lemma.modules.grpo import GRPOModule
from lemma.modules.optim import OptimizerArgs
from lemma.modules.policy_module import PolicyModule
from lemma.modules.sft import SFTModule

__all__ = ["DPOModule", "GRPOModule", "OptimizerArgs", "PolicyModule", "SFTModule"]
