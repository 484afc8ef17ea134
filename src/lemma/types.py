"""The nouns that every package shares. Standard library only."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Problem:
    """A mathematics problem, whatever corpus it came from.

    Attributes:
        id: Unique within its source and stable between runs, e.g. ``train/algebra/17``.
        source: Name of the corpus; metrics are reported by it.
        problem: The question, as plain text or LaTeX.
        solution: Worked solution, or None.
        answer: Gold answer without a marker (no ``\\boxed{}``, no ``####``), or None.
        level: Difficulty, 1 is easiest, or None where the corpus has none.
        subject: Topic, e.g. ``algebra``, or None.
    """

    id: str
    source: str
    problem: str
    solution: str | None = None
    answer: str | None = None
    level: int | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """Two completions of one prompt, of which one is better.

    Attributes:
        id: Unique within its source and stable between runs.
        source: Name of the corpus.
        messages: The chat before the completions, as (role, content) pairs; the last one is the user's.
        chosen: The better completion, as plain text.
        rejected: The worse one, another text.
        form: ``plain`` where the prompt is a bare problem, one user's message that the run's own prompt template is
            still to dress; ``chat`` where the messages are to be rendered as they are.
        kind: What makes one better than the other, for reports: ``given`` where the data does not say,
            ``right_over_wrong`` by verdict.
        level: Difficulty of the problem, 1 is easiest, or None.
        subject: Topic of the problem, or None.
    """

    id: str
    source: str
    messages: tuple[tuple[str, str], ...]
    chosen: str
    rejected: str
    form: str = "plain"
    kind: str = "given"
    level: int | None = None
    subject: str | None = None

    @property
    def prompt(self) -> str:
        """Return the last message, the user's: what says which problem this is."""
        return self.messages[-1][1]


@dataclass(frozen=True, slots=True)
class Completion:
    """One text that a policy generated for a problem.

    Attributes:
        problem_id: The problem's ``id``.
        source: The problem's ``source``.
        sample: Index among the completions of the problem, from 0; ``GREEDY`` (-1) for the greedy one.
        text: The decoded completion, without the stop token.
        num_tokens: Generated tokens, the stop token included.
        stopped: True if a stop token ended it, False if the length limit cut it.
    """

    problem_id: str
    source: str
    sample: int
    text: str
    num_tokens: int
    stopped: bool


GREEDY = -1


class Verdict(StrEnum):
    """What the grader says of one completion."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSEABLE = "unparseable"
    TIMEOUT = "timeout"


class InputError(ValueError):
    """Bad input from the user: a file, a row, a configuration value.

    The message names the file, the line, the key and the value wherever they exist. The command line prints it
    without a traceback.
    """
