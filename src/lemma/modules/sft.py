"""Supervised fine-tuning."""

from typing import Any

from torch import Tensor

from lemma.encoding import Batch
from lemma.modules.policy_module import PolicyModule
from lemma.objectives import SFT_LOSSES
from lemma.types import InputError


class SFTModule(PolicyModule):
    """Trains the policy on worked solutions, prompts not counted.

    Args:
        loss_type: ``nll``, the negative log-likelihood, or ``dft``, which weighs each token by its probability
            (Dynamic Fine-Tuning, arXiv:2508.05629). The held-out loss is the negative log-likelihood either way.
        **kwargs: Those of ``PolicyModule``.

    Raises:
        InputError: If ``loss_type`` is none of these.
    """

    objective = "sft"

    def __init__(self, loss_type: str = "nll", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if loss_type not in SFT_LOSSES:
            raise InputError(f"model.loss_type: expected one of {', '.join(SFT_LOSSES)}, but got {loss_type!r}.")
        self.loss_type = loss_type

    def resume_settings(self) -> dict[str, str]:
        """Return those of every objective, and the loss."""
        return {**super().resume_settings(), "model.loss_type": self.loss_type}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss that, accumulated and averaged by Lightning, is the window's mean per weighted token."""
        loss = SFT_LOSSES[self.loss_type](
            self.policy(batch), batch.mask, batch.weights, window_weight=batch.window_weight
        )
        return self.scale_for_backward(loss)
