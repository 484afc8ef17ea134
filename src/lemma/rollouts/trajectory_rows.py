"""Decides what a row of trajectories must say to be believed, and what a bandit learns from it."""

from typing import Any

from lemma.evaluation import Record
from lemma.rewards.coherence import CoherenceArgs
from lemma.types import InputError, Verdict


def checked_row(row: Any) -> dict[str, Any] | None:
    """Return a row that says what it must; None for one that a crash of the machine has spoilt.

    Args:
        row: As ``TrajectorySource.rows`` yields it, from a file.
    """
    try:
        size = len(Record.from_json(row, row["place"]).completions)
        return row if all(len(row[name]) == size for name in ("arms", "rewards", "scores")) else None
    except (InputError, KeyError, TypeError):
        return None


def earned(row: dict[str, Any], reward: str, coherence: CoherenceArgs) -> list[float]:
    """Return what a bandit learns from a row, a number in [0, 1] for each trajectory.

    Args:
        row: As ``TrajectorySource.rows`` yields it.
        reward: correct, or total: rewards scaled from the least to the most that there can be.
        coherence: Whose weights bound the rewards.
    """
    if reward == "correct":
        return [float(verdict == Verdict.CORRECT) for verdict in row["verdicts"]]
    span = coherence.alpha + coherence.beta + coherence.length_cost
    return [(value + coherence.length_cost) / span for value in row["rewards"]]
