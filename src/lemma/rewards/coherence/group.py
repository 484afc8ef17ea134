"""Decides the coherence of every trajectory of a problem, from texts and classes of answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from lemma.rewards.coherence.args import CoherenceArgs
from lemma.rewards.coherence.equations import read_path
from lemma.rewards.coherence.scores import agreement, s_cf, s_end, s_path, truth, weighted_mean
from lemma.types import Verdict


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A completion among those of its problem.

    Attributes:
        text: The completion.
        answer_class: Class of its answer within the problem, as by ``Grader.group``; -1 is no answer.
        arm: The strategy that it was asked to follow.
        counterfactual: What its arm's answers to variants of the problem are, see ``variant_verdicts``.
    """

    text: str
    answer_class: int
    arm: str = ""
    counterfactual: Sequence[Verdict] = ()


@dataclass(frozen=True, slots=True)
class Coherence:
    """The scores of a trajectory, each in [0, 1] or None where it is undefined.

    Attributes:
        end: ``s_end``.
        path: ``s_path``.
        agreement: Its first part.
        truth: Its second part.
        counterfactual: ``s_cf``.
        mean: s_wm, the weighted mean of ``end``, ``path`` and ``counterfactual``.
    """

    end: float | None
    path: float | None
    agreement: float | None
    truth: float | None
    counterfactual: float | None
    mean: float | None


def score_group(trajectories: Sequence[Trajectory], args: CoherenceArgs) -> list[Coherence]:
    """Return the coherence of each trajectory of one problem.

    The time is linear in the texts and quadratic in their number.

    Args:
        trajectories: All of the problem, in any order.
        args: Weights.
    """
    classes = [each.answer_class for each in trajectories]
    paths = [read_path(each.text) for each in trajectories]
    ends = s_end(classes, [each.arm for each in trajectories], args.arm_weights)
    scored = []
    for each, path, end, agreed in zip(trajectories, paths, ends, agreement(paths, classes), strict=True):
        true = truth(path)
        along = s_path(agreed, true, agreement_share=args.agreement_share)
        counterfactual = s_cf(each.counterfactual)
        mean = weighted_mean([end, along, counterfactual], [args.end, args.path, args.counterfactual])
        scored.append(Coherence(end, along, agreed, true, counterfactual, mean))
    return scored
