"""pass@k, maj@k, intervals and tests against hand arithmetic and brute force."""

from itertools import combinations
from math import comb

import pytest
import torch

from lemma.metrics import (
    agreement,
    bootstrap_band,
    bootstrap_interval,
    holm,
    maj_at_k,
    mcnemar_exact,
    paired_bootstrap_interval,
    paired_bootstrap_test,
    pass_at_k,
    wilson_interval,
)


def brute_force_maj(votes: list[int], correct: list[bool], k: int) -> float:
    """Enumerate the subsets one by one and share a tie out."""
    total = 0.0
    for subset in combinations(range(len(votes)), k):
        groups: dict[int, list[int]] = {}
        for sample in subset:
            if votes[sample] >= 0:
                groups.setdefault(votes[sample], []).append(sample)
        if groups:
            most = max(map(len, groups.values()))
            top = [members for members in groups.values() if len(members) == most]
            total += sum(correct[members[0]] for members in top) / len(top)
    return total / comb(len(votes), k)


def test_pass_at_k_by_hand():
    # n = 4, c = 1, k = 2: 1 - C(3,2)/C(4,2) = 1 - 3/6. c = 3: no two wrong ones. c = 0: never. c = 4: always.
    values = pass_at_k(torch.tensor([1, 3, 0, 4]), torch.tensor([4, 4, 4, 4]), 2)
    assert values.tolist() == pytest.approx([0.5, 1.0, 0.0, 1.0], abs=1e-15)
    assert values.dtype == torch.float64


def test_pass_at_k_equals_the_share_of_subsets_with_a_correct_sample():
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                subsets = list(combinations([1] * c + [0] * (n - c), k))
                expected = sum(any(subset) for subset in subsets) / len(subsets)
                assert pass_at_k(torch.tensor([c]), torch.tensor([n]), k).item() == pytest.approx(expected, abs=1e-12)


def test_pass_at_1_is_the_share_of_correct_samples():
    assert pass_at_k(torch.tensor([3, 5]), torch.tensor([8, 20]), 1).tolist() == pytest.approx([3 / 8, 1 / 4])


def test_pass_at_k_stays_exact_where_binomials_overflow_a_float():
    expected = 1 - comb(4990, 2000) / comb(5000, 2000)
    value = pass_at_k(torch.tensor([10]), torch.tensor([5000]), 2000).item()
    assert value == pytest.approx(expected, rel=1e-10)


def test_pass_at_k_refuses_fewer_samples_than_k():
    with pytest.raises(ValueError, match="at least k = 3"):
        pass_at_k(torch.tensor([1, 1]), torch.tensor([4, 2]), 3)
    with pytest.raises(ValueError, match="`k`"):
        pass_at_k(torch.tensor([1]), torch.tensor([4]), 0)
    with pytest.raises(ValueError, match="num_correct"):
        pass_at_k(torch.tensor([5]), torch.tensor([4]), 2)


def test_maj_at_k_by_hand():
    # Answers a a b, a is right. Pairs: aa -> 1, ab -> 1/2 (tie), ab -> 1/2: mean 2/3. All three: a wins.
    votes, correct = torch.tensor([[0, 0, 1]]), torch.tensor([[True, True, False]])
    assert maj_at_k(votes, correct, 2).item() == pytest.approx(2 / 3)
    assert maj_at_k(votes, correct, 3).item() == 1.0


def test_maj_at_k_equals_brute_force():
    generator = torch.Generator().manual_seed(0)
    votes = torch.randint(-1, 4, (30, 7), generator=generator)
    correct = votes == 2
    for k in range(1, 8):
        expected = [brute_force_maj(v, c, k) for v, c in zip(votes.tolist(), correct.tolist(), strict=True)]
        assert maj_at_k(votes, correct, k).tolist() == pytest.approx(expected, abs=1e-12)


def test_maj_at_1_equals_pass_at_1():
    votes = torch.tensor([[0, 1, 1, -1], [2, 2, 2, 2]])
    correct = torch.tensor([[True, False, False, False], [True, True, True, True]])
    expected = pass_at_k(correct.sum(dim=1), torch.tensor([4, 4]), 1)
    assert maj_at_k(votes, correct, 1).tolist() == pytest.approx(expected.tolist())


