"""Decides what is known of a problem's trajectories: what their row says, and scores and rewards where it is silent.

A row of ``trajectories.jsonl`` brings ``arms``, ``scores`` and ``rewards`` beside the columns of ``records.jsonl``. For
a row without ``scores`` they are computed from its completions and its ``votes``, which are classes of equal answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lemma.corpora.pairing import RIGHT, UNFINISHED, WRONG
from lemma.corpora.rows import checked_text, shown
from lemma.evaluation.records import Record
from lemma.rewards.coherence import CoherenceArgs, Trajectory, coherence_reward, score_group, weighted_mean
from lemma.rewards.options import is_count, is_number
from lemma.types import InputError, Problem, Verdict

Scores = Mapping[str, float | None]
"""``s_end``, ``s_path``, ``s_cf`` and their weighted mean ``s_wm``, each None where it is undefined."""

MEAN = "s_wm"
_SCORES = ("s_end", "s_path", "s_cf", MEAN)
_GRADES = {Verdict.CORRECT: RIGHT, Verdict.WRONG: WRONG}


@dataclass(frozen=True)
class Candidate:
    """A trajectory that may become a side of a pair.

    Attributes:
        text: The completion.
        grade: ``RIGHT``, ``WRONG`` or why it is on neither side.
        scores: Its coherence with the others of its problem.
        reward: What it earns.
        arm: The strategy that it was asked to follow, or None.
        num_tokens: Its length, or None where nobody counted.
    """

    text: str
    grade: str
    scores: Scores
    reward: float
    arm: str | None = None
    num_tokens: int | None = None

    @property
    def coherence(self) -> float | None:
        """Return ``s_wm``."""
        return self.scores[MEAN]


@dataclass(frozen=True)
class Scoring:
    """How scores and rewards are computed where they are.

    Attributes:
        coherence: Weights.
        max_length: Tokens that cost the whole ``length_cost``; None lets length cost nothing.
        again: Whether scores and rewards of the file are computed again; its ``s_cf``, which cannot be, stays.

    Raises:
        InputError: If ``max_length`` is below 1.
    """

    coherence: CoherenceArgs
    max_length: int | None = None
    again: bool = False

    def __post_init__(self) -> None:
        """Refuse a length that is none."""
        if self.max_length is not None and not is_count(self.max_length):
            raise InputError(f"max_length: expected null or a number of at least 1, but got {self.max_length!r}.")


def read_candidates(row: Any, scoring: Scoring) -> tuple[Problem, list[Candidate]]:
    """Return the problem of a row and its trajectories.

    Args:
        row: Of ``trajectories.jsonl`` or ``records.jsonl``.
        scoring: For what the row does not say.

    Raises:
        InputError: If the row is no record, or a list is not as long as it should be; names the key.
    """
    record = Record.from_json(row, 0)
    for key in ("source", "problem_id", "problem"):
        checked_text(row[key], key)
    for number, text in enumerate(record.completions):
        if text.strip():
            checked_text(text, f"completions[{number}]")
    size = len(record.completions)
    arms = _parallel(row, "arms", size, lambda value: isinstance(value, str)) or [None] * size
    known = _parallel(row, "scores", size, _are_scores)
    rewards = _parallel(row, "rewards", size, is_number)
    if known is None or scoring.again:
        counterfactual = [one["s_cf"] for one in known] if known else [None] * size
        known, rewards = _scored(record, arms, counterfactual, scoring.coherence), None
    verdicts = [grade.verdict for grade in record.grades]
    lengths = record.tokens_out or [None] * size
    if rewards is None:
        rewards = [_reward(*each, scoring) for each in zip(verdicts, known, lengths, strict=True)]
    stopped = record.stopped or [True] * size
    grades = [
        _GRADES.get(verdict, verdict.value) if whole else UNFINISHED
        for verdict, whole in zip(verdicts, stopped, strict=True)
    ]
    columns = (record.completions, grades, known, rewards, arms, lengths)
    return record.problem, [Candidate(*each) for each in zip(*columns, strict=True)]


def _scored(
    record: Record, arms: Sequence[str | None], counterfactual: Sequence[float | None], args: CoherenceArgs
) -> list[Scores]:
    """Return the scores of all trajectories of a record."""
    trajectories = [
        Trajectory(text, vote, arm or "")
        for text, vote, arm in zip(record.completions, record.votes, arms, strict=True)
    ]
    weights = (args.end, args.path, args.counterfactual)
    scored = []
    for one, s_cf in zip(score_group(trajectories, args), counterfactual, strict=True):
        known = (one.end, one.path, s_cf)
        scored.append(dict(zip(_SCORES, (*known, weighted_mean(known, weights)), strict=True)))
    return scored


def _reward(verdict: Verdict, scores: Scores, num_tokens: int | None, scoring: Scoring) -> float:
    args = scoring.coherence
    measured = scoring.max_length is not None and num_tokens is not None
    return coherence_reward(
        verdict is Verdict.CORRECT,
        scores[MEAN],
        num_tokens if measured else 0,
        scoring.max_length or 1,
        alpha=args.alpha,
        beta=args.beta,
        length_cost=args.length_cost,
    )


def _parallel(row: Mapping[str, Any], key: str, size: int, fits: Any) -> list[Any] | None:
    """Return a list of a row that has an entry for each completion, or None where there is none."""
    values = row.get(key)
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != size:
        raise InputError(f"`{key}`: expected {size} entries, one for each completion, but got {shown(values)}.")
    for value in values:
        if not fits(value):
            raise InputError(f"`{key}`: expected {_EXPECTED[key]}, but got {shown(value)}.")
    return values


_EXPECTED = {"arms": "texts", "scores": f"objects with {', '.join(_SCORES)}, numbers or null", "rewards": "numbers"}


def _are_scores(value: Any) -> bool:
    if not isinstance(value, dict) or not set(_SCORES) <= value.keys():
        return False
    return all(value[name] is None or is_number(value[name]) for name in _SCORES)
