"""The policy losses by hand, by their identities and limits, and on what they must not see."""

import inspect
import itertools
import math

import pytest
import torch
from torch import Tensor

from lemma.objectives import KL_ESTIMATORS, RL_LOSSES, RolloutLogps, Window, check_rl_tunables, policy_loss
from lemma.objectives.surrogates import clipped_surrogate
from lemma.types import InputError

NAN, LN2 = math.nan, math.log(2)
BOUNDS = {"clip_low": 0.2, "clip_high": 0.2}


def tensor(rows) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# Completion 0 has 2 tokens and advantage 1, completion 1 has 3 and advantage -2. Ratios, and bounds of 0.8 and 1.2:
#   0:  3/2 -> 6/5    1/2              1:  3/2    1/2 -> 4/5    1
RATIOS = tensor([[3 / 2, 1 / 2, NAN], [3 / 2, 1 / 2, 1]])
LOGPS = tensor([[-1, -2, NAN], [-1, -3, -2]])
# the reference's probability is 2, 1, 1, 1 and 1/2 times the policy's
REF_LOGPS = LOGPS + tensor([[LN2, 0, 0], [0, 0, -LN2]])
ENTROPY = tensor([[1 / 4, 1 / 2, NAN], [1, 0, 3 / 4]])
MASK = torch.tensor([[True, True, False], [True, True, True]])
WINDOW = Window(torch.tensor(2), torch.tensor(5), max_length=10)


def hand(*, reference: bool = False, entropy: bool = False) -> RolloutLogps:
    return RolloutLogps(
        LOGPS.clone().requires_grad_(), LOGPS - RATIOS.log(), REF_LOGPS if reference else None,
        ENTROPY if entropy else None, MASK, tensor([1, -2]), torch.tensor([True, True]),
    )  # fmt: skip


S0, S1 = 0.75 ** (1 / 2), 0.75 ** (1 / 3)  # geometric means of the ratios
# loss, bounds, its value, and its gradient with respect to log-probabilities
BY_HAND = [
    # completion 0: -6/5 - 1/2 = -17/10; completion 1: 2 (3/2 + 4/5 + 1) = 33/5
    # means -17/20 and 11/5; the gradient of a token that is not clipped is -A r
    ("grpo", BOUNDS, (-17 / 20 + 11 / 5) / 2, [[0, -1 / 8, 0], [3 / 6, 0, 2 / 6]]),
    ("dr_grpo", BOUNDS, (-17 / 10 + 33 / 5) / 20, [[0, -1 / 40, 0], [3 / 20, 0, 2 / 20]]),
    ("dapo", BOUNDS, (-17 / 10 + 33 / 5) / 5, [[0, -1 / 10, 0], [3 / 5, 0, 2 / 5]]),
    # completion 1's first token costs 2 * 7/5 in place of 2 * 3/2, and has no gradient
    ("dapo", {**BOUNDS, "delta": 7 / 5}, (-17 / 10 + 32 / 5) / 5, [[0, -1 / 10, 0], [0, 0, 2 / 5]]),
    # -w A log p with w = 6/5, 1/2, 6/5, 1/2, 1: 6/5 + 1 - 12/5 - 3 - 4 = -36/5
    ("cispo", {"clip_high": 0.2}, -36 / 25, [[-6 / 25, -1 / 10, 0], [12 / 25, 1 / 5, 2 / 5]]),
    # a lower bound of 4/5, too: 6/5 + 8/5 - 12/5 - 24/5 - 4 = -42/5
    ("cispo", BOUNDS, -42 / 25, [[-6 / 25, -4 / 25, 0], [12 / 25, 8 / 25, 2 / 5]]),
    # one ratio for a completion, whose gradient its tokens share
    ("gspo", BOUNDS, (-S0 + 2 * S1) / 2, [[-S0 / 4, -S0 / 4, 0], [S1 / 3, S1 / 3, S1 / 3]]),
    # clipped at 0.95, which binds where the advantage is negative
    ("gspo", {"clip_low": 0.05}, (-S0 + 2 * 0.95) / 2, [[-S0 / 4, -S0 / 4, 0], [0, 0, 0]]),
]


