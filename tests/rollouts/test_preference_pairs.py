"""Which pairs trajectories make, worked by hand: what is chosen over what, how far apart, how many, and which stay."""

import pytest

from lemma.corpora.pairing import PAIRED, RIGHT, WRONG
from lemma.rewards.coherence import CoherenceArgs, Trajectory, score_group
from lemma.rollouts.preferences import Candidate, PairingArgs, Scoring, Thinning, choose_pairs, read_candidates
from lemma.rollouts.preferences.thinning import cap
from lemma.types import InputError


def candidate(text: str, grade: str, coherence: float | None, reward: float = 0.0) -> Candidate:
    return Candidate(text, grade, {"s_end": None, "s_path": None, "s_cf": None, "s_wm": coherence}, reward)


RIGHTS = [candidate(f"r{score}", RIGHT, score / 100, reward=1 + score / 200) for score in (50, 90, 30, 70, 86)]
WRONGS = [candidate(f"w{score}", WRONG, score / 100, reward=score / 200) for score in (10, 60, 99)]


def names(candidates, **settings) -> list[tuple[str, str, str]]:
    args = PairingArgs(**settings)
    return [(one.pair_type, one.chosen.text, one.rejected.text) for one in choose_pairs("p", candidates, args).pairs]


def test_right_ones_from_the_most_coherent_go_over_wrong_ones_and_then_over_less_coherent_right_ones():
    pairs = names([*RIGHTS, *WRONGS], pairs_per_problem=5, coherence_share=0.4, margin=0.1)
    assert [pair[0] for pair in pairs] == ["correctness"] * 3 + ["coherence"] * 2
    assert [chosen for _, chosen, _ in pairs[:3]] == ["r90", "r86", "r70"]
    assert {rejected for _, _, rejected in pairs[:3]} == {"w10", "w60", "w99"}
    assert pairs[3:] == [("coherence", "r90", "r30"), ("coherence", "r86", "r50")]


def test_rejected_ones_follow_from_problem_and_texts_and_neither_from_their_coherence_nor_from_their_order():
    pairs = names([*RIGHTS, *WRONGS])
    assert names([*WRONGS, *RIGHTS][::-1]) == pairs
    other = [candidate(each.text, WRONG, 1 - each.coherence) for each in WRONGS]
    assert names([*RIGHTS, *other]) == pairs
    problems = {choose_pairs(str(n), [*RIGHTS, *WRONGS], PairingArgs()).pairs[0].rejected.text for n in range(20)}
    assert problems == {"w10", "w60", "w99"}


def test_coherence_has_no_part_in_correctness_only():
    flipped = [candidate(each.text, RIGHT, 1 - each.coherence) for each in RIGHTS]
    pairs = names([*RIGHTS, *WRONGS], order="correctness_only")
    assert len(pairs) == 4
    assert {pair[0] for pair in pairs} == {"correctness"}
    assert names([*flipped, *WRONGS], order="correctness_only") == pairs
    assert names([*flipped, *WRONGS]) != names([*RIGHTS, *WRONGS])


def test_neither_kind_takes_the_places_of_the_other():
    assert [pair[0] for pair in names(RIGHTS, pairs_per_problem=10)] == ["coherence"] * 2
    assert [pair[0] for pair in names([RIGHTS[0], *WRONGS], pairs_per_problem=4)] == ["correctness"] * 2


@pytest.mark.parametrize(("margin", "found"), [(0.6, 1), (0.36, 2), (0.37, 1), (0.61, 0)])
def test_a_coherence_pair_is_at_least_the_margin_apart(margin, found):
    assert len(names(RIGHTS, margin=margin)) == found  # 0.90 - 0.30 and 0.86 - 0.50; 0.70 is left over


