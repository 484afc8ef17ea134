"""Supervised fine-tuning."""

from torch import Tensor

from lemma.encoding import Batch
from lemma.modules.policy_module import PolicyModule
from lemma.objectives import sft_loss


class SFTModule(PolicyModule):
    """Trains the policy on worked solutions: negative log-likelihood of completion tokens, prompts not counted."""

    objective = "sft"

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss that, accumulated and averaged by Lightning, is the window's mean per weighted token."""
        loss = sft_loss(self.policy(batch), batch.mask, batch.weights, window_weight=batch.window_weight)
        return self.scale_for_backward(loss)