@pytest.mark.parametrize(("name", "bounds", "expected", "gradient"), BY_HAND)
def test_two_completions_by_hand(name, bounds, expected, gradient):
    rollout = hand()
    loss, _ = policy_loss(name, rollout, WINDOW, **bounds)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    (found,) = torch.autograd.grad(loss, rollout.logps)
    torch.testing.assert_close(found, tensor(gradient), atol=1e-12, rtol=1e-12)


def test_every_row_of_the_tables_is_worked_by_hand():
    assert {name for name, *_ in BY_HAND} == RL_LOSSES.keys()
    assert len(RL_LOSSES) == 5
    assert {estimator for estimator, *_ in KL_BY_HAND} == KL_ESTIMATORS.keys()


# log(policy / reference) is -ln 2 at the first token of completion 0 (ratio 3/2), ln 2 at the last of 1 (ratio 1).
# k3 there: 2 - 1 - ln 2 and 1/2 - 1 + ln 2
KL_BY_HAND = [
    ("k1", False, 0.0),
    ("k1", True, -3 / 2 * LN2 + LN2),
    ("k2", False, LN2**2 / 2 + LN2**2 / 2),
    ("k2", True, 3 / 2 * LN2**2 / 2 + LN2**2 / 2),
    ("k3", False, 1 / 2),
    ("k3", True, 3 / 2 * (1 - LN2) + (LN2 - 1 / 2)),
]


@pytest.mark.parametrize(("estimator", "correction", "total"), KL_BY_HAND)
def test_kl_by_hand(estimator, correction, total):
    ways = {**BOUNDS, "kl_estimator": estimator, "kl_correction": correction}
    without, figures = policy_loss("dapo", hand(reference=True), WINDOW, **ways)
    loss, _ = policy_loss("dapo", hand(reference=True), WINDOW, **ways, kl_coef=0.3)
    assert (loss - without).item() == pytest.approx(0.3 * total / 5, abs=1e-12)
    assert figures["kl"].item() == pytest.approx(total, abs=1e-12)


def test_kl_is_averaged_as_the_loss_is():
    # uncorrected k2 is ln^2(2) / 2 at one token of 2 and at one of 3; max_length is 10
    for name, mean in {"grpo": (1 / 2 + 1 / 3) / 2, "dr_grpo": 2 / 20, "dapo": 2 / 5}.items():
        ways = {**BOUNDS, "kl_estimator": "k2", "kl_correction": False}
        difference = policy_loss(name, hand(reference=True), WINDOW, **ways, kl_coef=1.0)[0]
        difference = difference - policy_loss(name, hand(), WINDOW, **ways)[0]
        assert difference.item() == pytest.approx(LN2**2 / 2 * mean, abs=1e-12)


@pytest.mark.parametrize("name", RL_LOSSES)
def test_entropy_is_the_mean_over_tokens_under_every_loss(name):
    # 1/4 + 1/2 + 1 + 0 + 3/4 = 5/2 over 5 tokens
    loss, figures = policy_loss(name, hand(entropy=True), WINDOW, entropy_coef=0.1)
    without, _ = policy_loss(name, hand(), WINDOW)
    assert (loss - without).item() == pytest.approx(-0.1 / 2, abs=1e-12)
    assert figures["entropy"].item() == 2.5


def test_figures_by_hand():
    _, figures = policy_loss("grpo", hand(reference=True, entropy=True), WINDOW, **BOUNDS, delta=1.4)
    expected = {
        "tokens": 5, "sequences": 2,
        "ratio": 5.0,
        "old_kl": -2 * math.log(3 / 4),  # r - 1 - ln r, and the ratios' sum is their number
        "clip_low": 1, "clip_high": 1, "clip_delta": 1,
        "kl": 3 / 2 * (1 - LN2) + (LN2 - 1 / 2),
        "entropy": 2.5,
    }  # fmt: skip
    assert {name: value.item() for name, value in figures.items()} == pytest.approx(expected, abs=1e-12)
    assert not any(value.requires_grad for value in figures.values())


def test_a_figure_is_of_what_the_loss_has():
    _, figures = policy_loss("cispo", hand(), WINDOW, **BOUNDS)
    assert figures.keys() == {"tokens", "sequences", "ratio", "old_kl", "clip_low", "clip_high"}
    # weights are bounded whichever way the token is pushed
    assert (figures["clip_low"].item(), figures["clip_high"].item()) == (2, 2)


