"""Decides what the policy is asked: chat messages from a problem, a template, a system prompt and an answer format."""

import functools
import hashlib
import importlib.resources
import json
from dataclasses import asdict, dataclass

import yaml

from lemma.prompts.formats import ANSWER_FORMATS
from lemma.types import InputError, Problem


@dataclass(frozen=True)
class PromptArgs:
    """How problems are put to the policy; one object serves fit and validate."""

    template: str = "basic"
    """Name of the user message's template: bare, basic, step_by_step, structured or detailed_reasoning."""
    system: str = "none"
    """Name of the system prompt: none, tutor, expert, five_steps or tags."""
    answer_format: str = "boxed"
    r"""How the answer is written: boxed (\boxed{42}), gsm8k (#### 42) or tags (<answer>42</answer>)."""

    def __post_init__(self) -> None:
        """Refuse names that do not exist.

        Raises:
            InputError: If a name is unknown; the message lists the known ones.
        """
        texts = prompt_texts()
        for key, value, known in (
            ("template", self.template, texts["templates"]),
            ("system", self.system, texts["systems"]),
            ("answer_format", self.answer_format, ANSWER_FORMATS),
        ):
            if value not in known:
                raise InputError(f"data.prompt.{key}: expected one of {', '.join(known)}, but got {value!r}.")


@functools.cache
def prompt_texts() -> dict[str, dict[str, str | None]]:
    """Return the shipped texts: ``templates``, ``systems`` and ``instructions``, each by name."""
    return yaml.safe_load(importlib.resources.files("lemma.prompts").joinpath("templates.yaml").read_text("utf-8"))


def render_messages(problem: str, prompt: PromptArgs) -> list[dict[str, str]]:
    """Return the chat messages that ask for a problem's solution, without the assistant's turn.

    Args:
        problem: Text of the problem.
        prompt: Names of template, system prompt and answer format.
    """
    texts = prompt_texts()
    user = texts["templates"][prompt.template]
    user = user.replace("{instruction}", texts["instructions"][prompt.answer_format]).replace("{problem}", problem)
    system = texts["systems"][prompt.system]
    messages = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": user}]


def render_completion(problem: Problem, prompt: PromptArgs) -> str:
    """Return the completion that a policy is trained to give.

    Args:
        problem: With an answer, a solution or both. A missing solution leaves the answer alone; without an answer the
            solution stands as it is, in no answer format.
        prompt: Names the answer format.

    Raises:
        InputError: If the problem has neither.
    """
    if problem.answer is None:
        if problem.solution is None:
            raise InputError(f"{problem.source}, problem {problem.id}: no answer and no solution to train on.")
        return problem.solution
    return ANSWER_FORMATS[prompt.answer_format](problem.solution or "", problem.answer)


def template_hash(prompt: PromptArgs, chat_template: str) -> str:
    """Return a 16-digit hash of every text that decides how a prompt and a completion are written."""
    rendered = render_messages("{problem}", prompt)
    payload = json.dumps([asdict(prompt), rendered, chat_template], sort_keys=True)
    return hashlib.sha256(payload.encode()).hexdigest()[:16]
