"""What draws completions: an engine is the model at hand, or servers, and who asks need not know which."""

import ctypes
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from lemma.generation.draw import Drawing, Sample
from lemma.generation.local import sample_groups
from lemma.policy import Policy


@dataclass(frozen=True, slots=True)
class Request:
    """One completion that is wanted."""

    prompt_ids: list[int]
    """At least one token."""
    seed: int | None
    """Of the completion's random stream; None for a greedy one."""
    messages: Sequence[dict[str, str]] = ()
    """The same prompt as a chat, for servers that take no tokens; may be empty where none is asked."""


class Engine(Protocol):
    """Draws completions of a policy."""

    def refresh(self, policy: Policy) -> None:
        """Draw from the policy as it is now; a collective call, before the first ``draw`` and after each update."""

    def draw(self, requests: Sequence[Request], drawing: Drawing) -> Iterator[tuple[int, Sample]]:
        """Yield (number of the request, its completion) as they are finished, each request once.

        Args:
            requests: Those of one prompt stand together.
            drawing: How all of them are drawn.
        """

    def rest(self) -> None:
        """Draw no more before the next ``refresh``; a collective call, after every rank's last ``draw``."""

    def interrupt(self, signum: int) -> None:
        """End a wait for others by an error, where there is one; for signal handlers."""

    def close(self) -> None:
        """Give back what the engine holds."""


class LocalEngine:
    """Draws by the model at hand.

    Args:
        in_step: As for ``sample_groups``; ``draw`` is then a collective call, also without requests.
    """

    def __init__(self, *, in_step: bool = False) -> None:
        self._in_step = in_step
        self._policy: nn.Module | None = None

    def refresh(self, policy: Policy) -> None:
        """Draw from this policy; its weights are read when completions are drawn."""
        self._policy = policy

    def draw(self, requests: Sequence[Request], drawing: Drawing) -> Iterator[tuple[int, Sample]]:
        """Yield all completions when the last is finished; see ``Engine``."""
        groups = [list(group) for _, group in itertools.groupby(requests, key=lambda each: each.prompt_ids)]
        samples = sample_groups(
            self._policy,
            [group[0].prompt_ids for group in groups],
            [[each.seed for each in group] for group in groups],
            stop_ids=drawing.stop_ids,
            pad_id=drawing.pad_id,
            max_new_tokens=drawing.max_new_tokens,
            temperature=drawing.temperature,
            top_p=drawing.top_p,
            max_batch_tokens=drawing.max_batch_tokens,
            merge=drawing.merge,
            in_step=self._in_step,
        )
        yield from enumerate(itertools.chain.from_iterable(samples))

    def rest(self) -> None:
        """Give memory that was freed back to the system, where libc can: the trainer takes it in other sizes."""
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # glibc's
        if trim is not None:
            trim(0)

    def interrupt(self, signum: int) -> None:
        """Do nothing: nobody is waited for."""

    def close(self) -> None:
        """Let go of the policy."""
        self._policy = None
