r"""Preference losses: what a pair costs, by the log-probabilities of its two sides; a new loss is a row of the table.

Every loss takes sums of log-probabilities and lengths, and returns one number a pair. Where it averages over tokens, it
divides by the lengths itself, so that all losses share one forward pass and a weighted sum of several is a sum.

Below, :math:`w` is the chosen and :math:`l` the rejected side, :math:`\pi` is the policy's and :math:`\rho` the
reference's sum of log-probabilities, :math:`|y|` a length in tokens, :math:`r = \pi - \rho` the log-ratio,
:math:`m = r_w - r_l` the margin, and :math:`\bar m = r_w/|y_w| - r_l/|y_l|` the margin per token.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lemma.types import InputError


class PairLogps(NamedTuple):
    """Log-probabilities of E pairs, float32 or float64.

    Attributes:
        chosen: (E,) the policy's sums over the chosen completions' tokens, in nats.
        rejected: (E,) the same for the rejected completions.
        ref_chosen: (E,) the reference's for ``chosen``, no gradient; zeros where no loss needs a reference.
        ref_rejected: (E,) the reference's for ``rejected``, no gradient.
        chosen_length: (E,) tokens of the chosen completions, at least 1.
        rejected_length: (E,) tokens of the rejected completions, at least 1.
    """

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor
    ref_rejected: Tensor
    chosen_length: Tensor
    rejected_length: Tensor


class PairLoss(NamedTuple):
    """A row of ``DPO_LOSSES``.

    Attributes:
        function: From pairs and, by keyword, the tunables to (E,) losses.
        tunables: Names and defaults of what ``function`` takes beside the pairs.
        needs_reference: Whether ``function`` reads ``ref_chosen`` and ``ref_rejected``.
    """

    function: Callable[..., Tensor]
    tunables: dict[str, float]
    needs_reference: bool


def sigmoid_loss(pairs: PairLogps, *, beta: float, label_smoothing: float) -> Tensor:
    r"""Return the DPO loss of each pair (E,); with label smoothing, the conservative one (cDPO).

    .. math:: \ell = -(1 - \epsilon) \log\sigma(\beta m) - \epsilon \log\sigma(-\beta m)

    Args:
        pairs: Log-probabilities of E pairs.
        beta: Strength of the tie to the reference, > 0; a higher one keeps the policy closer.
        label_smoothing: :math:`\epsilon`, the probability in [0, 0.5) that a pair's sides are the wrong way round.

    Reference: Rafailov et al. 2023, arXiv:2305.18290; Mitchell 2023, "A note on DPO with noisy preferences and
    relationship to IPO" (ericmitchell.ai/cdpo.pdf).
    """
    logits = beta * _margin(pairs)
    return -(1 - label_smoothing) * F.logsigmoid(logits) - label_smoothing * F.logsigmoid(-logits)


def hinge_loss(pairs: PairLogps, *, beta: float) -> Tensor:
    r"""Return the hinge loss of each pair (E,): zero, and without gradient, from a margin of 1 / beta on.

    .. math:: \ell = \max(0, 1 - \beta m)

    Args:
        pairs: Log-probabilities of E pairs.
        beta: Inverse of the margin asked for, > 0.

    Reference: Liu et al. 2023, arXiv:2309.06657 (RSO, "hinge-norm"), after Zhao et al. 2023, arXiv:2305.10425 (SLiC).
    Departure from SLiC: the margin is relative to the reference, and there is no regularising likelihood term; ``sft``
    is one.
    """
    return torch.relu(1 - beta * _margin(pairs))


def ipo_loss(pairs: PairLogps, *, beta: float) -> Tensor:
    r"""Return the IPO loss of each pair (E,): the squared distance of the margin per token from 1 / (2 beta).

    .. math:: \ell = \left(\bar m - \frac{1}{2 \beta}\right)^2

    Args:
        pairs: Log-probabilities of E pairs.
        beta: :math:`\tau` of the paper, > 0.

    Reference: Azar et al. 2023, arXiv:2310.12036, equation 17. Departure: log-ratios are means over tokens, which the
    paper does not say and its authors confirmed; the original DPO code sums.
    """
    return (_margin_per_token(pairs) - 1 / (2 * beta)).square()


def robust_loss(pairs: PairLogps, *, beta: float, label_smoothing: float) -> Tensor:
    r"""Return the robust DPO loss of each pair (E,): in expectation over flipped labels, the loss without flips.

    .. math:: \ell = \frac{-(1 - \epsilon) \log\sigma(\beta m) + \epsilon \log\sigma(-\beta m)}{1 - 2 \epsilon}

    It is negative on large margins, and has no lower bound.

    Args:
        pairs: Log-probabilities of E pairs.
        beta: As in ``sigmoid_loss``, > 0.
        label_smoothing: :math:`\epsilon`, the share in [0, 0.5) of pairs whose sides are the wrong way round.

    Reference: Chowdhury et al. 2024, arXiv:2403.00409.
    """
    logits = beta * _margin(pairs)
    kept, flipped = -F.logsigmoid(logits), -F.logsigmoid(-logits)
    return ((1 - label_smoothing) * kept - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def simpo_loss(pairs: PairLogps, *, beta: float, gamma: float) -> Tensor:
    r"""Return the SimPO loss of each pair (E,), which needs no reference.

    .. math:: \ell = -\log\sigma\left(\beta \frac{\pi_w}{|y_w|} - \beta \frac{\pi_l}{|y_l|} - \gamma\right)

    Args:
        pairs: Log-probabilities of E pairs.
        beta: Scale of the mean log-probabilities, > 0; the paper takes 2 to 10.
        gamma: Margin of the scaled rewards, >= 0. It stands beside them as in the paper, not multiplied by beta: the
            authors' code has ``gamma_beta_ratio``, this gamma over beta.

    Reference: Meng et al. 2024, arXiv:2405.14734.
    """
    chosen, rejected = _means(pairs)
    return -F.logsigmoid(beta * (chosen - rejected) - gamma)


def orpo_loss(pairs: PairLogps, *, beta: float) -> Tensor:
    r"""Return the ORPO loss of each pair (E,), which needs no reference.

    .. math:: \ell = -\frac{\pi_w}{|y_w|} - \beta \log\sigma\left(\log\frac{p_w}{1 - p_w}
        - \log\frac{p_l}{1 - p_l}\right), \quad p = \exp(\pi / |y|)

    Args:
        pairs: Log-probabilities of E pairs.
        beta: :math:`\lambda` of the paper, the weight of the odds ratio beside the likelihood, > 0.

    Reference: Hong et al. 2024, arXiv:2403.07691. Departure: the odds are infinite at a mean probability of 1, and one
    within a rounding step of 1 counts as that step below it there, without a gradient. No prompt's token counts.
    """
    chosen, rejected = _means(pairs)
    return -chosen - beta * F.logsigmoid(_log_odds(chosen) - _log_odds(rejected))


def apo_zero_loss(pairs: PairLogps, *, beta: float) -> Tensor:
    r"""Return the APO-zero loss of each pair (E,), in [0, 2]: each side against the reference, not the other side.

    .. math:: \ell = 1 - \sigma(\beta r_w) + \sigma(\beta r_l)

    It vanishes in gradient where both sides have gone far either way. Meant for chosen completions that are better than
    what the policy writes.

    Args:
        pairs: Log-probabilities of E pairs.
        beta: Scale of the log-ratios, > 0.

    Reference: D'Oosterlinck et al. 2024, arXiv:2408.06266. Departure: plus the constant 1, so that no loss is negative.
    """
    chosen, rejected = implicit_rewards(pairs, beta=beta)
    return torch.sigmoid(-chosen) + torch.sigmoid(rejected)  # 1 - sigmoid(x) would round to 0 on large x


def sigmoid_norm_loss(pairs: PairLogps, *, beta: float) -> Tensor:
    r"""Return the length-normalised DPO loss of each pair (E,).

    .. math:: \ell = -\log\sigma(\beta \bar m)

    Args:
        pairs: Log-probabilities of E pairs.
        beta: Scale of the margin per token, > 0. Means are smaller than sums: the paper takes 5.

    Reference: Lambert et al. 2024, arXiv:2411.15124 (Tülu 3).
    """
    return -F.logsigmoid(beta * _margin_per_token(pairs))


def chosen_nll_loss(pairs: PairLogps) -> Tensor:
    r"""Return the mean negative log-likelihood per chosen token of each pair (E,), in nats.

    .. math:: \ell = -\frac{\pi_w}{|y_w|}

    Beside a preference loss it holds up the chosen side's log-probability (RPO). Every pair counts alike, whatever its
    length, unlike every token under ``sft_loss``.

    Args:
        pairs: Log-probabilities of E pairs.

    Reference: Pang et al. 2024, arXiv:2404.19733.
    """
    return -_means(pairs)[0]


DPO_LOSSES: dict[str, PairLoss] = {
    "sigmoid": PairLoss(sigmoid_loss, {"beta": 0.1, "label_smoothing": 0.0}, needs_reference=True),
    "hinge": PairLoss(hinge_loss, {"beta": 0.1}, needs_reference=True),
    "ipo": PairLoss(ipo_loss, {"beta": 0.1}, needs_reference=True),
    "robust": PairLoss(robust_loss, {"beta": 0.1, "label_smoothing": 0.1}, needs_reference=True),
    "simpo": PairLoss(simpo_loss, {"beta": 2.0, "gamma": 1.0}, needs_reference=False),
    "orpo": PairLoss(orpo_loss, {"beta": 0.1}, needs_reference=False),
    "apo_zero": PairLoss(apo_zero_loss, {"beta": 0.1}, needs_reference=True),
    "sigmoid_norm": PairLoss(sigmoid_norm_loss, {"beta": 5.0}, needs_reference=True),
    "sft": PairLoss(chosen_nll_loss, {}, needs_reference=False),
}


class _Rule(NamedTuple):
    text: str
    holds: Callable[[float], bool]


_RULES: dict[str, _Rule] = {
    "beta": _Rule("a finite number > 0", lambda value: 0 < value < math.inf),
    "label_smoothing": _Rule("in [0, 0.5)", lambda value: 0 <= value < 0.5),
    "gamma": _Rule("a finite number >= 0", lambda value: 0 <= value < math.inf),
}


def check_tunables(name: str, **values: float) -> None:
    """Check values that ``DPO_LOSSES[name]`` would be called with; those that are not given keep their defaults.

    Raises:
        InputError: If there is no such loss, if it has no such tunable, or if a value is out of its range: beta > 0,
            label_smoothing in [0, 0.5), gamma >= 0.
    """
    if name not in DPO_LOSSES:
        raise InputError(f"Expected a loss among {', '.join(DPO_LOSSES)}, but got {name!r}.")
    tunables = DPO_LOSSES[name].tunables
    for tunable, value in values.items():
        if tunable not in tunables:
            known = ", ".join(f"`{known}`" for known in tunables) or "none"
            raise InputError(f"Expected a tunable of the loss {name} ({known}), but got `{tunable}`.")
        rule = _RULES[tunable]
        if not rule.holds(value):
            raise InputError(f"Expected `{tunable}` of the loss {name} to be {rule.text}, but got {value}.")


def implicit_rewards(pairs: PairLogps, *, beta: float) -> tuple[Tensor, Tensor]:
    """Return what DPO's policy implies as rewards of the chosen (E,) and the rejected sides (E,): beta x log-ratio.

    Args:
        pairs: Log-probabilities of E pairs.
        beta: As in ``sigmoid_loss``.

    Reference: Rafailov et al. 2023, arXiv:2305.18290, equation 5 without the part that the prompt alone decides.
    """
    return beta * (pairs.chosen - pairs.ref_chosen), beta * (pairs.rejected - pairs.ref_rejected)


def window_mean(
    values: Tensor,  # (E,)
    weights: Tensor,  # (E,)
    window_examples: Tensor,  # ()
) -> Tensor:  # ()
    r"""Return this micro-batch's share of the window's weighted mean over pairs.

    .. math:: \frac{\sum_i w_i v_i}{\sum_{i \in \text{window}} w_i}

    The shares of all micro-batches of an optimiser step, over accumulation and ranks, add up to the mean over the
    whole window, however it is cut.

    Args:
        values: A finite number for each pair, such as its loss.
        weights: Weight of each pair, >= 0; 0 for one that only fills a turn.
        window_examples: Sum of the weights over the window, all micro-batches and ranks.
    """
    return (weights * values).sum() / window_examples


def _margin(pairs: PairLogps) -> Tensor:
    """Return (E,) the chosen side's log-ratio less the rejected side's."""
    return (pairs.chosen - pairs.ref_chosen) - (pairs.rejected - pairs.ref_rejected)


def _margin_per_token(pairs: PairLogps) -> Tensor:
    """Return (E,) the chosen side's mean log-ratio less the rejected side's."""
    chosen = (pairs.chosen - pairs.ref_chosen) / pairs.chosen_length
    return chosen - (pairs.rejected - pairs.ref_rejected) / pairs.rejected_length


def _means(pairs: PairLogps) -> tuple[Tensor, Tensor]:
    """Return the policy's mean log-probabilities per token of the chosen (E,) and the rejected sides (E,)."""
    return pairs.chosen / pairs.chosen_length, pairs.rejected / pairs.rejected_length


def _log_odds(logps: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of the same shape, finite and with a finite gradient for every log p, 0 included."""
    logps = logps.clamp(max=-torch.finfo(logps.dtype).eps)
    return logps - torch.log(-torch.expm1(logps))
