"""The policy: a causal language model that gives completion log-probabilities and can be saved."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lemma.assets import resolve_base
from lemma.encoding import Batch
from lemma.ops import Head, completion_logps, completion_logps_and_entropy
from lemma.policy.args import PolicyArgs
from lemma.policy.dropout import disable_dropout
from lemma.policy.load import load_model
from lemma.policy.packing import one_row
from lemma.policy.quantization import is_quantized
from lemma.policy.reference import adapters_off, copy_adapter, evaluating, load_reference, reference_adapter
from lemma.policy.skipping import use_skipping
from lemma.policy.visibility import attention_masks
from lemma.types import InputError

ENTROPIES = ("none", "looked_at", "differentiated")
_CPU = torch.device("cpu")


class Policy(nn.Module):
    """A base model with what is trained on it.

    Args:
        args: Base, adapter and precision.
        device: Where a quantised base is put; its bits are made there. Another base loads where torch puts new
            tensors, and may be moved afterwards.

    Raises:
        InputError: If the base or the adapter cannot be loaded.
    """

    def __init__(self, args: PolicyArgs, device: torch.device = _CPU) -> None:
        super().__init__()
        self.args = args
        self.has_adapter = args.method == "lora"
        self.model = load_model(args, device)
        self.reference: nn.Module | None = None  # of full fine-tuning; other references live in the model
        self._device = device
        self._is_reference = False

    @property
    def causal_lm(self) -> nn.Module:
        """Return the transformers model, LoRA layers inside it; the reference's inside ``as_reference``."""
        if self._is_reference and self.reference is not None:
            return self.reference
        return self.model.get_base_model() if self.has_adapter else self.model

    def forward(
        self, batch: Batch, *, temperature: float = 1.0, entropy: str = "none"
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return (N, T) log-probabilities of completion tokens in nats, float32, 0 where ``batch.mask`` is False.

        Args:
            batch: N completions in any layout.
            temperature: Divides the logits; other than 1 only where ``check_temperature`` allows it.
            entropy: ``none``; with ``looked_at`` and ``differentiated`` the second value returned is the (N, T) entropy
                of the distribution that each token was drawn from, without and with a gradient.

        Raises:
            InputError: If the head cannot take the temperature.
            ValueError: If ``entropy`` is none of these.
        """
        if entropy not in ENTROPIES:
            raise ValueError(f"Expected `entropy` among {', '.join(ENTROPIES)}, but got {entropy!r}.")
        self.check_temperature(temperature)
        causal_lm = self.causal_lm
        backbone = getattr(causal_lm, causal_lm.base_model_prefix)
        config = causal_lm.config.get_text_config()
        attention_mask = batch.attention_mask
        if batch.position_ids is not None:
            use_skipping(causal_lm, batch.input_ids.device.type, shares_prompts=batch.groups is not None)
            dtype = causal_lm.get_input_embeddings().weight.dtype
            attention_mask = attention_masks(batch, config, config._attn_implementation, dtype)
        input_ids, position_ids = one_row(batch.input_ids, batch.position_ids, config._attn_implementation)
        hidden = backbone(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
        ).last_hidden_state  # (B, L, H)
        if temperature != 1:
            hidden = hidden / temperature  # a linear head passes it on to the logits, of which there are far more
        places = (hidden, input_ids, batch.completion_index, batch.mask)
        rest = {"head": self._head, "previous_index": batch.previous_index}
        if entropy == "none":
            return completion_logps(*places, **rest)
        return completion_logps_and_entropy(*places, **rest, entropy_gradient=entropy == "differentiated")

    def check_temperature(self, temperature: float) -> None:
        """Refuse a temperature other than 1 where dividing hidden states does not divide the logits.

        Raises:
            InputError: If the head has a bias or a soft cap.
        """
        if temperature == 1:
            return
        head = self._head
        has_bias = getattr(head.module, "bias", None) is not None
        if has_bias or head.soft_cap is not None:
            obstacle = "a bias" if has_bias else "a soft cap"
            raise InputError(
                f"model.sampling.temperature: expected 1, for the head of {self.args.base} has {obstacle}, but got "
                f"{temperature}."
            )

    @property
    def _head(self) -> Head:
        """Return the map from hidden states to logits, soft-capped where the model does (Gemma 2)."""
        config = self.causal_lm.config.get_text_config()
        cap = getattr(config, "final_logit_softcapping", None)
        return Head(self.causal_lm.get_output_embeddings(), config.vocab_size, cap)

    def add_reference(self) -> None:
        """Keep what ``as_reference`` needs beside a fresh adapter's base: a frozen adapter, or a second model.

        To be called once, before anything is trained, cast or sharded.

        Raises:
            InputError: If the adapter also trains weights of the base, or the base cannot be loaded again.
        """
        if not self.has_adapter:
            self.reference = load_reference(self.args, self._device)
        elif self.args.adapter is not None:
            copy_adapter(self.model)

    @contextlib.contextmanager
    def as_reference(self) -> Iterator[None]:
        """Let ``forward`` give the reference's log-probabilities, without gradient and dropout, and nothing random.

        Needs ``add_reference``, unless the adapter is a fresh one. What takes gradients stays the same throughout.
        """
        if not self.has_adapter:
            switch = contextlib.nullcontext()
        elif self.args.adapter is None:
            switch = adapters_off(self.model)
        else:
            switch = reference_adapter(self.model)
        with torch.no_grad(), evaluating(self), switch:
            self._is_reference = True
            try:
                yield
            finally:
                self._is_reference = False

    def disable_dropout(self) -> None:
        """Turn dropout off in training, so that a policy that has not moved equals its reference."""
        disable_dropout(self)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Policy":
        """Move and cast as ``nn.Module`` does, but keep the adapter in float32 or wider and quantised bits as they are.

        Lightning casts the whole module under bf16-true, where an adapter's small updates would be rounded away, and
        quantised bits labelled with a floating type would be taken for numbers.
        """
        bits, adapter = set(), set()
        for name, parameter in self.named_parameters():
            if is_quantized(parameter):
                bits.add(parameter)
            elif ".lora_" in name:
                adapter |= {parameter, parameter.grad}

        def guarded(tensor: Tensor) -> Tensor:
            target = fn(torch.empty(0, dtype=tensor.dtype, device=tensor.device))
            dtype = target.dtype
            if tensor in bits:
                dtype = tensor.dtype
            elif tensor in adapter:
                dtype = torch.promote_types(dtype, torch.float32)
            return fn(tensor) if dtype == target.dtype else tensor.to(target.device, dtype)

        return super()._apply(guarded, recurse)

    def trainable_names(self) -> set[str]:
        """Return the names of the parameters that are trained; checkpoints hold these and no others."""
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def generate(self, **inputs: Any) -> Tensor:
        """Return what transformers' ``generate`` does; sharded weights are gathered around a method of this module."""
        return self.model.generate(**inputs)

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Save in Hugging Face format: the adapter in PEFT's, or the whole model after full fine-tuning.

        Args:
            folder: Where to; made if missing.
            weights: What to save, by the names of ``model``'s state; None for its own state, if that is not sharded.
        """
        if self.has_adapter:
            self.model.peft_config["default"].base_model_name_or_path = resolve_base(self.args.base)
            self.model.save_pretrained(folder, state_dict=weights, selected_adapters=["default"])
        else:
            self.model.save_pretrained(folder, state_dict=weights)
