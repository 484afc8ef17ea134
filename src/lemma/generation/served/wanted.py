"""What all completions of a draw have in common."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lemma.generation.draw import Drawing

if TYPE_CHECKING:
    from lemma.generation.served.transport import Transport


@dataclass(frozen=True)
class Wanted:
    """What is asked of every server in a draw."""

    model: str | None
    """Name to ask for; None is the base model."""
    drawing: Drawing
    """How the completions are drawn."""
    vocab_size: int
    """What token ids are below."""
    restore: "Callable[[Transport], Awaitable[None]] | None" = None
    """Gives the model to a server that has lost it, as one that was restarted; None where nobody can."""
