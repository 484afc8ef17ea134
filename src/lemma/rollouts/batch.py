"""What a policy loss is given at once: the tensors of some completions, and what they were drawn and rewarded with."""

from typing import Self

import torch
from torch import Tensor

from lemma.encoding import Batch
from lemma.objectives import Window


class RolloutBatch(Batch):
    """One micro-batch of N completions of a rollout, in any layout; no dataclass, as ``Batch``.

    Attributes:
        old_logps: (N, T) float32, log-probabilities under the policy that sampled; None until they are computed.
        ref_logps: (N, T) float32, the reference's of each token, where ``Batch`` has sums; None where there are none.
        advantages: (N,) float32.
        counted: (N,) bool, False for completions that the loss is not to see.
        sampler_logps: (N, T) float32, what the engine that drew the completions says of each token, 0 beyond the end.
        window: Counts of the optimiser step, over micro-batches and ranks.
    """

    def __init__(
        self,
        *,
        old_logps: Tensor | None,
        ref_logps: Tensor | None,
        advantages: Tensor,
        counted: Tensor,
        sampler_logps: Tensor,
        window: Window,
        **layout,
    ) -> None:
        super().__init__(ref_logps=ref_logps, **layout)
        self.old_logps = old_logps
        self.advantages = advantages
        self.counted = counted
        self.sampler_logps = sampler_logps
        self.window = window

    @classmethod
    def of(cls, batch: Batch, **rollout) -> Self:
        """Return a batch in some layout with what belongs to its completions, in the same order.

        Args:
            batch: Laid out.
            **rollout: The attributes above.
        """
        return cls(**{**vars(batch), **rollout})

    def to(self, device: torch.device) -> Self:
        """Return the batch, of the same type, with its tensors on a device."""
        moved = super().to(device)
        moved.window = self.window._replace(
            sequences=self.window.sequences.to(device), tokens=self.window.tokens.to(device)
        )
        return moved