def test_a_sample_without_an_answer_does_not_vote():
    votes, correct = torch.tensor([[-1, -1, -1, 0]]), torch.tensor([[False, False, False, True]])
    assert maj_at_k(votes, correct, 4).item() == 1.0
    # Of the six pairs three hold the one vote.
    assert maj_at_k(votes, correct, 2).item() == 0.5
    assert maj_at_k(torch.full((1, 4), -1), torch.zeros(1, 4, dtype=torch.bool), 4).item() == 0.0


def test_several_ks_at_once_equal_one_at_a_time():
    votes = torch.randint(-1, 3, (10, 6), generator=torch.Generator().manual_seed(2))
    correct = votes == 0
    whole = maj_at_k(votes, correct, [5, 1, 3])
    assert whole.shape == (10, 3)
    for column, k in enumerate((5, 1, 3)):
        assert torch.equal(whole[:, column], maj_at_k(votes, correct, k))
        num_correct, num_total = correct.sum(dim=1), torch.full((10,), 6)
        passing = pass_at_k(num_correct, num_total, [5, 1, 3])[:, column]
        assert torch.equal(passing, pass_at_k(num_correct, num_total, k))


def test_a_group_of_two_minds_counts_by_its_share_of_correct_ones():
    # the same three a, of which two were graded correct, against one b: pairs ab are ties
    votes, correct = torch.tensor([[0, 0, 0, 1]]), torch.tensor([[True, True, False, False]])
    # of six pairs three are aa: share 2/3; three are ab: 1/2 of a's share
    assert maj_at_k(votes, correct, 2).item() == pytest.approx((3 * 2 / 3 + 3 * 2 / 3 / 2) / 6)
    assert maj_at_k(votes, correct, 3).item() == pytest.approx(2 / 3)


def test_maj_at_k_of_many_samples_equals_the_mean_over_drawn_subsets():
    # 4,000 of C(64, 9) = 2.8e10 subsets: four standard errors are at most 4 * 0.5 / sqrt(4000) = 0.032
    generator = torch.Generator().manual_seed(1)
    votes = torch.tensor([0] * 20 + [1] * 19 + [2] * 15 + [-1] * 10)
    drawn = torch.rand(4000, 64, generator=generator).topk(9, dim=1).indices
    estimate = sum(brute_force_maj(v, [one == 0 for one in v], 9) for v in votes[drawn].tolist()) / 4000
    exact = maj_at_k(votes[None], votes[None] == 0, 9).item()
    assert 0.3 < exact < 0.6
    assert abs(estimate - exact) < 0.032


@pytest.mark.parametrize("num_samples", [256, 1100], ids=["floats", "integers"])
def test_maj_at_k_is_exact_for_hundreds_of_samples(num_samples):
    # two answers, no blanks, k = 3: the majority has at least two of three, C(a,2) (n-a) + C(a,3) of C(n,3)
    a = num_samples * 5 // 9
    votes = torch.tensor([[0] * a + [1] * (num_samples - a)])
    expected = (comb(a, 2) * (num_samples - a) + comb(a, 3)) / comb(num_samples, 3)
    values = maj_at_k(votes, votes == 0, [3, num_samples])[0].tolist()
    assert values == pytest.approx([expected, 1.0], rel=1e-12)


def test_maj_at_k_stays_exact_where_counts_overflow_a_float():
    # C(1200, 600) is about 1e360; two equal halves tie or win in turn, so that each has one half
    votes = torch.tensor([[0, 1] * 600])
    assert maj_at_k(votes, votes == 0, 600).item() == pytest.approx(0.5, abs=1e-12)


def test_agreement_by_hand():
    # a a b: one of three pairs. a a none none: one of six. All the same: all.
    assert agreement(torch.tensor([[0, 0, 1]])).item() == pytest.approx(1 / 3)
    assert agreement(torch.tensor([[0, 0, -1, -1], [7, 7, 7, 7], [-1, -1, -1, -1]])).tolist() == pytest.approx(
        [1 / 6, 1.0, 0.0]
    )
    assert agreement(torch.tensor([[0]])).isnan().all()


def test_maj_at_k_refuses_bad_shapes_and_k():
    votes, correct = torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="at least k = 4"):
        maj_at_k(votes, correct, 4)
    with pytest.raises(ValueError, match="one shape"):
        maj_at_k(votes, correct[:1], 2)


