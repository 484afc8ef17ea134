"""What objectives share that compare the policy with a reference: what it was when the run began."""

from typing import Any

from lemma.modules.policy_module import PolicyModule
from lemma.modules.references import restore_reference, saved_reference
from lemma.policy import Policy
from lemma.types import InputError


class ReferencedModule(PolicyModule):
    """Base of DPO and GRPO: loads the reference beside the policy, keeps it in checkpoints, switches dropout off.

    The reference of a fresh adapter is the base, of a continued adapter a frozen copy of it, of full fine-tuning a
    second model.

    Args:
        disable_dropout: Train without dropout, so that a policy that has not moved equals its reference.
        **kwargs: Those of ``PolicyModule``.

    Raises:
        InputError: If the adapter has dropout that would have no effect.
    """

    asks_reference = False  # whether each batch asks the reference for log-probabilities; set by the subclass

    def __init__(self, disable_dropout: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if disable_dropout and self.policy_args.method == "lora" and self.policy_args.lora.dropout:
            raise InputError(
                f"model.policy.lora.dropout: {self.policy_args.lora.dropout} has no effect under disable_dropout. Set "
                "it to 0, or --model.disable_dropout false."
            )
        self.disable_dropout = disable_dropout

    @property
    def loads_reference(self) -> bool:
        """Return whether a frozen adapter or a second model stands beside the policy: not beside a fresh adapter."""
        is_base = self.policy_args.method == "lora" and self.policy_args.adapter is None
        return self.asks_reference and not is_base

    def prepare_policy(self, policy: Policy) -> None:
        """Load what the reference needs beside the policy, and switch dropout off."""
        if self.loads_reference:  # for validate too: whether it has a checkpoint Lightning says only later
            policy.add_reference()
        if self.disable_dropout:
            policy.disable_dropout()

    def resume_settings(self) -> dict[str, str]:
        """Return those of every objective, and whether dropout is on."""
        return {**super().resume_settings(), "model.disable_dropout": str(self.disable_dropout)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the reference adapter, too, where there is one."""
        super().on_save_checkpoint(checkpoint)
        saved_reference(checkpoint, self.policy)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the reference adapter back."""
        super().on_load_checkpoint(checkpoint)
        restore_reference(checkpoint, self.policy)
