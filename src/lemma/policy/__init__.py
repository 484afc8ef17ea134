"""The policy: load a base model, quantise it, wrap it in LoRA, completion log-probabilities, save."""

from lemma.policy.args import LoraArgs, PolicyArgs, QuantizationArgs
from lemma.policy.fingerprint import weights_sha256
from lemma.policy.policy import Policy

__all__ = ["LoraArgs", "Policy", "PolicyArgs", "QuantizationArgs", "weights_sha256"]
