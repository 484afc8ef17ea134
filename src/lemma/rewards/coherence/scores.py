r"""Decides how coherent a trajectory is with the others of its problem: s_end, s_path, s_cf, their mean, the reward.

Every score is in [0, 1], higher is better, or None where nothing can be said. No score looks at the gold answer.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from lemma.rewards.coherence.equations import Path
from lemma.types import Verdict


def s_end(
    classes: Sequence[int], arms: Sequence[str], arm_weights: Mapping[str, float] | None = None
) -> list[float | None]:
    r"""Return how much of the other trajectories' weight is on each trajectory's answer.

    .. math:: s_i = \frac{\sum_{j \ne i} w_j\,[c_j = c_i]}{\sum_{j \ne i} w_j}

    The trajectory itself does not vote: a lone opinion gets 0, not 1/N. One without an answer agrees with nobody (0),
    and counts among the others, who did not agree with it either. Undefined for a single trajectory.

    Args:
        classes: N classes of equal answers, as by ``Grader.group``; -1 is no answer.
        arms: N arms.
        arm_weights: Weight w of an arm's vote, above 0; 1 for an arm that is not there.

    Returns:
        N scores.

    Raises:
        ValueError: If the lengths differ.
    """
    if len(classes) < 2:
        return [None] * len(classes)
    weights = [(arm_weights or {}).get(arm, 1.0) for arm in arms]
    votes = list(zip(classes, weights, strict=True))
    scores: list[float | None] = []
    for i, label in enumerate(classes):
        others = votes[:i] + votes[i + 1 :]
        agreeing = math.fsum(weight for other, weight in others if other == label) if label >= 0 else 0.0
        scores.append(agreeing / math.fsum(weight for _, weight in others))
    return scores


def agreement(paths: Sequence[Path], classes: Sequence[int]) -> list[float | None]:
    r"""Return how far each trajectory calculates what the others with its answer calculate.

    .. math:: a_i = \frac{1}{|O_i|} \sum_{j \in O_i} \frac{\sum_x \min(m_i(x), m_j(x))}{\sum_x \max(m_i(x), m_j(x))}

    where m counts results and equations (`Path.items`) and O are the others of the same class that calculate anything:
    the mean Jaccard index of multisets. It is 0 where no other has this answer: were it undefined there, a trajectory
    that stands alone would be compared with the others by its truth alone, and come out above them. Undefined for a
    single trajectory, for one that calculates nothing, and where O is empty although others have the answer.

    Args:
        paths: N paths.
        classes: As in ``s_end``.

    Returns:
        N scores.

    Raises:
        ValueError: If the lengths differ.
    """
    items = [path.items for path in paths]
    scores: list[float | None] = []
    for i, (label, mine) in enumerate(zip(classes, items, strict=True)):
        peers = [other for j, other in enumerate(items) if j != i and classes[j] == label and label >= 0]
        shares = [_jaccard(mine, other) for other in peers if mine and other]
        if len(items) < 2 or not mine or (peers and not shares):
            scores.append(None)
        else:
            scores.append(math.fsum(shares) / len(shares) if shares else 0.0)
    return scores


def truth(path: Path) -> float | None:
    """Return the share of a path's equations that are true; None if none can be said to be true or false."""
    known = [equation.holds for equation in path.equations if equation.holds is not None]
    return sum(known) / len(known) if known else None


def s_path(agreed: float | None, true: float | None, *, agreement_share: float = 0.5) -> float | None:
    r"""Return :math:`\gamma a + (1 - \gamma) t` of agreement a and truth t; one alone where the other is undefined.

    Args:
        agreed: Of ``agreement``.
        true: Of ``truth``.
        agreement_share: :math:`\gamma`, between 0 and 1.
    """
    return weighted_mean([agreed, true], [agreement_share, 1 - agreement_share])


def s_cf(verdicts: Sequence[Verdict]) -> float | None:
    """Return the share of variants whose answer is as it must be; None without any.

    Args:
        verdicts: One for each variant, see ``variant_verdicts``; those that ran out of time are left out.
    """
    known = [verdict is Verdict.CORRECT for verdict in verdicts if verdict is not Verdict.TIMEOUT]
    return sum(known) / len(known) if known else None


def weighted_mean(scores: Sequence[float | None], weights: Sequence[float]) -> float | None:
    r"""Return :math:`\sum_k w_k s_k / \sum_k w_k` over the scores that are defined; None if their weight is 0.

    Args:
        scores: K scores.
        weights: K weights of at least 0.

    Raises:
        ValueError: If the lengths differ.
    """
    given = [(score, weight) for score, weight in zip(scores, weights, strict=True) if score is not None and weight]
    if not given:
        return None
    mean = sum(score * weight for score, weight in given) / sum(weight for _, weight in given)
    return min(max(mean, min(score for score, _ in given)), max(score for score, _ in given))  # rounding may pass them


def coherence_reward(
    correct: bool, coherence: float | None, num_tokens: int, max_length: int, *, alpha: float, beta: float,
    length_cost: float,
) -> float:  # fmt: skip
    r"""Return the reward of a trajectory.

    .. math:: R = \alpha\,[\text{correct}] + \beta\,s_{wm} - \lambda \min(t / L, 1)

    Args:
        correct: Whether the answer is right.
        coherence: The weighted mean; None earns nothing.
        num_tokens: Length t in tokens.
        max_length: Longest length L in tokens, at least 1.
        alpha: See ``CoherenceArgs``.
        beta: See ``CoherenceArgs``.
        length_cost: :math:`\lambda`.

    Raises:
        ValueError: If ``max_length < 1`` or ``num_tokens < 0``.
    """
    if max_length < 1 or num_tokens < 0:
        raise ValueError(f"Expected `max_length` >= 1 and `num_tokens` >= 0, but got {max_length} and {num_tokens}.")
    return alpha * correct + beta * (coherence or 0.0) - length_cost * min(num_tokens / max_length, 1.0)


def _jaccard(one: Counter[str], other: Counter[str]) -> float:
    shared = sum(min(count, other[item]) for item, count in one.items() if item in other)
    return shared / (one.total() + other.total() - shared)