# --- KL estimators in expectation, over all five outcomes of a draw


def distributions() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the policy's logits, and the log-probabilities of the policy, the reference and the sampler."""
    logits, reference, sampler = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    return logits, logits.log_softmax(-1), reference.log_softmax(-1), sampler.log_softmax(-1)


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum()


@pytest.mark.parametrize(("estimator", "unbiased"), [("k1", True), ("k2", False), ("k3", True)])
def test_the_value_of_an_estimator_is_the_kl_under_the_policy_or_corrected_under_any_sampler(estimator, unbiased):
    _, policy, reference, sampler = distributions()
    k, exact = KL_ESTIMATORS[estimator](policy, reference), kl(policy, reference).item()
    corrected = (sampler.exp() * (policy - sampler).exp() * k).sum().item()
    assert corrected == pytest.approx((policy.exp() * k).sum().item())
    assert (corrected == pytest.approx(exact)) == unbiased
    assert (sampler.exp() * k).sum().item() != pytest.approx(exact, rel=0.1)
    assert (k >= 0).all() == (estimator != "k1")


GRADIENTS = {
    ("k1", False): lambda policy, reference: 0 * policy.sum(),
    ("k2", False): kl,
    ("k3", False): lambda policy, reference: kl(reference, policy),
    ("k1", True): kl,
    ("k2", True): lambda policy, reference: (policy.exp() * (policy - reference).square() / 2).sum(),
    ("k3", True): kl,
}


