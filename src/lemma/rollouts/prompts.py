"""Decides what is encoded of a problem that completions will be drawn for: its prompt, and nothing of its solution."""

from collections.abc import Sequence

from lemma.encoding import ChatEncoder, Example
from lemma.types import Problem


class PromptEncoder(ChatEncoder):
    """Encodes problems as prompts; the completion of each example is the stop token alone.

    Args:
        encoder: Whose prompts these are.
    """

    noun = "prompts"
    legend = ""

    def __init__(self, encoder: ChatEncoder) -> None:
        super().__init__(encoder.tokenizer, encoder.prompt, encoder.shots)

    def encode_all(self, problems: Sequence[Problem], *, weight: float = 1.0) -> list[Example]:
        """Return the examples of many problems, tokenised together.

        Args:
            problems: With a question.
            weight: As in ``Example``.
        """
        prompts = self.encode_prompts([problem.problem for problem in problems])
        return [
            Example(problem.id, problem.source, ids, [[self.stop_id]], weight)
            for problem, ids in zip(problems, prompts, strict=True)
        ]

    @property
    def fingerprint(self) -> str:
        """Return a hash of all that decides the ids; another than the encoder's, for these examples are others."""
        return f"prompts/{super().fingerprint}"

    def describe(self, example: Example) -> str:
        """Return the prompt decoded."""
        return self.tokenizer.decode(example.prompt_ids)
