"""Loads the tokenizer and decides which chat template and stop tokens it has."""

from dataclasses import dataclass

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lemma.assets import resolve_base
from lemma.types import InputError

CHAT_TEMPLATES = {
    "chatml": (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "plain": (
        "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}"
        "{% else %}{{ message['content'] }}\n\n{% endif %}{% endfor %}"
    ),
}
"""Templates by name, for tokenizers that bring none. ``plain`` needs no special token but the tokenizer's own eos."""


@dataclass(frozen=True)
class TokenizerArgs:
    """Which tokenizer, at which revision, with which chat template."""

    base: str
    """Hub name or folder; tiny is the policy that ships with Lemma."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you have read that code."""
    chat_template: str | None = None
    """None keeps the tokenizer's own; chatml or plain replaces it."""

    def __post_init__(self) -> None:
        """Refuse an unknown template name.

        Raises:
            InputError: If ``chat_template`` is not one of the named ones.
        """
        if self.chat_template is not None and self.chat_template not in CHAT_TEMPLATES:
            known = ", ".join(CHAT_TEMPLATES)
            raise InputError(f"chat_template: expected null or one of {known}, but got {self.chat_template!r}.")


def load_tokenizer(args: TokenizerArgs) -> PreTrainedTokenizerBase:
    """Return the tokenizer with a chat template and a pad token.

    Raises:
        InputError: If it cannot be found, has no chat template and none is named, or has no eos token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            resolve_base(args.base), revision=args.revision, trust_remote_code=args.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise InputError(f"model.policy.base: no tokenizer could be loaded from {args.base!r}: {error}") from error
    if args.chat_template is not None:
        tokenizer.chat_template = CHAT_TEMPLATES[args.chat_template]
    if not tokenizer.chat_template:
        raise InputError(
            f"The tokenizer of {args.base!r} has no chat template: "
            "name one with --model.policy.chat_template (chatml or plain)."
        )
    if tokenizer.eos_token_id is None:
        raise InputError(f"The tokenizer of {args.base!r} has no eos token, so a policy could not learn to stop.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # harmless: masks go by length, never by the pad id
    return tokenizer


def stop_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the token that ends an assistant's turn in the tokenizer's chat template.

    It is the first special token that the template writes after an assistant's message (``<|im_end|>`` in ChatML,
    ``<end_of_turn>`` for Gemma, ``<|eot_id|>`` for Llama 3), or the eos token where the template writes none.
    """
    marker = "MESSAGE"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": marker}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    tail = tokenizer(rendered.rpartition(marker)[2], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    return next((i for i in tail if i in special), tokenizer.eos_token_id)
