"""What a policy is asked and how it is to answer: templates, system prompts, answer formats. No torch."""

from lemma.prompts.formats import ANSWER_FORMATS
from lemma.prompts.templates import PromptArgs, prompt_texts, render_completion, render_messages, template_hash

__all__ = ["ANSWER_FORMATS", "PromptArgs", "prompt_texts", "render_completion", "render_messages", "template_hash"]