def test_wilson_interval_equals_the_published_example():
    # Newcombe 1998, table I, method 3: 81 of 263 -> 0.2553 to 0.3662; 0 of 20 -> 0 to 0.1611.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    low, high = wilson_interval(20, 20)
    assert high == 1.0
    assert low == pytest.approx(1 - 0.1611, abs=5e-5)


@pytest.mark.parametrize("arguments", [(1, 0), (3, 2), (-1, 2), (1, 2, 1.0)])
def test_wilson_interval_refuses_impossible_counts(arguments: tuple):
    with pytest.raises(ValueError, match="Expected"):
        wilson_interval(*arguments)


def test_bootstrap_interval_agrees_with_the_normal_approximation_and_repeats_itself():
    values = (torch.arange(400) % 4 == 0).double()  # mean 0.25, standard error sqrt(0.25 * 0.75 / 400) = 0.02165
    state = torch.get_rng_state()
    low, high = bootstrap_interval(values, seed=3, num_resamples=4000)
    assert (low, high) == pytest.approx((0.25 - 1.96 * 0.02165, 0.25 + 1.96 * 0.02165), abs=0.004)
    assert (low, high) == bootstrap_interval(values, seed=3, num_resamples=4000)
    assert torch.equal(state, torch.get_rng_state())


def test_bootstrap_interval_leaves_out_problems_without_a_value():
    assert bootstrap_interval(torch.tensor([0.5, torch.nan, 0.5]), seed=0, num_resamples=100) == (0.5, 0.5)
    with pytest.raises(ValueError, match="at least one problem"):
        bootstrap_interval(torch.tensor([torch.nan]), seed=0)


def test_paired_interval_cancels_what_the_two_share():
    a = torch.rand(200, generator=torch.Generator().manual_seed(0))
    assert paired_bootstrap_interval(a, a + 0.125, seed=0, num_resamples=500) == pytest.approx((0.125, 0.125), abs=1e-6)
    with pytest.raises(ValueError, match="one shape"):
        paired_bootstrap_interval(a, a[:3], seed=0)


def test_a_band_is_the_interval_of_each_column():
    values = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)).double()
    low, high = bootstrap_band(values, seed=5, num_resamples=800)
    for column in range(3):
        expected = bootstrap_interval(values[:, column], seed=5, num_resamples=800)
        assert (low[column].item(), high[column].item()) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_by_hand():
    # 12 flips, 2 lost: 2 (C(12,0) + C(12,1) + C(12,2)) / 2^12 = 2 * 79 / 4096
    assert mcnemar_exact(10, 2) == mcnemar_exact(2, 10) == 158 / 4096
    assert mcnemar_exact(0, 0) == mcnemar_exact(3, 3) == 1.0
    assert mcnemar_exact(2000, 1500) < 1e-16  # thousands of flips overflow nothing
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar_exact(-1, 2)


def test_holm_by_hand():
    # sorted: .005 * 4 = .02, .01 * 3 = .03, .03 * 2 = .06, .04 * 1 = .04 but never below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_paired_test_sees_what_is_and_not_what_is_chance():
    a = torch.rand(200, generator=torch.Generator().manual_seed(0)).double()
    noise = torch.rand(200, generator=torch.Generator().manual_seed(1)).double() - 0.5
    assert paired_bootstrap_test(a, a, seed=0) == 1.0
    assert paired_bootstrap_test(a, a + noise - noise.mean(), seed=0) > 0.9
    assert paired_bootstrap_test(a, a + 0.2 + noise, seed=0) < 0.001
    assert paired_bootstrap_test(a + 0.2 + noise, a, seed=0) < 0.001
    with pytest.raises(ValueError, match="one shape"):
        paired_bootstrap_test(a, a[:3], seed=0)


def test_three_problems_that_all_gain_are_no_proof():
    # eight ways to sign three gains, two of them all alike: 2 / 8
    a = torch.tensor([0.1, 0.2, 0.3])
    assert paired_bootstrap_test(a, a + 0.5, seed=0) == 0.25


def test_a_paired_test_agrees_with_its_interval():
    # p < 5 % just where 0 is outside of the 95 % interval
    generator = torch.Generator().manual_seed(3)
    a = torch.zeros(60)
    for shift in (0.02, 0.05, 0.1):
        b = torch.rand(60, generator=generator).double() - 0.5 + shift
        low, high = paired_bootstrap_interval(a, b, seed=7)
        assert (paired_bootstrap_test(a, b, seed=7) < 0.05) == (low > 0 or high < 0)