def test_by_reward_alone_the_highest_goes_over_the_lowest_and_a_pair_is_named_by_its_verdicts():
    some = [RIGHTS[1], RIGHTS[2], WRONGS[0], WRONGS[2]]  # 1.45, 1.15, 0.05, 0.495
    found = [("correctness", "r90", "w10"), ("correctness", "r30", "w99")]
    assert names(some, order="reward") == found
    assert names(some, order="reward", pairs_per_problem=1) == found[:1]
    assert names(some, order="reward", reward_margin=0.66) == found[:1]
    assert names(RIGHTS[:2], order="reward", reward_margin=0.2) == [("coherence", "r90", "r50")]
    against = [candidate("right", RIGHT, 0.0, reward=0.1), candidate("wrong", WRONG, 1.0, reward=0.5)]
    assert names(against, order="reward") == [("coherence", "wrong", "right")]


def test_what_is_cut_off_or_unreadable_or_equal_is_on_neither_side():
    some = [
        candidate("r", RIGHT, 0.9), candidate("R ", RIGHT, 0.1), candidate("cut", "unfinished", 1.0),
        candidate("no", "unparseable", 0.0), candidate("late", "timeout", 0.0), candidate(" ", WRONG, 0.0),
    ]  # fmt: skip
    choice = choose_pairs("p", some, PairingArgs())
    assert choice.pairs == []
    assert choice.unused == {"unfinished": 1, "unparseable": 1, "timeout": 1, "empty": 1}
    choice = choose_pairs("p", [*some, candidate("r", WRONG, 0.0), *RIGHTS[:1], *WRONGS[:1]], PairingArgs())
    assert choice.outcome == PAIRED
    assert [(pair.chosen.text, pair.rejected.text) for pair in choice.pairs] == [("r50", "w10")]
    assert choice.unused["graded both right and wrong"] == 3


def test_trajectories_without_coherence_are_still_right_or_wrong():
    alone = [candidate("right", RIGHT, None), candidate("wrong", WRONG, None), candidate("other", RIGHT, 0.2)]
    assert [pair[:2] for pair in names(alone)] == [("correctness", "other"), ("correctness", "right")]


@pytest.mark.parametrize(
    ("sizes", "keep", "expected"),
    [
        ([10, 100, 400], 1.0, 400),
        ([10, 100, 400], 0.9, 349),  # 10 + 100 + 349 = 459 of 459
        ([10, 100, 400], 0.5, 145),  # 10 + 100 + 145 = 255
        ([10, 100, 400], 0.3, 72),  # 10 + 72 + 72 = 154 of 153; with 71 it is 152
        ([10, 100, 400], 1e-9, 10),
        ([7], 0.1, 7),
    ],
)
def test_large_strata_are_cut_to_the_lowest_number_with_which_the_share_stays(sizes, keep, expected):
    assert cap(sizes, keep) == expected


def pair_rows(kind, source, level, count):
    return [
        {"kind": kind, "source": source, "level": level, "id": f"{source}/{level}/{n}/{kind}", "rank": n % 3}
        for n in range(count)
    ]


def test_thinning_keeps_first_pairs_of_problems_and_kinds_do_not_thin_one_another():
    rows = [*pair_rows("correctness", "a", 1, 90), *pair_rows("correctness", "a", 2, 30)]
    rows += pair_rows("coherence", "a", 1, 6)
    for balance, expected in {"none": (90, 30, 6), "level": (30, 30, 6), "source": (90, 30, 6)}.items():
        thinning = Thinning(PairingArgs(balance=balance, balance_keep=0.5))
        for row in rows:
            thinning.add(row)
        thinning.settle()
        kept = [row for row in rows if thinning.keeps(row)]
        found = [sum((r["kind"], r["level"]) == g for r in kept) for g in
                 (("correctness", 1), ("correctness", 2), ("coherence", 1))]  # fmt: skip
        assert tuple(found) == expected, balance
        if balance == "level":
            assert {row["rank"] for row in kept if (row["kind"], row["level"]) == ("correctness", 1)} == {0}


