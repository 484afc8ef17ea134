r"""Group-relative policy losses: which ratio is taken, how it is bounded, and over what the loss is averaged.

A loss is a row of ``RL_LOSSES``: a ratio, a surrogate and an aggregation, each a function that others can share.

Below, :math:`\ell_{i,t}` is what token t of completion i costs, :math:`|y_i|` a length in tokens, and :math:`N` the
number of completions that count.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from lemma.objectives.kl import KL_ESTIMATORS, k3
from lemma.objectives.sampler import SAMPLER_CORRECTIONS, sampler_weights
from lemma.objectives.surrogates import Surrogate, cispo_surrogate, clipped_surrogate, sequence_ratio, token_ratio
from lemma.ops import masked_sum
from lemma.types import InputError


class RolloutLogps(NamedTuple):
    """What a loss is made of: N completions of at most T tokens, float32 or float64.

    Attributes:
        logps: (N, T) the policy's log-probabilities, in nats, at the temperature that was sampled at.
        old_logps: (N, T) those of the policy that sampled, no gradient.
        ref_logps: (N, T) the reference's, no gradient; None where there is none.
        entropy: (N, T) the policy's entropy where each token was drawn, in nats; None where nobody asks for it.
        mask: (N, T) bool, True on the tokens of each completion. What stands elsewhere is never read.
        advantages: (N,) no gradient.
        counted: (N,) bool, False for a completion that the loss is not to see: one whose reward is None, a truncated
            one that is left out, one that only fills a turn.
        sampler_logps: (N, T) what the engine that sampled gives for old_logps; None where nobody asks for it.
    """

    logps: Tensor
    old_logps: Tensor
    ref_logps: Tensor | None
    entropy: Tensor | None
    mask: Tensor
    advantages: Tensor
    counted: Tensor
    sampler_logps: Tensor | None = None


class Window(NamedTuple):
    """An optimiser step's counts, over all its micro-batches and ranks.

    Attributes:
        sequences: () completions that count.
        tokens: () their tokens.
        max_length: Tokens that a completion may have, at least 1.
    """

    sequences: Tensor
    tokens: Tensor
    max_length: int


def sequence_mean(losses: Tensor, mask: Tensor, window: Window) -> Tensor:
    r"""Return this micro-batch's share of the mean over completions of the mean over tokens (): each counts alike.

    .. math:: \frac{1}{N} \sum_i \frac{1}{|y_i|} \sum_t \ell_{i,t}

    Args:
        losses: (N, T).
        mask: (N, T) bool, True on tokens that count.
        window: Counts of the optimiser step.

    Reference: Shao et al. 2024, arXiv:2402.03300, equation 3. Departure: the mean over problems of means over groups is
    one over completions, which differs where a group has completions that do not count.
    """
    return (masked_sum(losses, mask) / mask.sum(-1).clamp(min=1)).sum() / window.sequences.clamp(min=1)


def length_mean(losses: Tensor, mask: Tensor, window: Window) -> Tensor:
    r"""Return this micro-batch's share of the sum over tokens for each completion and each token it could have had ().

    .. math:: \frac{1}{N L_\text{max}} \sum_i \sum_t \ell_{i,t}

    Args:
        losses: (N, T).
        mask: (N, T) bool, True on tokens that count.
        window: Counts of the optimiser step.

    Reference: Liu et al. 2025, arXiv:2503.20783 (Dr. GRPO). The constant is the longest completion allowed, as in the
    authors' code. The paper's advantages are not divided by a deviation: the scale ``none``.
    """
    return masked_sum(losses, mask).sum() / (window.sequences.clamp(min=1) * window.max_length)


def token_mean(losses: Tensor, mask: Tensor, window: Window) -> Tensor:
    r"""Return this micro-batch's share of the mean over tokens (): long completions count more.

    .. math:: \frac{1}{\sum_i |y_i|} \sum_i \sum_t \ell_{i,t}

    Args:
        losses: (N, T).
        mask: (N, T) bool, True on tokens that count.
        window: Counts of the optimiser step.

    Reference: Yu et al. 2025, arXiv:2503.14476 (DAPO), equation 8. Departure: the tokens are the window's, as in the
    authors' code and in TRL, where the equation has those of one problem's group.
    """
    return masked_sum(losses, mask).sum() / window.tokens.clamp(min=1)


class RLLoss(NamedTuple):
    """A row of ``RL_LOSSES``.

    Attributes:
        ratio: From log-ratios and a mask to (N, T) ratios.
        surrogate: From ratios, log-probabilities, advantages and, by keyword, the tunables to what each token costs.
        aggregate: From (N, T) losses, a mask and the window to this micro-batch's share ().
        tunables: Names and defaults of the surrogate's bounds.
    """

    ratio: Callable[[Tensor, Tensor], Tensor]
    surrogate: Callable[..., Surrogate]
    aggregate: Callable[[Tensor, Tensor, Window], Tensor]
    tunables: dict[str, float]


def _clip(low: float, high: float) -> dict[str, float]:
    return {"clip_low": low, "clip_high": high, "delta": math.inf}


RL_LOSSES: dict[str, RLLoss] = {
    "grpo": RLLoss(token_ratio, clipped_surrogate, sequence_mean, _clip(0.2, 0.2)),
    "dr_grpo": RLLoss(token_ratio, clipped_surrogate, length_mean, _clip(0.2, 0.2)),
    "dapo": RLLoss(token_ratio, clipped_surrogate, token_mean, _clip(0.2, 0.28)),
    "cispo": RLLoss(token_ratio, cispo_surrogate, token_mean, {"clip_low": 1.0, "clip_high": 4.0}),
    "gspo": RLLoss(sequence_ratio, clipped_surrogate, sequence_mean, _clip(3e-4, 4e-4)),
}


def policy_loss(
    name: str,
    rollout: RolloutLogps,
    window: Window,
    *,
    clip_low: float | None = None,
    clip_high: float | None = None,
    delta: float | None = None,
    kl_coef: float = 0.0,
    kl_estimator: str = "k3",
    kl_correction: bool = True,
    entropy_coef: float = 0.0,
    sampler_correction: str = "none",
    sampler_correction_cap: float = 2.0,
) -> tuple[Tensor, dict[str, Tensor]]:  # (), {(): ...}
    r"""Return this micro-batch's share of the window's loss, and what there is to log of it.

    .. math:: \mathrm{aggregate}(w \ell + \beta k) - \frac{\eta}{\sum_i |y_i|} \sum_{i,t} H_{i,t}

    The shares of all micro-batches of an optimiser step, over accumulation and ranks, add up to the window's loss,
    however it is cut. A micro-batch in which nothing counts has the share 0 and a gradient of zeros.

    Args:
        name: A key of ``RL_LOSSES``.
        rollout: Log-probabilities and advantages of N completions.
        window: Counts of the optimiser step.
        clip_low: Bound of the loss's surrogate; None for the loss's own default, here and for the next two.
        clip_high: The same.
        delta: The same; ``cispo`` has none.
        kl_coef: :math:`\beta`, the weight of the KL to the reference, >= 0. It is averaged as the loss is.
        kl_estimator: A key of ``KL_ESTIMATORS``, :math:`k`.
        kl_correction: Whether :math:`k` is multiplied by the ratio, gradient included (``lemma.objectives.kl``). It is
            the loss's own ratio, before any bound: of each token or, under ``gspo``, of its completion as in TRL; for
            the latter nothing is known to be unbiased.
        entropy_coef: :math:`\eta`, the weight of the mean entropy per token, >= 0; the same for every loss.
        sampler_correction: A key of ``SAMPLER_CORRECTIONS``: what :math:`w` is; 1 for none. The KL is not weighted, as
            in TRL.
        sampler_correction_cap: Largest :math:`w`, >= 1.

    Returns:
        The share, and sums over the tokens that count, without gradient: ``tokens`` (their number), ``sequences``
        (completions that count), ``ratio``, ``old_kl`` (KL from the policy that sampled, by k3), ``clip_low``,
        ``clip_high`` and ``clip_delta`` (how many are beyond each bound of the loss); with a reference ``kl`` (as in
        the loss, even where its weight is 0), with entropies ``entropy``, with a correction ``sampler_weight`` and
        ``sampler_beyond_cap`` (how many ratios are beyond the cap). Summed over micro-batches and ranks and divided by
        ``tokens``, they are means.

    Raises:
        ValueError: If what a weight other than 0 belongs to is None.
    """
    if kl_coef and rollout.ref_logps is None:
        raise ValueError(f"Expected `ref_logps` for a `kl_coef` of {kl_coef}, but got None.")
    if entropy_coef and rollout.entropy is None:
        raise ValueError(f"Expected `entropy` for an `entropy_coef` of {entropy_coef}, but got None.")
    is_corrected = SAMPLER_CORRECTIONS[sampler_correction] is not None
    if is_corrected and rollout.sampler_logps is None:
        raise ValueError(f"Expected `sampler_logps` for a `sampler_correction` by {sampler_correction}, but got None.")
    loss = RL_LOSSES[name]
    given = {"clip_low": clip_low, "clip_high": clip_high, "delta": delta}
    tunables = loss.tunables | {key: value for key, value in given.items() if value is not None}
    rollout, mask = _without_uncounted(rollout)
    ratio = loss.ratio(rollout.logps - rollout.old_logps, mask)
    surrogate = loss.surrogate(ratio, rollout.logps, rollout.advantages[:, None], **tunables)
    losses, shown = surrogate.losses, dict(surrogate.bounded)
    if is_corrected:
        logps = rollout.old_logps, rollout.sampler_logps
        weights, beyond = sampler_weights(sampler_correction, *logps, mask, cap=sampler_correction_cap)
        losses = losses * weights
        shown |= {"sampler_weight": weights, "sampler_beyond_cap": beyond}
    if rollout.ref_logps is not None:
        kl = KL_ESTIMATORS[kl_estimator](rollout.logps, rollout.ref_logps)
        kl = kl * ratio if kl_correction else kl
        shown["kl"] = kl
    if kl_coef:
        losses = losses + kl_coef * kl
    share = loss.aggregate(losses, mask, window)
    if entropy_coef:
        share = share - entropy_coef * token_mean(rollout.entropy, mask, window)
    return share, _figures(rollout, mask, ratio, shown)


class _Rule(NamedTuple):
    text: str
    holds: Callable[[float], bool]


_RULES: dict[str, _Rule] = {
    "clip_low": _Rule("in (0, 1]", lambda value: 0 < value <= 1),
    "clip_high": _Rule("a finite number > 0", lambda value: 0 < value < math.inf),
    "delta": _Rule("a number > 1 + `clip_high`", lambda value: value > 1),
}


def check_rl_tunables(name: str, **values: float | None) -> None:
    """Check bounds that ``policy_loss`` would be called with; None is a loss's default, as is what is not given.

    Raises:
        InputError: If there is no such loss, if it has no such bound, or if a value is out of its range: clip_low in
            (0, 1], clip_high > 0 and finite, delta > 1 + clip_high.
    """
    if name not in RL_LOSSES:
        raise InputError(f"Expected a loss among {', '.join(RL_LOSSES)}, but got {name!r}.")
    own = RL_LOSSES[name].tunables
    given = {key: value for key, value in values.items() if value is not None}
    for tunable, value in given.items():
        if tunable not in own:
            known = ", ".join(f"`{known}`" for known in own)
            raise InputError(f"Expected a tunable of the loss {name} ({known}), but got `{tunable}`.")
        rule = _RULES[tunable]
        if not rule.holds(value):
            raise InputError(f"Expected `{tunable}` of the loss {name} to be {rule.text}, but got {value}.")
    tunables = own | given
    if "delta" in own and not tunables["delta"] > 1 + tunables["clip_high"]:
        raise InputError(
            f"Expected `delta` of the loss {name} to be more than 1 + `clip_high` = {1 + tunables['clip_high']}, "
            f"but got {tunables['delta']}."
        )


def _without_uncounted(rollout: RolloutLogps) -> tuple[RolloutLogps, Tensor]:
    """Return the rollout with zeros wherever nothing counts, and the mask (N, T) of what does.

    Filled before any arithmetic, for a NaN times a gradient of 0 would be NaN.
    """
    mask = rollout.mask & rollout.counted[:, None]
    names = ("logps", "old_logps", "ref_logps", "entropy", "sampler_logps")
    found = {name: value for name in names if (value := getattr(rollout, name)) is not None}
    filled = {name: value.masked_fill(~mask, 0.0) for name, value in found.items()}
    return rollout._replace(**filled), mask


def _figures(rollout: RolloutLogps, mask: Tensor, ratio: Tensor, shown: dict[str, Tensor]) -> dict[str, Tensor]:
    per_token = {"ratio": ratio, "old_kl": k3(rollout.old_logps, rollout.logps), **shown}
    per_token |= {} if rollout.entropy is None else {"entropy": rollout.entropy}
    sums = {name: masked_sum(values.detach().to(ratio.dtype), mask).sum() for name, values in per_token.items()}
    return {"tokens": mask.sum(), "sequences": rollout.counted.sum(), **sums}