@pytest.mark.parametrize(("estimator", "correction"), GRADIENTS)
def test_the_gradient_of_an_estimator_is_that_of_the_table(estimator, correction):
    logits, policy, reference, sampler = distributions()
    k = KL_ESTIMATORS[estimator](policy, reference)
    weighted = sampler.exp() * (policy - sampler).exp() * k if correction else policy.detach().exp() * k
    (found,) = torch.autograd.grad(weighted.sum(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad(GRADIENTS[estimator, correction](policy, reference), logits)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
def test_kl_is_zero_where_the_policy_is_the_reference(estimator):
    rollout = hand()._replace(ref_logps=LOGPS)
    _, figures = policy_loss("grpo", rollout, WINDOW, kl_coef=1.0, kl_estimator=estimator)
    assert figures["kl"].item() == 0


# --- identities


def random_rollout(number: int = 12, length: int = 7) -> RolloutLogps:
    """Return ragged completions, some of them not counted, with NaN wherever nothing is to be read."""
    generator = torch.Generator().manual_seed(number)
    logps, old, ref, entropy = -3 * torch.rand(4, number, length, dtype=torch.float64, generator=generator)
    mask = torch.arange(length) < torch.randint(1, length + 1, (number, 1), generator=generator)
    counted = torch.arange(number) % 5 != 3
    seen = mask & counted[:, None]
    logps, old, ref, entropy = (values.masked_fill(~seen, NAN) for values in (logps, old, ref, -entropy))
    advantages = torch.randn(number, dtype=torch.float64, generator=generator).masked_fill(~counted, NAN)
    sampler = old + 0.5 * torch.randn(number, length, dtype=torch.float64, generator=generator)
    return RolloutLogps(logps.requires_grad_(), old, ref, entropy.requires_grad_(), mask, advantages, counted, sampler)


def window_of(rollout: RolloutLogps) -> Window:
    return Window(rollout.counted.sum(), (rollout.mask & rollout.counted[:, None]).sum(), rollout.mask.shape[1] + 3)


WHOLE = {"kl_coef": 0.3, "entropy_coef": 0.1, "sampler_correction": "sequence"}


@pytest.mark.parametrize("name", RL_LOSSES)
def test_the_gradient_is_reinforces_where_the_policy_is_the_one_that_sampled(name):
    rollout = random_rollout()
    rollout = rollout._replace(old_logps=rollout.logps.detach(), ref_logps=None, entropy=None)
    window = window_of(rollout)
    loss, figures = policy_loss(name, rollout, window)
    (found,) = torch.autograd.grad(loss, rollout.logps)
    mask = rollout.mask & rollout.counted[:, None]
    weight = {
        "grpo": 1 / (window.sequences * rollout.mask.sum(-1, keepdim=True)),
        "dr_grpo": 1 / (window.sequences * window.max_length),
        "dapo": 1 / window.tokens,
    }
    weight |= {"gspo": weight["grpo"], "cispo": weight["dapo"]}
    expected = (-rollout.advantages[:, None] * weight[name]).masked_fill(~mask, 0.0)
    torch.testing.assert_close(found, expected)
    assert figures["ratio"] == figures["tokens"]
    assert sum(value for key, value in figures.items() if key.startswith("clip")) == 0


@pytest.mark.parametrize("name", RL_LOSSES)
def test_advantages_of_zero_give_a_gradient_of_exactly_zero_however_far_the_policy_has_gone(name):
    for far in (0.0, 1.0, 1000.0, -1000.0):
        rollout = random_rollout()
        zero = torch.zeros(12, dtype=torch.float64)
        rollout = rollout._replace(old_logps=rollout.old_logps - far, advantages=zero, ref_logps=None, entropy=None)
        loss, _ = policy_loss(name, rollout, window_of(rollout))
        assert loss.item() == 0
        assert (torch.autograd.grad(loss, rollout.logps)[0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "estimator"), itertools.product(RL_LOSSES, KL_ESTIMATORS))
def test_extreme_log_probabilities_give_finite_losses_and_gradients(name, estimator, dtype):
    values = torch.tensor([0.0, -1e-7, -1.0, -88.0, -104.0, -1e4], dtype=dtype)
    grid = torch.cartesian_prod(values, values, values, torch.tensor([-1.0, 0.0, 1.0], dtype=dtype))
    logps, old, ref, advantages = (column.clone() for column in grid.unbind(1))
    number = len(grid)
    rollout = RolloutLogps(
        logps[:, None].requires_grad_(), old[:, None], ref[:, None], None, torch.ones(number, 1, dtype=torch.bool),
        advantages, torch.ones(number, dtype=torch.bool),
    )  # fmt: skip
    window = Window(torch.tensor(number), torch.tensor(number), 1)
    for correction in (True, False):
        loss, figures = policy_loss(
            name, rollout, window, kl_coef=1.0, kl_estimator=estimator, kl_correction=correction
        )
        assert loss.dtype == dtype
        assert loss.isfinite()
        assert torch.autograd.grad(loss, rollout.logps)[0].isfinite().all()
        assert all(value.isfinite() for value in figures.values())


@pytest.mark.parametrize(
    ("name", "estimator", "correction"), itertools.product(RL_LOSSES, KL_ESTIMATORS, [True, False])
)
def test_gradients_are_those_of_finite_differences(name, estimator, correction):
    rollout = random_rollout(6, 3)
    if name == "cispo":  # whose weights are constants only beyond their bounds
        old = rollout.logps.detach() - torch.where(rollout.logps > -1.5, 1.0, -1.0)
        rollout = rollout._replace(old_logps=old)
    mask = rollout.mask & rollout.counted[:, None]
    leaves = [values.detach()[mask].requires_grad_() for values in (rollout.logps, rollout.entropy)]
    ways = {**WHOLE, "kl_estimator": estimator, "kl_correction": correction and name != "cispo"}

    def function(*flat: Tensor) -> Tensor:
        logps, entropy = (torch.zeros(mask.shape, dtype=torch.float64).masked_scatter(mask, values) for values in flat)
        return policy_loss(name, rollout._replace(logps=logps, entropy=entropy), WINDOW, **BOUNDS, **ways)[0]

    assert torch.autograd.gradcheck(function, leaves)


def test_losses_that_differ_in_the_average_agree_on_completions_of_one_length():
    rollout = random_rollout(8, 5)
    full = torch.ones_like(rollout.mask)
    rollout = rollout._replace(mask=full, counted=full[:, 0])
    filled = {
        name: getattr(rollout, name).nan_to_num(-0.5) for name in ("logps", "old_logps", "ref_logps", "advantages")
    }
    rollout = rollout._replace(**filled, entropy=None)
    window = Window(torch.tensor(8), torch.tensor(40), max_length=5)
    losses = [
        policy_loss(name, rollout, window, **BOUNDS, kl_coef=0.1)[0].item() for name in ("grpo", "dapo", "dr_grpo")
    ]
    assert losses == pytest.approx([losses[0]] * 3)
    assert losses[0] != pytest.approx(policy_loss("gspo", rollout, window, **BOUNDS, kl_coef=0.1)[0].item())


def test_a_completion_of_one_token_has_the_same_ratio_at_both_levels():
    rollout = random_rollout(8, 1)
    losses = [
        policy_loss(name, rollout, window_of(rollout), **BOUNDS, kl_coef=0.1)[0].item() for name in ("grpo", "gspo")
    ]
    assert losses[0] == pytest.approx(losses[1])


# --- limits of the bounds


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_token_is_followed_up_to_the_bound_on_the_side_it_is_pushed_to_and_back_from_any_distance(advantage):
    ratio = torch.linspace(0.05, 6, 400, dtype=torch.float64)[:, None].requires_grad_()
    bounds = {"clip_low": 0.2, "clip_high": 0.3, "delta": 4.0}
    surrogate = clipped_surrogate(ratio, ratio, tensor([[advantage]]), **bounds)
    (gradient,) = torch.autograd.grad(surrogate.losses.sum(), ratio)
    followed = ratio <= 1.3 if advantage > 0 else (ratio >= 0.8) & (ratio <= 4.0)
    assert torch.equal(gradient, torch.where(followed, -advantage, 0.0))
    assert torch.equal(sum(bound.long() for bound in surrogate.bounded.values()), (~followed).long())


def test_bounds_that_are_wide_enough_leave_importance_sampling():
    rollout = random_rollout()._replace(ref_logps=None, entropy=None)
    loss, _ = policy_loss("dapo", rollout, window_of(rollout), clip_low=1.0, clip_high=1e9)
    mask = rollout.mask & rollout.counted[:, None]
    ratio = (rollout.logps - rollout.old_logps).exp()
    expected = -(ratio * rollout.advantages[:, None])[mask].mean()
    assert loss.item() == pytest.approx(expected.item())


def test_delta_bounds_what_one_token_can_cost():
    rollout = hand()._replace(old_logps=LOGPS - 10, advantages=tensor([0, -1]))
    free, _ = policy_loss("dapo", rollout, WINDOW, **BOUNDS)
    bounded, _ = policy_loss("dapo", rollout, WINDOW, **BOUNDS, delta=4.0)
    assert free.item() == pytest.approx(3 * math.exp(10) / 5)
    assert bounded.item() == pytest.approx(3 * 4 / 5)


# --- what must not be seen, and how a window is cut


def gradient_of(loss: Tensor, rollout: RolloutLogps) -> list[Tensor]:
    return list(torch.autograd.grad(loss, (rollout.logps, rollout.entropy)))


@pytest.mark.parametrize("name", RL_LOSSES)
def test_what_is_masked_or_not_counted_has_no_gradient_and_leaks_into_nothing(name):
    rollout = random_rollout()
    assert rollout.logps.isnan().any(-1).sum() > 6
    loss, figures = policy_loss(name, rollout, window_of(rollout), **WHOLE)
    assert loss.isfinite()
    assert all(value.isfinite() for value in figures.values())
    mask = rollout.mask & rollout.counted[:, None]
    for gradient in gradient_of(loss, rollout):
        assert gradient.isfinite().all()
        assert (gradient[~mask] == 0).all()
        assert gradient[mask].count_nonzero() > 20


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", RL_LOSSES)
def test_padding_changes_neither_loss_nor_gradient_nor_figures(name, side):
    rollout = random_rollout()
    columns = (4, 0) if side == "left" else (0, 4)

    def widen(values: Tensor) -> Tensor:
        return torch.nn.functional.pad(values, columns, value=False if values.dtype == torch.bool else NAN)

    of_tokens = ("logps", "old_logps", "ref_logps", "entropy", "mask", "sampler_logps")
    wide = rollout._replace(**{key: widen(getattr(rollout, key)) for key in of_tokens})
    window = window_of(rollout)
    loss, figures = policy_loss(name, rollout, window, **WHOLE)
    found, found_figures = policy_loss(name, wide, window, **WHOLE)
    assert found.item() == pytest.approx(loss.item(), rel=1e-12)
    assert {k: v.item() for k, v in found_figures.items()} == pytest.approx({k: v.item() for k, v in figures.items()})
    for there, here in zip(gradient_of(found, rollout), gradient_of(loss, rollout), strict=True):
        torch.testing.assert_close(there, here)


@pytest.mark.parametrize("sizes", [(12,), (6, 6), (1,) * 12, (3, 5, 3, 1)])
@pytest.mark.parametrize("name", RL_LOSSES)
def test_shares_of_a_cut_window_add_up_to_its_loss_gradient_and_figures(name, sizes):
    rollout = random_rollout()  # rows 3 and 8 are not counted: cut to single rows, they are micro-batches of fillers
    window = window_of(rollout)
    expected, expected_figures = policy_loss(name, rollout, window, **WHOLE)
    parts = [RolloutLogps(*part) for part in zip(*(values.split(sizes) for values in rollout), strict=True)]
    shares, figures = zip(*(policy_loss(name, part, window, **WHOLE) for part in parts), strict=True)
    total = torch.stack(shares).sum()
    assert total.item() == pytest.approx(expected.item(), abs=1e-12)
    for key, value in expected_figures.items():
        assert sum(part[key].item() for part in figures) == pytest.approx(value.item())
    for found, whole in zip(gradient_of(total, rollout), gradient_of(expected, rollout), strict=True):
        torch.testing.assert_close(found, whole)


@pytest.mark.parametrize("name", RL_LOSSES)
def test_a_window_in_which_nothing_counts_has_loss_zero_and_a_gradient_of_zeros(name):
    rollout = random_rollout()._replace(counted=torch.zeros(12, dtype=torch.bool))
    loss, figures = policy_loss(name, rollout, window_of(rollout), **WHOLE)
    assert loss.item() == 0
    assert all((gradient == 0).all() for gradient in gradient_of(loss, rollout))
    assert all(value == 0 for value in figures.values())


# --- ranges


@pytest.mark.parametrize("name", RL_LOSSES)
def test_a_rows_tunables_are_the_surrogates_keywords_and_its_defaults_are_in_range(name):
    loss = RL_LOSSES[name]
    keywords = list(inspect.signature(loss.surrogate).parameters.values())[3:]
    assert [k.name for k in keywords] == list(loss.tunables)
    assert all(k.kind is inspect.Parameter.KEYWORD_ONLY for k in keywords)
    check_rl_tunables(name, **loss.tunables)
    check_rl_tunables(name, clip_low=None, clip_high=None, delta=None)
    given, default = (policy_loss(name, hand(), WINDOW, **bounds)[0] for bounds in (loss.tunables, {}))
    assert given.item() == default.item()


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("grpo", {"clip_low": 0.0}, r"Expected `clip_low` of the loss grpo to be in \(0, 1\], but got 0.0."),
        ("gspo", {"clip_low": 1.5}, "`clip_low` of the loss gspo .* got 1.5"),
        ("cispo", {"clip_high": math.inf}, "`clip_high` of the loss cispo to be a finite number > 0, but got inf"),
        ("dapo", {"clip_high": math.nan}, "but got nan"),
        ("dapo", {"delta": 1.28}, r"`delta` of the loss dapo to be more than 1 \+ `clip_high` = 1.28, but got 1.28"),
        ("dapo", {"delta": 1.5, "clip_high": 0.6}, "= 1.6, but got 1.5"),
        ("dapo", {"delta": math.nan}, "`delta` .* got nan"),
        ("cispo", {"delta": 4.0}, r"a tunable of the loss cispo \(`clip_low`, `clip_high`\), but got `delta`"),
        ("ppo", {}, "a loss among grpo, dr_grpo, .*gspo, but got 'ppo'"),
    ],
)
def test_a_bound_out_of_range_is_named_with_its_rule_and_value(name, values, message):
    with pytest.raises(InputError, match=message):
        check_rl_tunables(name, **values)


def test_a_weight_needs_what_it_weighs():
    with pytest.raises(ValueError, match=r"`ref_logps` for a `kl_coef` of 0\.1, but got None"):
        policy_loss("grpo", hand(), WINDOW, kl_coef=0.1)
    with pytest.raises(ValueError, match=r"`entropy` for an `entropy_coef` of 0\.1, but got None"):
        policy_loss("grpo", hand(), WINDOW, entropy_coef=0.1)
