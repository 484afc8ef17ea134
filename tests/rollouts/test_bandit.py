"""Bandits worked by hand, against uniform choice on arms of known worth, and with a posterior for each context."""

import random
from collections import Counter

import pytest

from lemma.rollouts import BanditArgs, Posterior
from lemma.types import InputError, Problem

RATES = (0.15, 0.3, 0.7, 0.25)


def problem(number: int, *, level: int | None = 1, source: str = "toy") -> Problem:
    return Problem(str(number), source, "?", answer="1", level=level)


def posterior(name: str, num_arms: int = 3, **options) -> Posterior:
    return Posterior(BanditArgs(name, **options), num_arms)


def known(name: str, pulls: list[int], rewards: list[float]) -> Posterior:
    """Return a posterior after so many pulls of each arm, which earned so much together."""
    bandit = posterior(name, len(pulls))
    tally = bandit._tally(problem(0))
    tally.pulls, tally.rewards = pulls, rewards
    return bandit


def simulate(name: str, seed: int, *, rounds: int = 12, size: int = 25) -> float:
    """Return the regret of eight pulls a problem: what always the best arm would have earned more, on average."""
    bandit, world, regret = posterior(name, len(RATES)), random.Random(seed), 0.0
    for number in range(rounds):
        some = [problem(number * size + i) for i in range(size)]
        chosen = [bandit.choose(each, 8, seed=seed) for each in some]
        for each, arms in zip(some, chosen, strict=True):
            regret += sum(max(RATES) - RATES[arm] for arm in arms)
            bandit.earn(each, arms, [float(world.random() < RATES[arm]) for arm in arms])
    return regret


def test_ucb1_takes_the_largest_bound_and_counts_what_is_pending():
    # t = 25: 0.8 + sqrt(2 ln 25 / 10) = 1.602 | 0.5 + 0.802 = 1.302 | 0.4 + sqrt(2 ln 25 / 5) = 1.535 -> arm 0
    # t = 26: 0.8 + sqrt(2 ln 26 / 11) = 1.570 |                     | 0.4 + sqrt(2 ln 26 / 5) = 1.542 -> arm 0
    # t = 27: 0.8 + sqrt(2 ln 27 / 12) = 1.541 |                     | 0.4 + sqrt(2 ln 27 / 5) = 1.548 -> arm 2
    assert known("ucb1", [10, 10, 5], [8.0, 5.0, 2.0]).choose(problem(1), 3, seed=0) == [0, 0, 2]


def test_ucb1_begins_with_every_arm_once():
    assert sorted(posterior("ucb1", 5).choose(problem(1), 5, seed=0)) == [0, 1, 2, 3, 4]


def test_thompson_draws_from_the_posterior():
    # after one right of arm 0 and one wrong of arm 1: P(Beta(2, 1) > Beta(1, 2)) = 5/6
    bandit = known("thompson", [1, 1], [1.0, 0.0])
    first = sum(bandit.choose(problem(number), 1, seed=0) == [0] for number in range(3000)) / 3000
    assert first == pytest.approx(5 / 6, abs=3 * (5 / 36 / 3000) ** 0.5)


def test_uniform_takes_all_in_turn_whatever_they_earn():
    bandit = posterior("uniform", 3)
    for number in range(10):
        arms = bandit.choose(problem(number), 8, seed=0)
        bandit.earn(problem(number), arms, [float(arm == 0) for arm in arms])
    assert sorted(bandit.contexts["level_1"].pulls) == [26, 27, 27]


@pytest.mark.parametrize("name", ["ucb1", "thompson"])
def test_regret_is_below_half_of_uniforms_on_every_seed(name):
    for seed in range(5):
        assert simulate(name, seed) < simulate("uniform", seed) / 2


@pytest.mark.parametrize("name", ["ucb1", "thompson", "uniform"])
def test_a_choice_follows_from_the_posterior_the_run_and_the_problem(name):
    def choices(seed: int) -> list[list[int]]:
        bandit = posterior(name, 4)
        return [bandit.choose(problem(number), 8, seed=seed) for number in range(6)]

    assert choices(0) == choices(0)
    assert choices(0) != choices(1)


@pytest.mark.parametrize(
    ("by", "same", "other"),
    [
        ("level", problem(1, source="else"), problem(1, level=2)),
        ("level", problem(1, source="else"), problem(1, level=None)),
        ("source", problem(1, level=2), problem(1, source="else")),
    ],
)
def test_each_context_has_a_posterior_of_its_own(by, same, other):
    bandit = posterior("thompson", 2, by=by)
    for number in range(60):
        bandit.choose(problem(number), 2, seed=0)
        bandit.earn(problem(number), [0, 1], [1.0, 0.0])
    taken = Counter(bandit.choose(same, 100, seed=0))
    assert taken[0] > 95
    assert 30 < Counter(bandit.choose(other, 100, seed=0))[0] < 70
    assert len(bandit.contexts) == 2


def test_without_contexts_everything_is_learnt_together():
    bandit = posterior("thompson", 2, by="none")
    bandit.earn(problem(1), bandit.choose(problem(1), 2, seed=0), [1.0, 0.0])
    bandit.earn(problem(2, level=None), bandit.choose(problem(2, source="else"), 2, seed=0), [1.0, 0.0])
    assert list(bandit.contexts) == ["all"]
    assert sum(bandit.contexts["all"].pulls) == 4


def test_nothing_is_pending_after_a_round():
    bandit = posterior("ucb1", 3)
    chosen = [bandit.choose(problem(number), 8, seed=0) for number in range(4)]
    assert sum(bandit.contexts["level_1"].pending) == 32
    for number, arms in enumerate(chosen):
        bandit.earn(problem(number), arms, [0.5] * 8)
    assert bandit.contexts["level_1"].pending == [0, 0, 0]
    assert sum(bandit.contexts["level_1"].rewards) == 16.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "greedy"}, "model.bandit.name: expected one of ucb1, thompson, uniform, but got 'greedy'"),
        ({"by": "length"}, "model.bandit.by: expected one of level, source, none"),
        ({"reward": "speed"}, "model.bandit.reward: expected one of correct, total"),
        ({"exploration": 0.0}, "model.bandit.exploration: expected a number above 0, but got 0.0"),
        ({"prior": (1.0, 0.0)}, r"model.bandit.prior: expected two numbers above 0, but got \[1.0, 0.0\]"),
    ],
)
def test_what_there_is_not_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        BanditArgs(**options)
