r"""KL estimators: how far the policy is from the reference at a token that was drawn; a new one is a row of the table.

Below, :math:`\pi` is the policy, :math:`\rho` the reference, :math:`q` the policy that drew the token. What the table
says holds in expectation over a token's distribution after what stands before it. As part of a loss an estimator's
*gradient* matters, and an unbiased value may have a gradient of something else (Tang and Munos 2025,
arXiv:2506.09477). With correction an estimator is multiplied by :math:`\pi / q`, gradient included:

========= ==================================== ======================================== ===============================
estimator value, drawn by the policy           gradient, without correction             gradient, with correction
========= ==================================== ======================================== ===============================
k1        unbiased, of both signs              0: it holds nothing back                 that of KL(policy, reference)
k2        biased, never negative               that of KL(policy, reference)            that of the mean of k2
k3        unbiased, never negative             that of KL(reference, policy)            that of KL(policy, reference)
========= ==================================== ======================================== ===============================

The second column of gradients holds for tokens that any :math:`q` drew, the first for those of the policy itself.
"""

from collections.abc import Callable

from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Largest exponent of a ratio: e^20 is beyond every sensible bound, and times an advantage of 0 it is no NaN."""


def bounded_exp(log_ratio: Tensor) -> Tensor:
    """Return the exponential of each element, at most e^20, without a gradient beyond."""
    return log_ratio.clamp(max=MAX_LOG_RATIO).exp()


def k1(logps: Tensor, ref_logps: Tensor) -> Tensor:
    r"""Return the log-ratio of each token, of the same shape.

    .. math:: k_1 = \log\frac{\pi}{\rho}

    Args:
        logps: The policy's log-probabilities of tokens, in nats.
        ref_logps: The reference's.

    Reference: Schulman 2020, joschu.net/blog/kl-approx.html.
    """
    return logps - ref_logps


def k2(logps: Tensor, ref_logps: Tensor) -> Tensor:
    r"""Return half the squared log-ratio of each token, of the same shape.

    .. math:: k_2 = \frac{1}{2} \left(\log\frac{\pi}{\rho}\right)^2

    Args:
        logps: The policy's log-probabilities of tokens, in nats.
        ref_logps: The reference's.

    Reference: Schulman 2020, joschu.net/blog/kl-approx.html.
    """
    return (logps - ref_logps).square() / 2


def k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    r"""Return GRPO's estimate of each token, of the same shape.

    .. math:: k_3 = \frac{\rho}{\pi} - 1 - \log\frac{\rho}{\pi}

    Args:
        logps: The policy's log-probabilities of tokens, in nats.
        ref_logps: The reference's.

    Reference: Schulman 2020, joschu.net/blog/kl-approx.html; Shao et al. 2024, arXiv:2402.03300, equation 4. With
    correction it is equation 7 of DeepSeek-AI 2025, arXiv:2512.02556 (DeepSeek-V3.2), and what TRL 1.16 does by default
    (``use_bias_correction_kl``).
    """
    log_ratio = (ref_logps - logps).clamp(max=MAX_LOG_RATIO)  # in both terms: the second by itself pushes away
    return log_ratio.exp() - 1 - log_ratio


KL_ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
