"""Laws of the procedural corpus: disjoint splits, true equations, stable order."""

import itertools
import re
from collections import Counter

import pytest

from lemma.corpora import arithmetic
from lemma.corpora.arithmetic import LEVELS, SPLITS, generate, skeletons, write
from lemma.types import InputError

EQUATION = re.compile(r"^[A-Z][A-Za-z ]*: (\d+) ([-+*/]) (\d+) = (\d+)$")


def test_splits_share_no_skeleton():
    by_split = {split: {s for level in LEVELS for s in skeletons(split, level)} for split in SPLITS}
    assert sum(map(len, by_split.values())) == len(set.union(*by_split.values())) > 50_000


def test_splits_share_no_problem_even_with_names_removed():
    names = re.compile(rf"\b({'|'.join((*arithmetic._NAMES, *arithmetic._THINGS))})\b")
    seen: dict[str, str] = {}
    for split in SPLITS:
        for problem in generate(split, num_problems=1400):
            assert seen.setdefault(names.sub("_", problem.problem), split) == split


@pytest.mark.parametrize("split", SPLITS)
def test_every_equation_is_true_and_the_answer_is_the_last_result(split):
    for problem in generate(split, num_problems=2100):
        results = []
        for line in problem.solution.splitlines():
            left, operator, right, result = EQUATION.match(line).groups()
            left, right, result = int(left), int(right), int(result)
            if operator == "/":
                assert left == right * result
            else:
                assert result == {"+": left + right, "-": left - right, "*": left * right}[operator]
            assert 1 <= result <= arithmetic.LARGEST
            results.append(result)
        assert problem.answer == str(results[-1])


def test_every_operand_of_a_solution_is_in_the_question_or_is_an_earlier_result():
    for problem in generate("train", num_problems=2100):
        known = re.findall(r"\d+", problem.problem)
        for line in problem.solution.splitlines():
            left, _, right, result = EQUATION.match(line).groups()
            assert {left, right} <= set(known)
            known.append(result)
        assert not set("{}") & set(problem.problem + problem.solution)


def test_solution_carries_on_from_a_wrong_result():
    skeleton = skeletons("train", 7)[0]
    problem = write("x", skeleton, lambda left, operator, right: ("-", arithmetic.calculate(left, operator, right) + 1))
    equations = [EQUATION.match(line).groups() for line in problem.solution.splitlines()]
    assert len(equations) == 3
    for (*_, result), (left, _, right, _) in itertools.pairwise(equations):
        assert result in (left, right)
    assert problem.answer == equations[-1][3]
    assert {operator for _, operator, _, _ in equations} == {"-"}


def test_same_request_gives_same_problems_and_another_seed_another_order():
    assert generate("test", num_problems=70, seed=3) == generate("test", num_problems=70, seed=3)
    assert generate("test", num_problems=70, seed=3) != generate("test", num_problems=70, seed=4)


def test_known_problem_stays_the_same():
    """A changed template table or hash would move problems between splits under a trained model."""
    first = generate("test", num_problems=1)[0]
    problem = "There are 66 marbles in one box and 30 in another box. How many marbles are there in all?"
    assert (first.id, first.problem, first.answer) == ("test/1/000969", problem, "96")


@pytest.mark.parametrize("levels", [LEVELS, (2, 7), (5,)])
def test_shorter_list_is_the_beginning_of_a_longer_one(levels):
    longest = generate("validation", num_problems=200, levels=levels)
    for num_problems in (1, 6, 7, 8, 199):
        assert generate("validation", num_problems=num_problems, levels=levels) == longest[:num_problems]


def test_levels_have_equal_shares():
    counts = Counter(problem.level for problem in generate("train", num_problems=703))
    assert counts == {level: 101 if level <= 3 else 100 for level in LEVELS}
    assert {problem.level for problem in generate("train", num_problems=9, levels=(4, 6))} == {4, 6}


def test_an_id_names_one_problem_whatever_the_seed():
    problems = [p for seed in (0, 1) for p in generate("validation", num_problems=3500, seed=seed)]
    by_id = {problem.id: problem for problem in problems}
    assert all(by_id[problem.id] == problem for problem in problems)
    assert len(by_id) < len(problems)


def test_no_problem_comes_twice_even_when_a_split_is_exhausted():
    level = 6
    available = len(skeletons("train", level))
    problems = generate("train", num_problems=available, levels=(level,))
    assert len({problem.id for problem in problems}) == len({problem.problem for problem in problems}) == available


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_has_enough_problems(level):
    assert len(skeletons("train", level)) >= 3000
    assert len(skeletons("test", level)) >= 200


def test_asking_for_too_many_problems_names_how_many_there_are():
    available = len(skeletons("test", 6))
    with pytest.raises(InputError, match=f"at most {available} problems of level 6"):
        generate("test", num_problems=available + 1, levels=(6,))


@pytest.mark.parametrize(
    ("split", "num_problems", "levels", "message"),
    [
        ("dev", 7, LEVELS, "`split`.*'dev'"),
        ("test", 0, LEVELS, "`num_problems`.*0"),
        ("test", 7, (1, 8), r"`levels`.*\[1, 8\]"),
        ("test", 7, (1, 1), r"`levels`.*\[1, 1\]"),
        ("test", 7, (), r"`levels`.*\[\]"),
    ],
)
def test_wrong_request_is_refused_by_name(split, num_problems, levels, message):
    with pytest.raises(InputError, match=message):
        generate(split, num_problems=num_problems, levels=levels)
