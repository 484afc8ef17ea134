"""Groups of made-up tokens, and what turns them into a rollout."""

import pytest
import torch

from lemma.generation import Sample
from lemma.rollouts import Group, Rollout
from lemma.types import Problem, Verdict


@pytest.fixture
def make_groups():
    """Return a function of (number, group_size, longest) that makes groups of ragged prompts and completions."""

    def make(number: int = 4, group_size: int = 4, longest: int = 9) -> list[Group]:
        draw = torch.Generator().manual_seed(0)

        def ids(least: int, most: int) -> list[int]:
            size = int(torch.randint(least, most + 1, (), generator=draw))
            return torch.randint(3, 97, (size,), generator=draw).tolist()

        groups = []
        for index in range(number):
            completions = [ids(1, longest) for _ in range(group_size)]
            samples = [Sample(row, torch.randn(len(row), generator=draw).tolist(), i % 3 > 0)
                       for i, row in enumerate(completions)]  # fmt: skip
            groups.append(
                Group(
                    Problem(f"p{index}", "toy", "What?", answer="7", level=2),
                    ids(1, 12),
                    samples,
                    texts=[f"text {i}" for i in range(group_size)],
                    verdicts=[Verdict.CORRECT, Verdict.WRONG] * (group_size // 2),
                    predictions=["7", None] * (group_size // 2),
                    rewards=[[1.5, None], [None, None]] * (group_size // 2),
                    index=10 + index,
                    corpus=index % 2,
                )
            )
        return groups

    return make


@pytest.fixture
def make_rollout(make_groups):
    """Return a function of the arguments of ``make_groups`` that makes a rollout, three rows of which do not count."""

    def make(number: int = 4, group_size: int = 4, longest: int = 9) -> Rollout:
        size = number * group_size
        counted = torch.arange(size) % 5 != 4
        return Rollout(
            make_groups(number, group_size, longest), torch.linspace(-1, 1, size), counted, max_length=longest
        )

    return make
