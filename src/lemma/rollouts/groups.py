"""What is kept of a problem and the completions that were drawn for it, in memory and in a checkpoint."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from lemma.generation import Sample
from lemma.types import Problem, Verdict


@dataclass(frozen=True)
class Group:
    """A problem and its completions.

    Attributes:
        problem: The problem.
        prompt_ids: Its prompt.
        samples: The completions in tokens, with the sampler's log-probabilities.
        texts: Their texts, without the stop token.
        verdicts: The grader's verdict on each.
        predictions: The answer extracted from each, or None.
        rewards: The K raw rewards of each; None is left out.
        index: Of the problem among the training examples.
        corpus: Number of its corpus there.
    """

    problem: Problem
    prompt_ids: list[int]
    samples: list[Sample]
    texts: list[str]
    verdicts: list[Verdict]
    predictions: list[str | None]
    rewards: list[list[float | None]]
    index: int
    corpus: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as tensors and primitives, which ``torch.load`` reads with ``weights_only``."""
        return {
            "problem": asdict(self.problem),
            "prompt_ids": torch.tensor(self.prompt_ids),
            "lengths": torch.tensor([len(sample.ids) for sample in self.samples]),
            "ids": torch.tensor([token for sample in self.samples for token in sample.ids]),
            "logps": torch.tensor([logp for sample in self.samples for logp in sample.logps], dtype=torch.float64),
            "stopped": torch.tensor([sample.stopped for sample in self.samples]),
            "texts": list(self.texts),
            "verdicts": [str(verdict) for verdict in self.verdicts],
            "predictions": list(self.predictions),
            "rewards": [list(row) for row in self.rewards],
            "index": self.index,
            "corpus": self.corpus,
        }

    @classmethod
    def load_state_dict(cls, state: dict[str, Any]) -> Self:
        """Return the group that ``state_dict`` was taken of."""
        lengths = state["lengths"].tolist()
        pieces = (part.split(lengths) for part in (state["ids"], state["logps"]))
        samples = [
            Sample(ids.tolist(), logps.tolist(), stopped)
            for ids, logps, stopped in zip(*pieces, state["stopped"].tolist(), strict=True)
        ]
        kept = ("texts", "predictions", "rewards", "index", "corpus")
        return cls(
            problem=Problem(**state["problem"]),
            prompt_ids=state["prompt_ids"].tolist(),
            samples=samples,
            verdicts=[Verdict(verdict) for verdict in state["verdicts"]],
            **{name: state[name] for name in kept},
        )


def reward_tensor(groups: Sequence[Group]) -> Tensor:
    """Return the raw rewards of all completions, group after group, (N, K) float64 with NaN for None.

    Args:
        groups: At least one.
    """
    rows = [row for group in groups for row in group.rewards]
    return torch.tensor([[torch.nan if value is None else value for value in row] for row in rows], dtype=torch.float64)
