"""Worked examples: their answers are right, none is evaluated, and they show the format of the run."""

import itertools
import math
from fractions import Fraction

import pytest

from lemma.answers import extract_answer
from lemma.prompts import ANSWER_FORMATS, PromptArgs, choose_shots, prompt_texts, render_messages, template_hash
from lemma.types import InputError

SHOTS = {shot.id: shot for shots in prompt_texts()["shots"].values() for shot in shots}


def first(numbers, holds):
    return next(n for n in numbers if holds(n))


def grid_paths_through(start, end, via):
    """Return the number of monotone paths, walked one by one."""

    def paths(at):
        if at == end:
            return [[at]]
        steps = [(at[0] + 1, at[1]), (at[0], at[1] + 1)]
        return [[at, *rest] for step in steps if step[0] <= end[0] and step[1] <= end[1] for rest in paths(step)]

    return sum(via in path for path in paths(start))


def committees():
    return sum(0 < sum(person < 5 for person in group) < 4 for group in itertools.combinations(range(11), 4))


def arrangements(word):  # letters placed one after the other
    states = {tuple(sorted(word)): 1}
    for _ in word:
        after = {}
        for left, count in states.items():
            for letter in set(left):
                rest = list(left)
                rest.remove(letter)
                after[tuple(rest)] = after.get(tuple(rest), 0) + count
        states = after
    return states[()]


COMPUTED = {
    "algebra/0": lambda: first((fee + 7 * p for p in range(18) for fee in (17 - 4 * p,) if fee + 10 * p == 35), bool),
    "algebra/1": lambda: round(sum(((7 + sign * math.sqrt(29)) / 2) ** 2 for sign in (1, -1)), 9),
    "algebra/2": lambda: first(range(-100, 100), lambda x: x not in (2, -4) and 3 * (x + 4) == 5 * (x - 2)),
    "algebra/3": lambda: sum(6 + 5 * k for k in range(9)) if 6 + 5 * 8 == 46 else None,
    "algebra/4": lambda: round(8 ** (math.log2(5) + 1), 6),
    "algebra/5": lambda: (f := lambda x: Fraction(x) / (x + 3))(f(2)),
    "arithmetic/0": lambda: (14 * 24 - 289) % 6,
    "arithmetic/1": lambda: 140 - 18 - 2 * 18 - (2 * 18 - 7),
    "arithmetic/2": lambda: Fraction(3, 4) + Fraction(5, 6) - Fraction(1, 3),
    "arithmetic/3": lambda: (13 * 60 + 12) - (9 * 60 + 47) - 19,
    "arithmetic/4": lambda: 80 * Fraction(85, 100) * Fraction(90, 100),
    "arithmetic/5": lambda: first(range(100), lambda x: 17 + 25 + 31 + x == 4 * 23),
    "combinatorics/0": lambda: sum(len(set(str(n))) == 4 and set(str(n)) <= set("13579") for n in range(1000, 10000)),
    "combinatorics/1": lambda: sum(n % 4 == 0 or n % 6 == 0 for n in range(1, 351)),
    "combinatorics/2": lambda: arrangements("LEVELLED"),
    "combinatorics/3": lambda: Fraction(sum(a * b % 6 == 0 for a in range(1, 7) for b in range(1, 7)), 36),
    "combinatorics/4": committees,
    "combinatorics/5": lambda: grid_paths_through((0, 0), (5, 4), (2, 2)),
    "geometry/0": lambda: first(((w + 9) * w for w in range(1, 40) if 2 * (w + 9 + w) == 62), bool),
    "geometry/1": lambda: Fraction(20 * 21, math.isqrt(20**2 + 21**2)),
    "geometry/2": lambda: math.pi * 5**2 - math.pi * 3**2,
    "geometry/3": lambda: abs(1 * (4 - 9) + 7 * (9 - 2) + 3 * (2 - 4)) / 2,
    "geometry/4": lambda: math.dist((0, 0, 0), [math.sqrt(150 / 6)] * 3),
    "geometry/5": lambda: first(range(3, 100), lambda n: (n - 2) * 180 == 1980),
    "number_theory/0": lambda: 3**87 % 11,
    "number_theory/1": lambda: len(str(math.factorial(130))) - len(str(math.factorial(130)).rstrip("0")),
    "number_theory/2": lambda: first(range(2, 1000, 2), lambda n: n % 5 == 2 and n % 7 == 3),
    "number_theory/3": lambda: sum(1800 % n == 0 for n in range(1, 1801)),
    "number_theory/4": lambda: max(n for n in range(5030, 6000) if n % 45 == 0 and str(n)[2] == "3"),
    "number_theory/5": lambda: math.gcd(1518, 2622),
}
IRRATIONAL = {r"16\pi": 16 * math.pi, r"5\sqrt{3}": 5 * math.sqrt(3)}


def value(answer: str) -> Fraction | float:
    if answer in IRRATIONAL:
        return IRRATIONAL[answer]
    return Fraction(answer.removeprefix(r"\frac{").rstrip("}").replace("}{", "/"))


