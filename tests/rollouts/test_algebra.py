"""Which numbers go together: the check against cutting by brute force, and what it says instead."""

import itertools
import re

import pytest

from lemma.rollouts import RolloutSize
from lemma.types import InputError

NUMBERS = list(itertools.product(range(1, 7), (2, 3, 4, 6), range(1, 13), range(1, 4), range(1, 4)))


def passes(size: RolloutSize) -> bool:
    try:
        size.check()
    except InputError:
        return False
    return True


def cut(problems: int, group_size: int, batch_size: int, accumulate: int, ranks: int) -> bool:
    """Return whether a rollout can be dealt out by hand: whole problems a rank, full batches, no open window."""
    held = [0] * ranks
    for problem in range(problems):
        held[problem % ranks] += group_size
    if len(set(held)) > 1:
        return False
    rows = [(row // group_size) for row in range(held[0])]  # the group of each row of a rank
    batches = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
    if len(batches[-1]) < batch_size or len(batches) % accumulate:
        return False
    within = all(len(set(batch)) == 1 for batch in batches)
    whole = all(batch.count(group) == group_size for batch in batches for group in batch)
    return within or whole


def test_check_takes_exactly_what_can_be_cut():
    taken = [numbers for numbers in NUMBERS if passes(RolloutSize(*numbers))]
    assert taken == [numbers for numbers in NUMBERS if cut(*numbers)]
    assert len(taken) > 100


def test_valid_cuts_are_what_check_takes():
    for problems, group_size, ranks in itertools.product(range(1, 7), (2, 4, 6), (1, 2, 3)):
        listed = RolloutSize(problems, group_size, 1, 1, ranks).valid_cuts()
        tried = itertools.product(range(1, problems * group_size + 1), repeat=2)
        assert sorted(listed) == [cut for cut in tried if passes(RolloutSize(problems, group_size, *cut, ranks))]


def test_the_numbers_of_a_rollout_by_hand():
    size = RolloutSize(problems=32, group_size=8, batch_size=16, accumulate=2, ranks=2)
    size.check()
    assert (size.completions, size.window_size, size.micro_batches) == (256, 64, 8)
    assert (size.windows, size.steps_per_rollout) == (4, 4)
    assert size.describe() == (
        "32 problems x 8 completions = 256 a rollout; 4 optimiser steps of 64 (batch_size 16 x accumulate 2 x ranks 2),"
        " 1 pass"
    )
    twice = RolloutSize(problems=8, group_size=4, batch_size=32, num_iterations=2)
    assert twice.steps_per_rollout == 2
    assert twice.describe().endswith("1 optimiser step of 32 (batch_size 32 x accumulate 1 x ranks 1), 2 passes")


def test_ranks_share_the_problems_and_windows_of_whole_groups_are_the_same_on_any_number_of_ranks():
    def windows(batch_size: int, accumulate: int, ranks: int) -> list[set[int]]:
        size = RolloutSize(12, 4, batch_size, accumulate, ranks)
        size.check()
        shares = [size.share(rank).tolist() for rank in range(ranks)]
        assert sorted(problem for share in shares for problem in share) == list(range(12))
        assert len({len(share) for share in shares}) == 1
        groups = batch_size * accumulate // 4
        return [
            {problem for share in shares for problem in share[first : first + groups]}
            for first in range(0, len(shares[0]), groups)
        ]

    one = windows(24, 1, 1)
    assert len(one) == 2
    assert one == windows(12, 2, 1) == windows(12, 1, 2) == windows(4, 3, 2) == windows(8, 1, 3) == windows(2, 4, 3)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((32, 8, 12), "data.batch_size: expected a multiple or a divisor of model.group_size = 8, but got 12. With this"
         " accumulation, batch_size may be 2, 4, 8, 16, 32, 64."),
        ((30, 8, 16, 4), "30 x 8 = 240 to be a multiple of the window, data.batch_size x "
         "trainer.accumulate_grad_batches x ranks (trainer.devices x trainer.num_nodes) = 16 x 4 x 1 = 64. With this "
         "accumulation, batch_size may be 1, 2, 4. With this batch_size, accumulate_grad_batches may be 1, 3, 5, 15."),
        ((31, 8, 8, 1, 2), "model.problems_per_rollout: expected a multiple of the 2 ranks (trainer.devices x"
         " trainer.num_nodes), but got 31. Nearest: 30 or 32."),
        ((1, 8, 8, 1, 2), "but got 1. Nearest: 2."),
        ((5, 2, 3, 7), "data.batch_size: expected a multiple or a divisor of model.group_size = 2, but got 3. Nearest: "
         "batch_size 2 with accumulate_grad_batches 5."),
        ((4, 1, 1), "model.group_size: expected at least 2, but got 1."),
        ((0, 2, 1), "model.problems_per_rollout: expected at least 1, but got 0."),
        ((4, 2, 1, 1, 1, 0), "model.num_iterations: expected at least 1, but got 0."),
    ],
)  # fmt: skip
def test_a_refusal_names_the_keys_and_what_would_do(numbers, message):
    with pytest.raises(InputError, match=re.escape(message)):
        RolloutSize(*numbers).check()
