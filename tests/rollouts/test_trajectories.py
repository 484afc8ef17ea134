"""From arms to rows: what is asked of which engine call, what a row says, and rewards worked by hand."""

import pytest

from lemma.answers import Grader
from lemma.encoding import ChatEncoder
from lemma.evaluation import Progress, Record
from lemma.generation import Sample
from lemma.prompts import PromptArgs
from lemma.rewards.coherence import CoherenceArgs
from lemma.rollouts import Arm, ArmArgs, RoundItem, TrajectorySettings, TrajectorySource, check_arms, earned
from lemma.types import InputError, Problem

ARMS = [
    ArmArgs("direct", temperature=0.5),
    ArmArgs("twice", template="solve_twice", temperature=0.9),
    ArmArgs("slow", template="step_by_step", shots=1, temperature=0.5),
]
COHERENCE = CoherenceArgs(alpha=1.0, beta=0.5, length_cost=0.1)
PROBLEM = Problem("p", "toy", "Ann has 3 apples and buys 4 apples. How many apples has she?", answer="7", level=2)


class Scripted:
    """An engine that answers by temperature, or by what the prompt says."""

    def __init__(self, text=lambda temperature, problem: rf"3 + 4 = 7. \boxed{{{7 if temperature < 0.6 else 8}}}"):
        self.calls, self._text = [], text

    def draw(self, requests, drawing):
        self.calls.append((drawing.temperature, [request.messages for request in requests]))
        for number, request in reversed(list(enumerate(requests))):
            text = self._text(drawing.temperature, request.messages[-1]["content"])
            yield number, Sample([], [], True, text, 10 * (number + 1))


@pytest.fixture
def make_rows(encoder):
    """Return a function that makes the rows of some problems by arms, and the progress."""

    def make(engine, chosen, *, counterfactuals=0):
        arms = [Arm(arm, ChatEncoder(encoder.tokenizer, arm.prompt(PromptArgs()))) for arm in ARMS]
        settings = TrajectorySettings(100, 10_000, counterfactuals, COHERENCE, seed=0)
        progress = Progress()
        with Grader() as grader:
            source = TrajectorySource(arms, settings, grader, progress)
            items = [RoundItem(place, PROBLEM) for place in range(len(chosen))]
            attempts = [source.attempt(item, 5, own) for item, own in zip(items, chosen, strict=True)]
            return list(source.rows(engine, attempts)), progress

    return make


def test_arms_drawn_alike_are_one_call_and_each_asks_in_its_own_words(make_rows):
    engine = Scripted()
    make_rows(engine, [[0, 1, 2, 0]])
    (first, asked), (second, others) = engine.calls
    assert (first, second) == (0.5, 0.9)
    assert [len(messages) for messages in asked] == [1, 1, 3], "the arm with an example has two turns more"
    assert "two different methods" in others[0][-1]["content"]


def test_the_engine_is_asked_as_often_where_there_is_nothing_to_draw(make_rows):
    engine = Scripted()
    assert make_rows(engine, []) == ([], Progress())
    assert [temperature for temperature, _ in engine.calls] == [0.5, 0.9]


def test_a_row_is_a_record_with_arms_scores_and_rewards(make_rows):
    [row], progress = make_rows(Scripted(), [[0, 1, 2, 0]])
    record = Record.from_json(row, 0)
    assert (record.problem.id, record.num_correct, len(record.completions)) == ("p", 3, 4)
    assert (row["place"], row["round"], row["tokens_in"]) == (0, 5, None)
    assert row["arms"] == ["direct", "twice", "slow", "direct"]
    assert row["verdicts"] == ["correct", "wrong", "correct", "correct"]
    assert row["tokens_out"] == [10, 10, 30, 20]
    # the three that agree: 2 of 3 others, the same path and all of it true; the lone one: nobody, but true
    assert [score["s_end"] for score in row["scores"]] == [0.666667, 0.0, 0.666667, 0.666667]
    assert [score["s_path"] for score in row["scores"]] == [1.0, 0.5, 1.0, 1.0]
    # correct + 0.5 x mean(s_end, s_path) - 0.1 x tokens / 100
    s_wm = (2 / 3 + 1) / 2
    wanted = [1 + 0.5 * s_wm - 0.01, 0.5 * 0.25 - 0.01, 1 + 0.5 * s_wm - 0.03, 1 + 0.5 * s_wm - 0.02]
    assert row["rewards"] == pytest.approx(wanted, abs=1e-6)
    assert (progress.problems_done, progress.completions_done, progress.accuracy) == (1, 4, 0.75)


def test_a_bandit_learns_from_verdicts_or_from_scaled_rewards():
    row = {"verdicts": ["correct", "unparseable"], "rewards": [1.5, -0.1]}  # the most and the least that there is
    assert earned(row, "correct", COHERENCE) == [1.0, 0.0]
    assert earned(row, "total", COHERENCE) == pytest.approx([1.0, 0.0])


def test_every_arm_of_a_problem_is_asked_each_variant_once(make_rows):
    def text(temperature, asked):
        renamed = "apples" not in asked or "Ann" not in asked
        return r"\boxed{9}" if renamed and temperature > 0.6 else r"\boxed{7}"

    [row], progress = make_rows(Scripted(text), [[0, 1, 0]], counterfactuals=1)
    assert [(each["arm"], each["kind"]) for each in row["variants"]] == [("direct", "renamed"), ("twice", "renamed")]
    assert row["variants"][0]["problem"] != PROBLEM.problem
    assert [each["prediction"] for each in row["variants"]] == ["7", "9"]
    assert [score["s_cf"] for score in row["scores"]] == [1.0, 0.0, 1.0]
    assert progress.completions_done == 3, "variants are no trajectories"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: check_arms([]), "model.arms: expected at least one"),
        (lambda: check_arms([ArmArgs("one"), ArmArgs("one")]), "each with a name of its own"),
        (lambda: ArmArgs("one/two"), "model.arms: expected names without '/'"),
        (lambda: ArmArgs("one", temperature=0.0), "model.arms.one.temperature: expected a number above 0"),
        (lambda: ArmArgs("one", top_p=1.5), r"model.arms.one.top_p: expected a number in \(0, 1\]"),
        (lambda: ArmArgs("one", template="none").prompt(PromptArgs()), "model.arms.one: .*template: expected one of"),
    ],
)
def test_arms_that_cannot_be_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
