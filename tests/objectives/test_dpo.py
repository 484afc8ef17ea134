"""The preference losses by hand, by their identities and limits, and at the edges of what numbers can hold."""

import inspect
import math

import pytest
import torch
from torch import Tensor

from lemma.objectives import DPO_LOSSES, PairLogps, check_tunables, implicit_rewards, window_mean
from lemma.types import InputError

LN2, LN3 = math.log(2), math.log(3)
DTYPES = (torch.float32, torch.float64)


def softplus(x: float) -> float:
    """Return ln(1 + e^x), which is -ln sigma(-x)."""
    return math.log1p(math.exp(x))


def make_pairs(
    chosen, rejected, ref_chosen=(0.0, 0.0), ref_rejected=(0.0, 0.0), lengths=((1, 1), (1, 1)), dtype=torch.float64
) -> PairLogps:
    sums = [torch.tensor(values, dtype=dtype) for values in (chosen, rejected, ref_chosen, ref_rejected)]
    return PairLogps(*sums, *(torch.tensor(length) for length in lengths))


# Pair 0: log-ratios +1 over 2 tokens and -1 over 4, so the margin is 2 and per token 1/2 + 1/4 = 3/4.
# Pair 1: log-ratios -1 over 3 tokens and +1 over 1, so the margin is -2 and per token -1/3 - 1 = -4/3.
# Means of the policy alone: -3/2 and -5/4 for pair 0, -2 and -2 for pair 1.
TWO = make_pairs([-3.0, -6.0], [-5.0, -2.0], [-4.0, -5.0], [-4.0, -3.0], ((2, 3), (4, 1)))

# For the odds ratio. Pair 0: two tokens of 1/2, odds 1, against four of 1/4, odds 1/3: ratio 3.
# Pair 1: one token of 1/5, odds 1/4, against three of 2/3, odds 2: ratio 1/8.
ODDS = make_pairs(
    [2 * math.log(1 / 2), math.log(1 / 5)], [4 * math.log(1 / 4), 3 * math.log(2 / 3)], lengths=((2, 1), (4, 3))
)

# loss, pairs, tunables, what each pair costs
BY_HAND = [
    # beta x margin = +-1
    ("sigmoid", TWO, {"beta": 0.5, "label_smoothing": 0.0}, [softplus(-1), softplus(1)]),
    (
        "sigmoid", TWO, {"beta": 0.5, "label_smoothing": 0.1},
        [0.9 * softplus(-1) + 0.1 * softplus(1), 0.9 * softplus(1) + 0.1 * softplus(-1)],
    ),
    # 1 -+ 1/2, and 1 -+ 2 of which the first is cut off at 0
    ("hinge", TWO, {"beta": 0.25}, [1 / 2, 3 / 2]),
    ("hinge", TWO, {"beta": 1.0}, [0.0, 3.0]),
    # 1 / (2 beta) = 1: (3/4 - 1)^2 and (-4/3 - 1)^2
    ("ipo", TWO, {"beta": 0.5}, [1 / 16, 49 / 9]),
    # (0.8 kept - 0.2 flipped) / 0.6
    (
        "robust", TWO, {"beta": 0.5, "label_smoothing": 0.2},
        [(0.8 * softplus(-1) - 0.2 * softplus(1)) / 0.6, (0.8 * softplus(1) - 0.2 * softplus(-1)) / 0.6],
    ),
    # 2 (-3/2 + 5/4) - 1 = -3/2 and 2 (-2 + 2) - 1 = -1
    ("simpo", TWO, {"beta": 2.0, "gamma": 1.0}, [softplus(3 / 2), softplus(1)]),
    # -ln(1/2) - 0.1 ln sigma(ln 3) = ln 2 - 0.1 ln(3/4); -ln(1/5) - 0.1 ln sigma(-ln 8) = ln 5 - 0.1 ln(1/9)
    ("orpo", ODDS, {"beta": 0.1}, [LN2 - 0.1 * math.log(3 / 4), math.log(5) + 0.1 * math.log(9)]),
    # sigma(ln 3) = 3/4 and sigma(-ln 3) = 1/4: 1 - 3/4 + 1/4 and 1 - 1/4 + 3/4
    ("apo_zero", TWO, {"beta": LN3}, [1 / 2, 3 / 2]),
    # 4 x 3/4 and 4 x -4/3
    ("sigmoid_norm", TWO, {"beta": 4.0}, [softplus(-3), softplus(16 / 3)]),
    ("sft", TWO, {}, [3 / 2, 2.0]),
]  # fmt: skip


