"""What a policy is asked and how it is to answer: templates, system prompts, examples, answer formats. No torch."""

from lemma.prompts.formats import ANSWER_FORMATS, convert_format
from lemma.prompts.templates import PromptArgs, choose_shots, render_completion, render_messages, template_hash
from lemma.prompts.texts import prompt_texts

__all__ = [
    "ANSWER_FORMATS",
    "PromptArgs",
    "choose_shots",
    "convert_format",
    "prompt_texts",
    "render_completion",
    "render_messages",
    "template_hash",
]