def record(**changes):
    texts = [r"3 + 4 = 7. \boxed{7}", r"4 + 3 = 7. \boxed{7}", r"3 * 4 = 13. \boxed{13}"]
    return {
        "problem_id": "p", "source": "s", "level": 2, "subject": None, "problem": "3 + 4?", "answer": "7",
        "samples": [0, 1, 2], "completions": texts, "predictions": ["7", "7", "13"], "strategies": ["boxed"] * 3,
        "verdicts": ["correct", "correct", "wrong"], "flexible_verdicts": ["correct", "correct", "wrong"],
        "votes": [0, 0, 1], "stopped": [True, True, False], "tokens_in": None, "tokens_out": [20, 40, 60],
        "seconds": None, **changes,
    }  # fmt: skip


def given_scores(**changes):
    return {"s_end": 0.5, "s_path": 0.5, "s_cf": 0.25, "s_wm": 0.5, **changes}


def test_a_record_is_scored_as_a_group_by_its_votes_and_rewarded_as_the_formula_says():
    args = CoherenceArgs(alpha=2, beta=0.5, length_cost=0.1)
    _, found = read_candidates(record(), Scoring(args, max_length=80))
    votes = zip(record()["completions"], (0, 0, 1), strict=True)
    expected = score_group([Trajectory(*vote) for vote in votes], args)
    assert [each.coherence for each in found] == [each.mean for each in expected]
    assert [each.grade for each in found] == [RIGHT, RIGHT, "unfinished"]
    assert found[0].reward == pytest.approx(2 + 0.5 * found[0].coherence - 0.1 * 20 / 80)
    assert read_candidates(record(), Scoring(args))[1][1].reward == pytest.approx(2 + 0.5 * found[1].coherence)
    assert read_candidates(record(votes=[0, 1, 2]), Scoring(args))[1][0].scores["s_end"] == 0


def test_scores_and_rewards_of_a_file_are_taken_as_they_are_unless_they_are_to_be_computed_again():
    row = record(arms=["a", "b", "a"], scores=[given_scores(s_wm=0.123)] * 3, rewards=[3, 2, 1])
    _, found = read_candidates(row, Scoring(CoherenceArgs()))
    assert [(each.arm, each.coherence, each.reward) for each in found] == [
        ("a", 0.123, 3),
        ("b", 0.123, 2),
        ("a", 0.123, 1),
    ]
    _, again = read_candidates(row, Scoring(CoherenceArgs(counterfactual=1e9), again=True))
    assert again[0].scores["s_cf"] == 0.25
    assert again[0].coherence == pytest.approx(0.25)
    assert again[0].reward == pytest.approx(1 + 0.5 * 0.25)
    fresh = read_candidates(record(arms=row["arms"]), Scoring(CoherenceArgs()))[1]
    assert [each.scores["s_path"] for each in again] == [each.scores["s_path"] for each in fresh]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ["a"]}, "`arms`: expected 3 entries"),
        ({"rewards": [1, 2, "x"]}, "`rewards`: expected numbers, but got 'x'"),
        ({"rewards": [1, 2, float("nan")]}, "`rewards`: expected numbers, but got nan"),
        ({"scores": [{"s_wm": 1}] * 3}, "`scores`: expected objects with s_end, s_path, s_cf, s_wm"),
        ({"completions": ["a", "b", "\ud800"]}, r"`completions\[2\]`: expected Unicode"),
        ({"problem_id": "\ud800"}, "`problem_id`: expected Unicode"),
        ({"votes": None}, "`votes`: expected list"),
    ],
)
def test_a_row_that_is_none_is_refused_by_its_key(changes, message):
    with pytest.raises(InputError, match=message):
        read_candidates(record(**changes), Scoring(CoherenceArgs()))


@pytest.mark.parametrize(
    ("key", "value"),
    [("pairs_per_problem", 0), ("pairs_per_problem", 1), ("coherence_share", 1.0), ("margin", 0.0), ("margin", 1.1),
     ("reward_margin", -1.0), ("balance_keep", 0.0), ("warn_below", 0)],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_its_key(key, value):
    named = "coherence_share" if (key, value) == ("pairs_per_problem", 1) else key
    with pytest.raises(InputError, match=f"^pairs.{named}: expected"):
        PairingArgs(**{key: value})
