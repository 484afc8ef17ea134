"""Decides what the policy is asked: chat messages from a problem, a template, examples and a system prompt."""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lemma.prompts.formats import ANSWER_FORMATS
from lemma.prompts.texts import prompt_texts
from lemma.types import InputError, Problem

MAX_SHOTS = 8


@dataclass(frozen=True)
class PromptArgs:
    """How problems are put to the policy; one object serves fit and validate."""

    template: str = "basic"
    """Name of the user message's template: bare, basic, step_by_step, structured, detailed_reasoning, few_shot, expert,
    five_steps, competition, equations_first, backwards, estimate_first, state_rules, premises, solve_twice, or one of
    ``file``."""
    system: str = "none"
    """Name of the system prompt: none, tutor, expert, five_steps, tags, or one of ``file``."""
    answer_format: str = "boxed"
    r"""How the answer is written: boxed (\boxed{42}), gsm8k (#### 42) or tags (<answer>42</answer>)."""
    persona: str | None = None
    """One line that says who answers, put before the system prompt; alone it is the system prompt."""
    shots: int = 0
    """Worked examples before the problem, as turns of the chat, 0 to 8; few_shot needs at least 1."""
    categories: list[str] | None = None
    """Categories of the examples, in turn: algebra, arithmetic, combinatorics, geometry, number_theory, or of ``file``;
    null takes all."""
    file: str | None = None
    """YAML file of your own templates, systems, instructions and shots, over the shipped ones; see the README."""

    def __post_init__(self) -> None:
        """Refuse what does not exist or does not go together.

        Raises:
            InputError: If a name is unknown (the message lists the known ones), the persona is not one line, the
                categories have fewer examples than ``shots``, or the file is wrong.
        """
        texts = self.texts
        for key, value, known in (
            ("template", self.template, texts["templates"]),
            ("system", self.system, texts["systems"]),
            ("answer_format", self.answer_format, ANSWER_FORMATS),
            *(("categories", category, texts["shots"]) for category in self.categories or ()),
        ):
            if value not in known:
                raise InputError(f"data.prompt.{key}: expected one of {', '.join(known)}, but got {value!r}.")
        if self.persona is not None and len(self.persona.strip().splitlines()) != 1:
            raise InputError(f"data.prompt.persona: expected one line, but got {self.persona!r}.")
        if self.categories is not None and not 0 < len(set(self.categories)) == len(self.categories):
            raise InputError(
                f"data.prompt.categories: expected null or different categories, but got {self.categories}."
            )
        if not 0 <= self.shots <= MAX_SHOTS:
            raise InputError(f"data.prompt.shots: expected 0 to {MAX_SHOTS}, but got {self.shots}.")
        if self.template == "few_shot" and not self.shots:
            raise InputError("data.prompt.shots: expected 1 to 8 with the template few_shot, but got 0.")
        choose_shots(self)

    @functools.cached_property
    def texts(self) -> dict[str, dict[str, Any]]:
        """Return the texts by section and name, as they stood when this object was made; see ``prompt_texts``."""
        return prompt_texts(self.file)


def choose_shots(prompt: PromptArgs, tested: Callable[[str], bool] = lambda problem: False) -> list[Problem]:
    """Return the worked examples that stand before every problem, none of them evaluated.

    The first of each category, then the second of each, and so on, without those that are tested: the same ones in
    every run with the same prompt and the same benchmarks.

    Args:
        prompt: Says how many, and of which categories.
        tested: Whether a problem's text is that of an evaluated problem.

    Raises:
        InputError: If fewer than ``prompt.shots`` are left.
    """
    if not prompt.shots:
        return []
    shots = prompt.texts["shots"]
    categories = list(shots) if prompt.categories is None else prompt.categories
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*(shots[category] for category in categories)))
    examples = [example for example in in_turn if example is not None]
    chosen = list(itertools.islice((one for one in examples if not tested(one.problem)), prompt.shots))
    if len(chosen) < prompt.shots:
        evaluated = [example.id for example in examples if example not in chosen]
        why = f" {', '.join(evaluated)} are among the evaluated problems." if evaluated else ""
        raise InputError(
            f"data.prompt.shots: expected at most {len(chosen)}, which is what {', '.join(categories)} have, but got "
            f"{prompt.shots}.{why} Take other `categories`, or add examples in a `file`."
        )
    return chosen


def render_messages(problem: str, prompt: PromptArgs, shots: Sequence[Problem] | None = None) -> list[dict[str, str]]:
    """Return the chat messages that ask for a problem's solution, without the assistant's last turn.

    Examples are turns of the chat, each asked as the problem is and answered as a policy is trained to answer, so that
    they show the format to the token, stop token included, under every chat template.

    Args:
        problem: Text of the problem.
        prompt: Names of template, system prompt and answer format.
        shots: The worked examples, from ``choose_shots``; None takes the first ones, whatever is evaluated.
    """
    system = "\n".join(_system_lines(prompt))
    messages = [{"role": "system", "content": system}] if system else []
    for shot in choose_shots(prompt) if shots is None else shots:
        messages.append({"role": "user", "content": _user(shot.problem, prompt)})
        messages.append({"role": "assistant", "content": _shown(shot, prompt.answer_format)})
    return [*messages, {"role": "user", "content": _user(problem, prompt)}]


def _user(problem: str, prompt: PromptArgs) -> str:
    text = prompt.texts["templates"][prompt.template]
    return text.replace("{instruction}", prompt.texts["instructions"][prompt.answer_format]).replace(
        "{problem}", problem
    )


@functools.lru_cache(maxsize=256)  # the same few examples stand before every problem, and a format reads its text
def _shown(shot: Problem, answer_format: str) -> str:
    return ANSWER_FORMATS[answer_format](shot.solution or "", shot.answer or "")


def _system_lines(prompt: PromptArgs) -> Iterable[str]:
    if prompt.persona is not None:
        yield prompt.persona.strip()
    if system := prompt.texts["systems"][prompt.system]:
        yield system


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


def template_hash(prompt: PromptArgs, chat_template: str, shots: Sequence[Problem] | None = None) -> str:
    """Return a 16-digit hash of every text that decides how a prompt and a completion are written.

    Args:
        prompt: Its names, and the texts that they stand for, persona and user's file included.
        chat_template: The tokenizer's.
        shots: The worked examples; see ``render_messages``.
    """
    names = {"template": prompt.template, "system": prompt.system, "answer_format": prompt.answer_format}
    payload = json.dumps([names, render_messages("{problem}", prompt, shots), chat_template], sort_keys=True)
    return hashlib.sha256(payload.encode()).hexdigest()[:16]