def test_every_row_of_the_table_is_worked_by_hand():
    assert {name for name, *_ in BY_HAND} == set(DPO_LOSSES)
    assert len(DPO_LOSSES) == 9


@pytest.mark.parametrize(("name", "pairs", "tunables", "expected"), BY_HAND)
def test_two_pairs_by_hand(name, pairs, tunables, expected):
    assert tunables.keys() == DPO_LOSSES[name].tunables.keys()
    losses = DPO_LOSSES[name].function(pairs, **tunables)
    assert losses.shape == (2,)
    assert losses.tolist() == pytest.approx(expected, abs=1e-12)


def test_known_digits():
    # so that a slip in this file's softplus is seen: ln(1 + 1/e) = 0.31326..., ln(1 + e) = 1.31326...
    losses = DPO_LOSSES["sigmoid"].function(TWO, beta=0.5, label_smoothing=0.0)
    assert losses.tolist() == pytest.approx([0.3132616875, 1.3132616875], abs=1e-9)


@pytest.mark.parametrize("name", DPO_LOSSES)
def test_a_rows_tunables_are_the_functions_keywords_and_its_defaults_are_in_range(name):
    loss = DPO_LOSSES[name]
    pairs, *keywords = inspect.signature(loss.function).parameters.values()
    assert pairs.name == "pairs"
    assert [k.name for k in keywords] == list(loss.tunables)
    assert all(k.kind is inspect.Parameter.KEYWORD_ONLY for k in keywords)
    check_tunables(name, **loss.tunables)


@pytest.mark.parametrize("name", DPO_LOSSES)
def test_a_loss_reads_the_reference_if_and_only_if_it_says_so(name):
    loss = DPO_LOSSES[name]
    other = TWO._replace(ref_chosen=TWO.ref_chosen + 1)
    nan = TWO._replace(ref_chosen=TWO.ref_chosen * math.nan, ref_rejected=TWO.ref_rejected * math.nan)
    expected = loss.function(TWO, **loss.tunables)
    assert torch.equal(loss.function(other, **loss.tunables), expected) != loss.needs_reference
    assert bool(loss.function(nan, **loss.tunables).isfinite().all()) != loss.needs_reference


# --- values where the policy is the reference

AT_EQUALITY = {
    "sigmoid": [({"beta": b, "label_smoothing": e}, LN2) for b in (0.01, 0.1, 5.0) for e in (0.0, 0.1, 0.49)],
    "hinge": [({"beta": b}, 1.0) for b in (0.1, 2.0)],
    "ipo": [({"beta": 0.1}, 25.0), ({"beta": 0.5}, 1.0)],  # 1 / (4 beta^2)
    "robust": [({"beta": b, "label_smoothing": e}, LN2) for b in (0.1, 5.0) for e in (0.0, 0.1, 0.49)],
    "apo_zero": [({"beta": b}, 1.0) for b in (0.1, 5.0)],
    "sigmoid_norm": [({"beta": b}, LN2) for b in (0.1, 5.0)],
}


def test_every_loss_with_a_reference_has_its_value_at_equality():
    assert set(AT_EQUALITY) == {name for name, loss in DPO_LOSSES.items() if loss.needs_reference}


@pytest.mark.parametrize("name", AT_EQUALITY)
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_is_ln2_or_its_like_when_policy_equals_reference(name, dtype):
    chosen, rejected = [-31.7, -0.25], [-12.9, -204.3]
    pairs = make_pairs(chosen, rejected, chosen, rejected, ((9, 2), (4, 70)), dtype)
    for tunables, expected in AT_EQUALITY[name]:
        losses = DPO_LOSSES[name].function(pairs, **tunables)
        assert losses.tolist() == pytest.approx([expected] * 2, rel=3e-6 if dtype == torch.float32 else 1e-12)


def test_losses_without_a_reference_have_theirs_when_both_sides_are_as_likely_per_token():
    # means of -1/2 on every side: simpo ln(1 + e^gamma), orpo 1/2 + beta ln 2
    pairs = make_pairs([-1.0, -3.0], [-2.0, -0.5], lengths=((2, 6), (4, 1)))
    assert DPO_LOSSES["simpo"].function(pairs, beta=2.0, gamma=0.75).tolist() == pytest.approx([softplus(0.75)] * 2)
    assert DPO_LOSSES["orpo"].function(pairs, beta=0.3).tolist() == pytest.approx([0.5 + 0.3 * LN2] * 2)


# --- identities


