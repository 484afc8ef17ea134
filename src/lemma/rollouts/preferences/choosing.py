"""Decides which pairs the trajectories of one problem make.

1. What is cut off, unparseable, empty or timed out is on neither side, and equal completions count once
   (`lemma.corpora.pairing.sides_of`, which also shuffles both sides by a hash: that decides ties below).
2. ``correctness_first``: right ones, the most coherent first, go over wrong ones as they are shuffled: what is learnt
   to be good is the best there is, and what is learnt to be bad is what the policy does, not the worst of it. No
   completion is used twice more than another of its side (`lemma.corpora.pairing.crossed`).
3. Then, among the right ones, the most coherent goes over the least coherent, the second over the last but one, and so
   on inwards while the margin holds: the widest gaps first, and no completion is on both sides.
4. ``correctness_only`` is rule 2 with the right ones as they are shuffled, so that coherence has no part in it.
5. ``reward`` is rule 3 over all completions, right and wrong, by reward. A pair is about correctness where a
   right one is chosen over a wrong one, else about coherence.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lemma.corpora.pairing import RIGHT, WRONG, crossed, sides_of
from lemma.rollouts.preferences.args import COHERENCE, CORRECTNESS, PairingArgs
from lemma.rollouts.preferences.candidates import Candidate

_TOLERANCE = 2e-6  # files hold six decimals, and 0.6 - 0.5 is a margin of 0.1


class Pair(NamedTuple):
    """Two trajectories of a problem.

    Attributes:
        pair_type: ``correctness`` or ``coherence``.
        chosen: The better one.
        rejected: The other.
    """

    pair_type: str
    chosen: Candidate
    rejected: Candidate


class Choice(NamedTuple):
    """What the trajectories of a problem give.

    Attributes:
        pairs: In order, those of rule 2 before those of rule 3.
        outcome: Whether there are both right and wrong ones, as of `lemma.corpora.pairing.Pairing`.
        unused: Number of completions on neither side, by why.
    """

    pairs: list[Pair]
    outcome: str
    unused: Mapping[str, int]


def choose_pairs(name: str, candidates: Sequence[Candidate], args: PairingArgs) -> Choice:
    """Return the pairs of a problem.

    Args:
        name: Which problem it is; decides what is shuffled how.
        candidates: All of its trajectories.
        args: How many pairs of which kind.
    """
    sides = sides_of(name, ((each.text, each.grade) for each in candidates))
    first = {(each.text, each.grade): each for each in reversed(candidates)}
    right = [first[text, RIGHT] for text in sides.right]
    wrong = [first[text, WRONG] for text in sides.wrong]
    return Choice(_ORDERS[args.order](right, wrong, args), sides.outcome, sides.unused)


_Side = Sequence[Candidate]


def _correctness_first(right: _Side, wrong: _Side, args: PairingArgs) -> list[Pair]:
    clearest = sorted(right, key=lambda each: -1.0 if each.coherence is None else each.coherence, reverse=True)
    over_wrong = crossed(clearest, wrong, args.pairs_per_problem - args.num_coherence)
    known = [each for each in clearest if each.coherence is not None]
    clearer = _folded(known, lambda each: each.coherence, args.margin, args.num_coherence)
    return [Pair(CORRECTNESS, *pair) for pair in over_wrong] + [Pair(COHERENCE, *pair) for pair in clearer]


def _correctness_only(right: _Side, wrong: _Side, args: PairingArgs) -> list[Pair]:
    return [Pair(CORRECTNESS, *pair) for pair in crossed(right, wrong, args.pairs_per_problem)]


def _reward(right: _Side, wrong: _Side, args: PairingArgs) -> list[Pair]:
    pairs = _folded([*right, *wrong], lambda each: each.reward, args.reward_margin, args.pairs_per_problem)
    return [
        Pair(CORRECTNESS if (chosen.grade, rejected.grade) == (RIGHT, WRONG) else COHERENCE, chosen, rejected)
        for chosen, rejected in pairs
    ]


_ORDERS: dict[str, Callable[[_Side, _Side, PairingArgs], list[Pair]]] = {
    "correctness_first": _correctness_first,
    "correctness_only": _correctness_only,
    "reward": _reward,
}


def _folded(
    candidates: _Side, value: Callable[[Candidate], float], margin: float, most: int
) -> list[tuple[Candidate, Candidate]]:
    """Return the highest over the lowest and so on inwards, at most so many pairs, each at least ``margin`` apart."""
    ranked = sorted(candidates, key=value, reverse=True)
    pairs = [(ranked[k], ranked[-1 - k]) for k in range(min(most, len(ranked) // 2))]
    return [(high, low) for high, low in pairs if value(high) - value(low) >= margin - _TOLERANCE]
