"""Turns problems and pairs into token ids: the prompt as the policy will see it, and what it should give."""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers import __version__ as transformers_version

from lemma.encoding.tokenizer import stop_token_id
from lemma.prompts import PromptArgs, choose_shots, render_completion, render_messages, template_hash
from lemma.types import InputError, Preference, Problem


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and its completions, as token ids.

    Attributes:
        problem_id: The problem's ``id``.
        source: The problem's ``source``.
        prompt_ids: Ids of the rendered chat up to and including the generation prompt.
        completions: 1..n completions; each ends with the stop token unless it was truncated.
        weight: Weight of each completion token in the loss, or of the pair.
        answer_cut: True if truncation removed the end of a completion, where the answer stands.
        kind: What makes the completions differ, as in ``Preference.kind``; empty where there is one.
    """

    problem_id: str
    source: str
    prompt_ids: list[int]
    completions: list[list[int]] = field(default_factory=list)
    weight: float = 1.0
    answer_cut: bool = False
    kind: str = ""

    @property
    def is_pair(self) -> bool:
        """Return whether the completions are a chosen and a rejected one."""
        return bool(self.kind)

    @property
    def completion_weight(self) -> float:
        """Return weight x completion tokens: this example's part of a window's normaliser."""
        return self.weight * sum(map(len, self.completions))


class ChatEncoder:
    """Encodes problems and pairs for one tokenizer and one prompt; the same object serves training and generation.

    Training ids are ids(rendered generation prompt) + ids(completion) + stop token, tokenised apart, so that what the
    policy is trained to continue is to the token what it will be given. A problem without a question is plain text: no
    chat, but the document between the tokens that begin and end one.

    Args:
        tokenizer: With a chat template and an eos token.
        prompt: Names of template, system prompt and answer format.
        shots: Worked examples put before every problem; None takes those that the prompt asks for.

    Attributes:
        noun: What the examples are in a table of their counts.
        legend: What `describe` marks.
    """

    noun = "rows"
    legend = ", the tokens that count in the loss between « and »"

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prompt: PromptArgs, shots: Sequence[Problem] | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.stop_id = stop_token_id(tokenizer)
        self.pad_id = tokenizer.pad_token_id
        self.shots = choose_shots(prompt) if shots is None else list(shots)
        self.template_hash = template_hash(prompt, tokenizer.chat_template, self.shots)
        self._bos = tokenizer.bos_token_id if _adds_bos(tokenizer) else None

    @property
    def stop_ids(self) -> list[int]:
        """Return the ids that end a generation: the turn's stop token and the tokenizer's eos."""
        return sorted({self.stop_id, self.tokenizer.eos_token_id})

    def encode_prompt(self, problem: str) -> list[int]:
        """Return the ids of the chat that asks a problem, generation prompt included, with exactly one BOS if any.

        Raises:
            InputError: If the chat template refuses the messages (some have no system role).
        """
        return self.encode_prompts([problem])[0]

    def encode_prompts(self, problems: Sequence[str]) -> list[list[int]]:
        """Return the ids of many prompts, tokenised together; see ``encode_prompt``."""
        return self._tokenise([self._render(self.messages(problem)) for problem in problems])

    def messages(self, problem: str) -> list[dict[str, str]]:
        """Return the chat that asks a problem, without the assistant's last turn."""
        return render_messages(problem, self.prompt, self.shots)

    def _render(self, messages: Sequence[dict[str, str]], preference: Preference | None = None) -> str:
        """Return the text of a chat with the generation prompt; an error names the pair that it is of, if any."""
        try:
            return self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            of_pair = "" if preference is None else f"{preference.source}, pair {preference.id}: "
            own = preference is not None and preference.form == "chat"
            raise InputError(
                f"{of_pair}The chat template refuses the roles {roles}: {error}. "
                + ("They are the pair's own." if own else "Is a system prompt or a persona set?")
            ) from error

    def _tokenise(self, chats: Sequence[str]) -> list[list[int]]:
        """Return the ids of rendered chats, each with exactly one BOS if any."""
        if not chats:
            return []
        encoded = self.tokenizer(list(chats), add_special_tokens=False, verbose=False)["input_ids"]
        return [[self._bos, *ids] if self._bos is not None and ids[0] != self._bos else ids for ids in encoded]

    def _tokenise_as_text(self, texts: Sequence[str]) -> list[list[int]]:
        """Return ids of which none is special: text that spells </s> or <|im_end|> would teach to stop there."""
        if not texts:
            return []
        options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        return self.tokenizer(list(texts), **options)["input_ids"]

    def encode(self, problem: Problem, *, weight: float = 1.0) -> Example:
        """Return the example of a problem and its worked solution, or of a plain text.

        Args:
            problem: With an answer or a solution; without a question it is plain text.
            weight: Weight of each completion token in the loss.

        Raises:
            InputError: If the problem has neither answer nor solution.
        """
        return self.encode_all([problem], weight=weight)[0]

    def encode_all(self, problems: Sequence[Problem], *, weight: float = 1.0) -> list[Example]:
        """Return the examples of many problems, tokenised together; see ``encode``."""
        completions = self._tokenise_as_text([render_completion(problem, self.prompt) for problem in problems])
        asked = [problem for problem in problems if problem.problem]
        prompts = iter(self.encode_prompts([problem.problem for problem in asked]))
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return [
            Example(problem.id, problem.source, next(prompts), [[*ids, self.stop_id]], weight)
            if problem.problem
            else Example(problem.id, problem.source, [eos if bos is None else bos], [[*ids, eos]], weight)
            for problem, ids in zip(problems, completions, strict=True)
        ]

    def encode_pairs(self, preferences: Sequence[Preference]) -> list[Example]:
        """Return the examples of pairs, tokenised together; their completions are the chosen and the rejected one.

        A plain prompt is dressed as a problem is, by the run's template, system prompt and worked examples. The
        messages of a chat are rendered as they are.

        Raises:
            InputError: If the chat template refuses a chat's roles; names the pair.
        """
        prompts = self._tokenise([self._render(self._messages_of(each), each) for each in preferences])
        texts = [text for each in preferences for text in (each.chosen, each.rejected)]
        completions = [[*ids, self.stop_id] for ids in self._tokenise_as_text(texts)]
        return [
            Example(each.id, each.source, prompt_ids, completions[2 * i : 2 * i + 2], kind=each.kind)
            for i, (each, prompt_ids) in enumerate(zip(preferences, prompts, strict=True))
        ]

    def _messages_of(self, preference: Preference) -> list[dict[str, str]]:
        if preference.form == "plain":
            return self.messages(preference.prompt)
        return [{"role": role, "content": content} for role, content in preference.messages]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Return a hash of all that decides the ids: tokenizer, chat template, prompt."""
        tokenizer = self.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        spelled = sorted(tokenizer.get_vocab().items()) if backend is None else backend.to_str()
        special = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, self.stop_id, self._bos]
        payload = json.dumps([type(tokenizer).__name__, transformers_version, spelled, special, self.template_hash])
        return hashlib.sha256(payload.encode()).hexdigest()

    def decode(self, ids: list[int]) -> str:
        """Return the text of generated ids without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def describe(self, example: Example) -> str:
        """Return an example decoded, the tokens that count in the loss between « and »; of a pair, which is which."""
        prompt, *completions = (self.tokenizer.decode(ids) for ids in (example.prompt_ids, *example.completions))
        if not example.is_pair:
            return prompt + "".join(f"«{completion}»" for completion in completions)
        sides = zip(("chosen", "rejected"), completions, strict=True)
        return f"{prompt}\n" + "\n".join(f"{side} ({example.kind}): «{completion}»" for side, completion in sides)


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    ids = tokenizer("0")["input_ids"]
    return tokenizer.bos_token_id is not None and bool(ids) and ids[0] == tokenizer.bos_token_id
