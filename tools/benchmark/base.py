"""Makes what both sides start from: a random Llama, a BPE of the rows, an adapter; in Hugging Face's formats."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmark.options import ModelBenchArgs, expect
from lemma.encoding.tokenizer import CHAT_TEMPLATES
from lemma.policy import LoraArgs, Policy, PolicyArgs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HEAD_WIDTH = 32
MAX_LENGTH = 16384  # half of it may be prompt; nothing is allocated by it
NEVER = "<|never|>"


@dataclass(frozen=True)
class BaseArgs(ModelBenchArgs):
    """What a workload asks for that runs a model of the bench's own: its shape."""

    layers: int = 6
    """Transformer layers, at least 1."""
    hidden: int = 256
    """Width, a multiple of 32: attention heads are 32 wide, the inner layer is 8/3 as wide."""
    vocab: int = 8192
    """Rows of the embedding and of the head, at least 512; the BPE has as many tokens, or fewer if the text is poor."""
    lora_r: int = 16
    """Rank of the adapter on all linear layers, at least 1; alpha is twice that, dropout 0."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names option, rule and value.
        """
        super().__post_init__()
        self.expect_at_least(layers=1, hidden=HEAD_WIDTH, vocab=512, lora_r=1)
        expect(self.hidden % HEAD_WIDTH == 0, "hidden", f"a multiple of {HEAD_WIDTH}", self.hidden)


def make_base(
    args: BaseArgs,
    texts: Iterable[tuple[list[dict[str, str]], str]],
    folder: Path,
    *,
    seed: int,
    endless: bool = False,
) -> int:
    """Write the base model and its tokenizer, and return the parameters that multiply: all but the input embedding.

    Args:
        args: Shape.
        texts: (messages, completion) that the tokenizer is trained on.
        folder: Where to.
        seed: Of the weights.
        endless: Whether the stop token is one that the head has no row for, so that every completion is as long as it
            may be.
    """
    from make_tiny_policy import train_tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer(texts, vocab_size=args.vocab)
    if endless:
        tokenizer = _never_ending(tokenizer, args.vocab)
    config = LlamaConfig(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=round(args.hidden * 8 / 3 / 16) * 16,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // HEAD_WIDTH,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=None,
        eos_token_id=None if endless else tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.num_parameters() - model.get_input_embeddings().weight.numel()


def _never_ending(tokenizer: "PreTrainedTokenizerFast", stop_id: int) -> "PreTrainedTokenizerFast":
    """Return a tokenizer with another stop token, which no prompt contains."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["vocab"][NEVER] = stop_id
    backend = Tokenizer.from_str(json.dumps(state))
    endless = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=tokenizer.pad_token, eos_token=NEVER)
    endless.chat_template = CHAT_TEMPLATES["plain"]
    return endless


def make_adapter(args: BaseArgs, base: Path, folder: Path, *, seed: int, scale: float = 0.0) -> None:
    """Write the adapter that both sides train on.

    Args:
        args: Its rank.
        base: Folder of the base model.
        folder: Where to.
        seed: Of the weights.
        scale: Standard deviation of the B matrices; 0 leaves the policy what the base is.
    """
    torch.manual_seed(seed)
    policy = Policy(PolicyArgs(base=str(base), lora=LoraArgs(r=args.lora_r, alpha=2 * args.lora_r)))
    for name, parameter in policy.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=scale)
    policy.save(folder)
