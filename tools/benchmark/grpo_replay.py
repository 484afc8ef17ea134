"""Lets ``lemma fit`` train on completions that the other side drew, so that both can be compared step by step."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from lemma.generation import Drawing, Request, Sample
from lemma.policy import Policy


class Replay(Callback):
    """Puts given completions in the place of those that the policy would draw; all else is as in any run.

    Args:
        path: A line a step: (prompt, completion) of all completions, in any order.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the engine's place."""
        pl_module.engine = ReplayEngine(self._path)


class ReplayEngine:
    """An ``Engine`` that knows what it will be asked, a line of its file for each call of ``draw``.

    Args:
        path: As for ``Replay``.
    """

    def __init__(self, path: Path) -> None:
        self._steps = map(json.loads, path.read_text().splitlines())

    def refresh(self, policy: Policy) -> None:
        """Do nothing: the completions are there."""

    def draw(self, requests: Sequence[Request], drawing: Drawing) -> Iterator[tuple[int, Sample]]:
        """Yield the completions of the step's prompts."""
        left = next(self._steps)
        for number, request in enumerate(requests):
            place = next(i for i, (prompt, _) in enumerate(left) if prompt == request.prompt_ids)
            _, ids = left.pop(place)
            # the log-probabilities are for a figure that is not logged
            yield number, Sample(ids, [0.0] * len(ids), stopped=False)

    def rest(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