def random_pairs(number: int = 16, dtype: torch.dtype = torch.float64) -> PairLogps:
    generator = torch.Generator().manual_seed(number)
    lengths = [torch.randint(1, 9, (number,), generator=generator) for _ in range(2)]
    sums = [-3 * torch.rand(number, generator=generator, dtype=dtype) * lengths[i % 2] - 0.05 for i in range(4)]
    return PairLogps(*sums, *lengths)


def swapped(pairs: PairLogps) -> PairLogps:
    chosen, rejected, ref_chosen, ref_rejected, chosen_length, rejected_length = pairs
    return PairLogps(rejected, chosen, ref_rejected, ref_chosen, rejected_length, chosen_length)


def loss(name: str, pairs: PairLogps, **tunables: float) -> Tensor:
    return DPO_LOSSES[name].function(pairs, **tunables)


def margin(pairs: PairLogps) -> Tensor:
    return pairs.chosen - pairs.rejected - pairs.ref_chosen + pairs.ref_rejected


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


def test_robust_without_flips_is_sigmoid():
    pairs = random_pairs()
    clean = loss("sigmoid", pairs, beta=0.7, label_smoothing=0.0)
    close(loss("robust", pairs, beta=0.7, label_smoothing=0.0), clean)
    assert clean.std() > 0.1


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 0.45])
def test_robust_is_unbiased_under_flips_and_smoothing_is_not(epsilon):
    pairs = random_pairs()
    clean = loss("sigmoid", pairs, beta=0.7, label_smoothing=0.0)

    def expectation(name: str) -> Tensor:
        kept = loss(name, pairs, beta=0.7, label_smoothing=epsilon)
        return (1 - epsilon) * kept + epsilon * loss(name, swapped(pairs), beta=0.7, label_smoothing=epsilon)

    close(expectation("robust"), clean)
    assert (expectation("sigmoid") - clean).abs().max() > 0.01


@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_swapping_the_sides_of_a_sigmoid_loss_adds_its_scaled_margin(epsilon):
    # -ln s(-z) + ln s(z) = z, so the difference is (1 - 2 epsilon) z under smoothing, and z over that under robust
    pairs = random_pairs()
    z = 0.7 * margin(pairs)
    for name, factor in (("sigmoid", 1 - 2 * epsilon), ("robust", 1 / (1 - 2 * epsilon))):
        there, back = (loss(name, p, beta=0.7, label_smoothing=epsilon) for p in (pairs, swapped(pairs)))
        close(back - there, factor * z)


def test_swapping_the_sides_of_the_other_losses():
    pairs = random_pairs()
    back = swapped(pairs)
    per_token = (pairs.chosen - pairs.ref_chosen) / pairs.chosen_length
    per_token = per_token - (pairs.rejected - pairs.ref_rejected) / pairs.rejected_length
    # (-m - c)^2 - (m - c)^2 = 4 m c, with c = 1 / (2 beta)
    close(loss("ipo", back, beta=0.5) - loss("ipo", pairs, beta=0.5), 4 * per_token)
    # 1 - s(w) + s(l) and 1 - s(l) + s(w) add up to 2
    close(loss("apo_zero", back, beta=0.3) + loss("apo_zero", pairs, beta=0.3), torch.full((16,), 2.0).double())
    close(loss("sigmoid_norm", back, beta=2.0) - loss("sigmoid_norm", pairs, beta=2.0), 2 * per_token)
    # (1 - x) + (1 + x) while neither is cut off
    narrow = 0.9 / float(margin(pairs).abs().max())
    close(loss("hinge", back, beta=narrow) + loss("hinge", pairs, beta=narrow), torch.full((16,), 2.0).double())


def test_simpo_without_margin_is_the_normalised_sigmoid_against_a_reference_of_zeros():
    pairs = random_pairs()
    zeros = pairs._replace(ref_chosen=torch.zeros(16), ref_rejected=torch.zeros(16))
    close(loss("simpo", pairs, beta=2.5, gamma=0.0), loss("sigmoid_norm", zeros, beta=2.5))


def test_simpos_margin_is_not_scaled_by_beta():
    # equal means: only gamma is left in the sigmoid, whatever beta
    pairs = make_pairs([-1.0, -3.0], [-2.0, -0.5], lengths=((2, 6), (4, 1)))
    for beta in (0.5, 2.0, 10.0):
        assert loss("simpo", pairs, beta=beta, gamma=1.5).tolist() == pytest.approx([softplus(1.5)] * 2)