def test_there_are_at_least_six_examples_in_each_category_no_two_alike():
    shots = prompt_texts()["shots"]
    assert list(shots) == ["algebra", "arithmetic", "combinatorics", "geometry", "number_theory"]
    assert all(len(rows) >= 6 for rows in shots.values())
    assert len({shot.problem for shot in SHOTS.values()}) == len(SHOTS)


def test_every_answer_is_what_a_computation_gives():
    assert set(COMPUTED) == set(SHOTS)
    for name, shot in SHOTS.items():
        assert float(value(shot.answer)) == pytest.approx(float(COMPUTED[name]()), abs=1e-9), name


def test_every_solution_states_its_answer_and_every_format_reads_it_back():
    for shot, answer_format in itertools.product(SHOTS.values(), ANSWER_FORMATS):
        assert shot.answer in shot.solution
        assert extract_answer(ANSWER_FORMATS[answer_format](shot.solution, shot.answer)).answer == shot.answer


def ids(prompt, *tested):
    return [shot.id for shot in choose_shots(prompt, {SHOTS[name].problem for name in tested}.__contains__)]


def test_examples_come_from_each_category_in_turn():
    assert ids(PromptArgs(shots=7)) == [
        *("algebra/0", "arithmetic/0", "combinatorics/0", "geometry/0", "number_theory/0"),
        *("algebra/1", "arithmetic/1"),
    ]
    assert ids(PromptArgs(shots=3, categories=["geometry", "algebra"])) == ["geometry/0", "algebra/0", "geometry/1"]
    assert ids(PromptArgs(categories=["geometry"])) == []


def test_no_evaluated_problem_is_an_example():
    geometry = PromptArgs(shots=3, categories=["geometry"])
    assert ids(geometry, "geometry/0", "geometry/2") == ["geometry/1", "geometry/3", "geometry/4"]
    assert ids(geometry, "algebra/0") == ids(geometry) == ["geometry/0", "geometry/1", "geometry/2"]


def test_too_few_examples_are_an_error_that_names_the_evaluated_ones():
    with pytest.raises(
        InputError,
        match=r"data\.prompt\.shots: expected at most 5, which is what geometry have, but got 6\. geometry/1 are among",
    ):
        ids(PromptArgs(shots=6, categories=["geometry"]), "geometry/1")
    with pytest.raises(InputError, match=r"expected at most 6, which is what geometry have, but got 7\. Take other"):
        PromptArgs(shots=7, categories=["geometry"])


def test_examples_are_asked_as_the_problem_is_and_answered_as_a_policy_is_trained_to():
    for template, answer_format in itertools.product(prompt_texts()["templates"], ANSWER_FORMATS):
        prompt = PromptArgs(template, "tutor", answer_format, shots=2)
        messages = render_messages("1 + 1?", prompt)
        assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * 2, "user"]
        for shot, asked, answered in zip(choose_shots(prompt), messages[1:-1:2], messages[2::2], strict=True):
            assert asked == render_messages(shot.problem, prompt)[-1]
            assert answered["content"] == ANSWER_FORMATS[answer_format](shot.solution, shot.answer)


def test_the_hash_covers_the_examples_that_were_chosen():
    prompt = PromptArgs(shots=2)
    default, others = choose_shots(prompt), choose_shots(prompt, SHOTS["algebra/0"].problem.__eq__)
    assert default != others
    hashes = [template_hash(prompt, "chat", shots) for shots in (None, default, others, [])]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    assert hashes[3] == template_hash(PromptArgs(), "chat")


def test_a_persona_stands_before_the_system_prompt_and_alone_is_one():
    persona = "You are Ada, a careful mathematician."
    expert = prompt_texts()["systems"]["expert"]
    alone, both = PromptArgs(persona=persona), PromptArgs(system="expert", persona=persona)
    assert render_messages("?", alone)[0] == {"role": "system", "content": persona}
    assert render_messages("?", both)[0] == {"role": "system", "content": f"{persona}\n{expert}"}
    hashes = {template_hash(prompt, "") for prompt in (PromptArgs(), alone, both, PromptArgs(system="expert"))}
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"shots": -1}, r"shots: expected 0 to 8, but got -1"),
        ({"shots": 9}, r"shots: expected 0 to 8, but got 9"),
        ({"template": "few_shot"}, r"shots: expected 1 to 8 with the template few_shot, but got 0"),
        ({"categories": ["topology"]}, r"categories: expected one of algebra, .*, but got 'topology'"),
        ({"categories": []}, r"categories: expected null or different categories, but got \[\]"),
        ({"categories": ["algebra", "algebra"]}, r"categories: expected null or different categories"),
        ({"persona": ""}, r"persona: expected one line, but got ''"),
        ({"persona": "You are\nAda."}, r"persona: expected one line"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, complaint):
    with pytest.raises(InputError, match=rf"data\.prompt\.{complaint}"):
        PromptArgs(**settings)
