"""The policy: a causal language model that gives completion log-probabilities and can be saved."""

from pathlib import Path

import torch
from torch import Tensor, nn

from lemma.assets import resolve_base
from lemma.encoding import Batch
from lemma.ops import completion_logps
from lemma.policy.args import PolicyArgs
from lemma.policy.load import load_model


class Policy(nn.Module):
    """A base model with what is trained on it.

    Args:
        args: Base, adapter and precision.

    Raises:
        InputError: If the base or the adapter cannot be loaded.
    """

    def __init__(self, args: PolicyArgs) -> None:
        super().__init__()
        self.args = args
        self.has_adapter = args.method == "lora"
        self.model = load_model(args)

    @property
    def causal_lm(self) -> nn.Module:
        """Return the transformers model, LoRA layers inside it."""
        return self.model.get_base_model() if self.has_adapter else self.model

    def forward(self, batch: Batch) -> Tensor:
        """Return (N, T) log-probabilities of completion tokens in nats, float32, 0 where ``batch.mask`` is False.

        Args:
            batch: N completions in any layout.
        """
        causal_lm = self.causal_lm
        backbone = getattr(causal_lm, causal_lm.base_model_prefix)
        hidden = backbone(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).last_hidden_state  # (B, L, H)
        return completion_logps(hidden, batch.input_ids, batch.completion_index, batch.mask, head=self._head)

    def _head(self, states: Tensor) -> Tensor:
        """Map (M, H) hidden states to (M, V) logits, soft-capped where the model does (Gemma 2)."""
        logits = self.causal_lm.get_output_embeddings()(states)
        cap = getattr(self.causal_lm.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def trainable_names(self) -> set[str]:
        """Return the names of the parameters that are trained; checkpoints hold these and no others."""
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def save(self, folder: Path) -> None:
        """Save in Hugging Face format: the adapter in PEFT's, or the whole model after full fine-tuning.

        Args:
            folder: Where to; made if missing.
        """
        if self.has_adapter:
            self.model.peft_config["default"].base_model_name_or_path = resolve_base(self.args.base)
        self.model.save_pretrained(folder)