def test_the_normalised_sigmoid_of_one_token_sides_is_sigmoid():
    pairs = random_pairs()._replace(chosen_length=torch.ones(16), rejected_length=torch.ones(16))
    close(loss("sigmoid_norm", pairs, beta=0.4), loss("sigmoid", pairs, beta=0.4, label_smoothing=0.0))


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_ipo_is_least_at_a_margin_per_token_of_half_the_inverse_of_beta(beta):
    # 5 tokens of 1 / (2 beta) above the reference, the rejected side as the reference has it
    pairs = make_pairs([5 / (2 * beta)] * 2, [-7.0] * 2, [0.0] * 2, [-7.0] * 2, ((5, 5), (3, 3)))
    chosen = pairs.chosen.clone().requires_grad_()
    losses = loss("ipo", pairs._replace(chosen=chosen), beta=beta)
    (gradient,) = torch.autograd.grad(losses.sum(), chosen)
    assert losses.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert gradient.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    for step in (-0.1, 0.1):
        assert (loss("ipo", pairs._replace(chosen=pairs.chosen + step), beta=beta) > 1e-5).all()


def test_hinge_has_no_gradient_from_its_margin_on():
    chosen = torch.tensor([9.9, 10.1], dtype=torch.float64, requires_grad=True)
    pairs = make_pairs([0.0, 0.0], [0.0, 0.0])._replace(chosen=chosen)
    (gradient,) = torch.autograd.grad(loss("hinge", pairs, beta=0.1).sum(), chosen)
    assert gradient.tolist() == pytest.approx([-0.1, 0.0])


def test_orpos_odds_are_exact_near_certainty():
    # p_w = 1 - d, p_l = 1/2: odds of (1 - d) / d and 1, so the second term is -beta ln(1 - d)
    for d in (1e-3, 1e-9, 1e-13):
        pairs = make_pairs([math.log1p(-d)] * 2, [math.log(0.5)] * 2)
        assert loss("orpo", pairs, beta=0.5).tolist() == pytest.approx([-1.5 * math.log1p(-d)] * 2, rel=1e-9)
    # and p_l = 1 - d, p_w = 1/2: -beta ln d
    for d in (1e-3, 1e-9, 1e-13):
        pairs = make_pairs([math.log(0.5)] * 2, [math.log1p(-d)] * 2)
        assert loss("orpo", pairs, beta=0.5).tolist() == pytest.approx([LN2 - 0.5 * math.log(d)] * 2, rel=1e-9)


def test_implicit_rewards_are_scaled_log_ratios():
    chosen, rejected = implicit_rewards(TWO, beta=0.5)
    assert chosen.tolist() == [0.5, -0.5]
    assert rejected.tolist() == [-0.5, 0.5]


# --- gradients and extremes


@pytest.mark.parametrize("name", DPO_LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    pairs, row = random_pairs(6), DPO_LOSSES[name]
    tunables = {key: {"beta": 0.7, "label_smoothing": 0.15, "gamma": 0.5}[key] for key in row.tunables}
    chosen, rejected = (side.clone().requires_grad_() for side in pairs[:2])

    def function(chosen: Tensor, rejected: Tensor) -> Tensor:
        return row.function(pairs._replace(chosen=chosen, rejected=rejected), **tunables)

    assert torch.autograd.gradcheck(function, (chosen, rejected))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 1000])
@pytest.mark.parametrize("name", DPO_LOSSES)
def test_extreme_log_probabilities_give_finite_losses_and_gradients(name, length, dtype):
    sides = torch.tensor([0.0, -1e-45, -1e-30, -1e-12, -1e-7, -1e-3, -1.0, -88.0, -104.0, -1e4], dtype=dtype)
    grid = torch.cartesian_prod(sides, sides, torch.tensor([0.0, -1e4], dtype=dtype))  # margins up to 2e4
    chosen, rejected, reference = (column.clone() for column in grid.unbind(1))
    chosen.requires_grad_(), rejected.requires_grad_()
    lengths = torch.full((len(grid),), length)
    for ref_chosen, ref_rejected in ((reference, -1e4 - reference), (-1e4 - reference, reference)):
        pairs = PairLogps(chosen, rejected, ref_chosen, ref_rejected, lengths, lengths)
        for tunables in (DPO_LOSSES[name].tunables, dict.fromkeys(DPO_LOSSES[name].tunables, 0.49)):
            losses = DPO_LOSSES[name].function(pairs, **tunables)
            gradients = torch.autograd.grad(losses.sum(), (chosen, rejected), allow_unused=name == "sft")
            assert losses.isfinite().all()
            assert gradients[0].isfinite().all()
            assert gradients[1] is None or gradients[1].isfinite().all()


