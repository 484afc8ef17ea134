"""Decides what is logged of pairs: rewards, margins, log-probabilities and lengths, of all and by source and kind."""

import torch
from torch import Tensor

from lemma.modules.resume import gather_objects
from lemma.objectives import PairLogps

FIGURES = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margin",
    "rewards/accuracy",
    "rewards/saturated",
    "logps/chosen",
    "logps/rejected",
    "log_ratio/chosen",
    "log_ratio/rejected",
    "length/chosen",
    "length/rejected",
    "loss",
)
"""Names of the means over pairs. Rewards and log-probabilities are of whole completions, in nats, log-ratios to the
reference of one token; accuracy is the share of pairs with a positive margin (half for none), saturated the share whose
margin is so large that the sigmoid loss gives them less than a hundredth of its steepest gradient."""

SATURATED = 4.6
"""Margin at which sigmoid(-margin) falls below 0.01."""


def figures_of(pairs: PairLogps, losses: Tensor, rewards: tuple[Tensor, Tensor]) -> Tensor:
    """Return (E, F) the figures of each pair, in the order of ``FIGURES``, without a gradient.

    Args:
        pairs: Log-probabilities and lengths.
        losses: (E,) of each pair.
        rewards: (E,) and (E,), of the chosen and the rejected side.
    """
    chosen, rejected = rewards
    margin = chosen - rejected
    columns = (
        chosen,
        rejected,
        margin,
        (margin.sign() + 1) / 2,
        margin > SATURATED,
        pairs.chosen,
        pairs.rejected,
        (pairs.chosen - pairs.ref_chosen) / pairs.chosen_length,
        (pairs.rejected - pairs.ref_rejected) / pairs.rejected_length,
        pairs.chosen_length,
        pairs.rejected_length,
        losses,
    )
    return torch.stack([column.detach().to(losses.dtype) for column in columns], dim=1)


class PairFigures:
    """Collects figures until they are asked for; they stay on their device, so that nothing waits for it.

    Args:
        compares: Whether there is a reference; without one there are no log-ratios to it.
    """

    def __init__(self, *, compares: bool = True) -> None:
        left_out = {"log_ratio/chosen", "log_ratio/rejected"} if not compares else set()
        self._named = [(number, name) for number, name in enumerate(FIGURES) if name not in left_out]
        self._rows: list[Tensor] = []  # (E, F + 1) each, the weight last
        self._labels: list[tuple[str, str]] = []

    def add(self, figures: Tensor, weights: Tensor, labels: list[tuple[str, str]]) -> None:
        """Add some pairs.

        Args:
            figures: (E, F).
            weights: (E,) of each pair; one of weight 0 only fills a turn.
            labels: (source, kind) of each pair.
        """
        self._rows.append(torch.cat([figures, weights[:, None].to(figures.dtype)], dim=1))
        self._labels += labels

    def means(self, prefix: str) -> dict[str, float]:
        """Return the means over all ranks' pairs since the last call, and forget them; a collective call.

        A pair counts by its weight. Where there are several kinds or sources, each has its own means under
        ``<prefix>/<source>/<kind>/``.

        Args:
            prefix: Of the tags, e.g. ``train``.
        """
        groups: dict[tuple[str, str], list[float]] = {}
        rows = torch.cat(self._rows).double().cpu() if self._rows else torch.zeros(0, len(FIGURES) + 1)
        weighted = torch.cat([rows[:, :-1] * rows[:, -1:], rows[:, -1:]], dim=1)  # (E, F + 1)
        for label in sorted(set(self._labels)):
            mine = torch.tensor([one == label for one in self._labels])
            groups[label] = weighted[mine].sum(0).tolist()
        self._rows, self._labels = [], []
        merged: dict[tuple[str, str], Tensor] = {}
        for group in gather_objects(groups):
            for label, sums in group.items():
                merged[label] = merged.get(label, 0.0) + torch.tensor(sums, dtype=torch.float64)
        merged = {label: sums for label, sums in sorted(merged.items()) if sums[-1] > 0}
        if not merged:
            return {}
        parts = {prefix: sum(merged.values())}
        if len(merged) > 1:
            parts |= {f"{prefix}/{source}/{kind}": sums for (source, kind), sums in merged.items()}
        return {
            f"{part}/{name}": float(sums[number] / sums[-1])
            for part, sums in parts.items()
            for number, name in self._named
            if name != "loss" or part != prefix  # PolicyModule logs that of all
        }
