"""Decides what an arm is: a strategy that a problem can be asked by, its prompt and how its completions are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lemma.prompts import PromptArgs
from lemma.types import InputError


@dataclass(frozen=True)
class ArmArgs:
    """A strategy; what it does not say is as in ``data.prompt``."""

    name: str
    """What records and figures call it."""
    template: str | None = None
    """Name of the user message's template."""
    system: str | None = None
    """Name of the system prompt."""
    persona: str | None = None
    """One line that says who answers."""
    shots: int | None = None
    """Worked examples before the problem, 0 to 8."""
    temperature: float = 1.0
    """Divides the logits; > 0."""
    top_p: float = 1.0
    """Keep the smallest set of tokens with this probability, in (0, 1]."""

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            InputError: Names the key, the rule and the value.
        """
        if not self.name or "/" in self.name:
            raise InputError(f"model.arms: expected names without '/', but got {self.name!r}.")
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"{self._key}.temperature: expected a number above 0, but got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"{self._key}.top_p: expected a number in (0, 1], but got {self.top_p}.")

    @property
    def _key(self) -> str:
        return f"model.arms.{self.name}"

    def prompt(self, common: PromptArgs) -> PromptArgs:
        """Return how the arm puts a problem.

        Args:
            common: ``data.prompt``.

        Raises:
            InputError: If a name is unknown, or the examples are too few.
        """
        own = {name: getattr(self, name) for name in ("template", "system", "persona", "shots")}
        try:
            return replace(common, **{name: value for name, value in own.items() if value is not None})
        except InputError as error:
            raise InputError(f"{self._key}: {error}") from error


def check_arms(arms: Sequence[ArmArgs]) -> None:
    """Refuse no arms, and two of one name.

    Raises:
        InputError: Names them.
    """
    names = [arm.name for arm in arms]
    if not names or len(set(names)) < len(names):
        raise InputError(f"model.arms: expected at least one, each with a name of its own, but got {names}.")