@pytest.mark.parametrize("sign", [1, -1])
def test_saturated_margins_keep_their_slope(sign):
    # at a margin of -1e4 the sigmoid loss is a line of slope beta, at +1e4 it is flat
    chosen = torch.tensor([sign * 1e4] * 2, requires_grad=True)
    pairs = make_pairs([0.0] * 2, [0.0] * 2, dtype=torch.float32)._replace(chosen=chosen)
    losses = loss("sigmoid", pairs, beta=0.1, label_smoothing=0.0)
    (gradient,) = torch.autograd.grad(losses.sum(), chosen)
    assert losses.tolist() == pytest.approx([0.0 if sign > 0 else 1000.0] * 2)
    assert gradient.tolist() == pytest.approx([0.0 if sign > 0 else -0.1] * 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DPO_LOSSES)
def test_the_type_of_the_log_probabilities_is_kept(name, dtype):
    losses = DPO_LOSSES[name].function(random_pairs(4, dtype), **DPO_LOSSES[name].tunables)
    assert losses.dtype == dtype
    assert window_mean(losses, torch.ones(4), torch.tensor(4.0)).dtype == dtype


# --- the window's mean


def test_window_mean_by_hand():
    # (1 * 2 + 1/2 * 6) / (1 + 1/2) = 10/3, and a window of twice the weight gives this part half
    values, weights = torch.tensor([2.0, 6.0]), torch.tensor([1.0, 0.5])
    assert window_mean(values, weights, torch.tensor(1.5)).item() == pytest.approx(10 / 3)
    assert window_mean(values, weights, torch.tensor(3.0)).item() == pytest.approx(5 / 3)


@pytest.mark.parametrize("sizes", [(16,), (8, 8), (1,) * 16, (3, 5, 7, 1)])
@pytest.mark.parametrize("name", DPO_LOSSES)
def test_shares_of_a_cut_window_add_up_to_its_mean_and_gradient(name, sizes):
    pairs, row = random_pairs(), DPO_LOSSES[name]
    weights = torch.rand(16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights[4] = 0  # one that only fills a turn
    chosen = pairs.chosen.clone().requires_grad_()
    pairs = pairs._replace(chosen=chosen)
    whole = (weights * row.function(pairs, **row.tunables)).sum() / weights.sum()
    (expected,) = torch.autograd.grad(whole, chosen)
    parts = [PairLogps(*part) for part in zip(*(tensor.split(sizes) for tensor in pairs), strict=True)]
    shares = [
        window_mean(row.function(part, **row.tunables), weight, weights.sum())
        for part, weight in zip(parts, weights.split(sizes), strict=True)
    ]
    assert len(shares) == len(sizes)
    total = torch.stack(shares).sum()
    close(total, whole)
    (found,) = torch.autograd.grad(total, chosen)
    close(found, expected)
    assert found[4] == 0
    assert found.abs().max() > 0


# --- ranges


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("sigmoid", {"beta": 0.0}, "Expected `beta` of the loss sigmoid to be a finite number > 0, but got 0.0."),
        ("ipo", {"beta": -0.1}, "`beta` of the loss ipo to be a finite number > 0, but got -0.1"),
        ("hinge", {"beta": math.inf}, "`beta` of the loss hinge to be a finite number > 0, but got inf"),
        ("orpo", {"beta": math.nan}, "but got nan"),
        ("robust", {"label_smoothing": 0.5}, r"`label_smoothing` of the loss robust to be in \[0, 0.5\), but got 0.5"),
        ("sigmoid", {"beta": 1.0, "label_smoothing": -0.1}, "`label_smoothing` of the loss sigmoid .* got -0.1"),
        ("simpo", {"gamma": -1.0}, "`gamma` of the loss simpo to be a finite number >= 0, but got -1.0"),
        ("simpo", {"label_smoothing": 0.1}, r"a tunable of the loss simpo \(`beta`, `gamma`\).* `label_smoothing`"),
        ("sft", {"beta": 0.1}, r"a tunable of the loss sft \(none\), but got `beta`"),
        ("kto", {}, "a loss among sigmoid, hinge, .*sft, but got 'kto'"),
    ],
)
def test_a_tunable_out_of_range_is_named_with_its_rule_and_value(name, values, message):
    with pytest.raises(InputError, match=message):
        check_tunables(name, **values)


def test_the_ends_of_the_ranges_are_allowed():
    check_tunables("sigmoid", beta=1e-6, label_smoothing=0.0)
    check_tunables("robust", label_smoothing=0.499)
    check_tunables("simpo", beta=10, gamma=0)
    check_tunables("sft")
