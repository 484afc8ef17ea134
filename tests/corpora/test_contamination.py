"""What is tested on is found in the training data, and problems of the same kind are not taken for it."""

import json

import numpy as np
import pytest

from lemma.corpora import CorpusArgs, identity, load_corpus, problem_key
from lemma.corpora.contamination import Match, find_contaminated
from lemma.types import Problem

STORY = (
    "A farmer has 17 sheep and 25 goats in a large green field beside the old river mill. He sells 9 of the sheep at "
    "the market and buys 4 more goats from his neighbour. How many animals does the farmer have in the field now?"
)


def found(train: list[str], tested: list[str], *, ngrams: bool = True) -> list[Match]:
    problems = [Problem(str(number), "train", text) for number, text in enumerate(train)]
    keys = np.array([problem_key(identity(problem)) for problem in problems], dtype=np.uint64)
    return find_contaminated([problems], keys, [Problem("t", "test", text) for text in tested], ngrams=ngrams)


def test_the_same_words_are_found_whatever_their_case_and_punctuation():
    assert found(["Other.", f"  {STORY.upper().replace('.', ' !')}"], ["No.", STORY]) == [Match(1, 1, "exact", 1.0)]
    assert found([STORY.replace("17", "18")], [STORY], ngrams=False) == []


def test_a_problem_within_a_longer_one_or_with_a_changed_end_is_found_by_its_runs_of_words():
    [match] = found([f"Read with care. {STORY} Explain your answer to a friend."], [STORY])
    assert (match.row, match.kind, match.overlap) == (0, "ngrams", 1.0)
    [match] = found([STORY.replace("How many animals does the farmer have in the field now?", "Count them.")], [STORY])
    assert 0.5 <= match.overlap < 1.0


def test_other_numbers_in_digits_or_words_make_another_problem():
    assert found([STORY.replace("17", "18").replace("9", "3")], [STORY]) == []
    spelled = STORY.replace("17", "seventeen").replace("25", "twenty")
    assert found([spelled.replace("seventeen", "eighteen").replace("twenty", "thirty")], [spelled]) == []


def test_overlap_is_the_share_of_the_tested_problems_runs_by_hand():
    words = [f"w{letter}" for letter in "abcdefghijklmnop"]  # 16 words: 4 runs of 13
    tested, train = " ".join(words), " ".join(["x", *words[:15]])  # the first 3 of them
    assert found([train], [tested]) == [Match(0, 0, "ngrams", 0.75)]
    assert found([" ".join([*words[:13], "x", *words[13:]])], [tested]) == []  # 1 of 4


def test_a_phrase_that_many_problems_share_does_not_count():
    phrase = "can be written as a fraction where m and n are relatively prime positive integers find the sum m plus n"
    tested = f"The chance of rain {phrase}"
    assert len(found([f"Ratio {i} of these {phrase}" for i in "abc"], [tested])) == 3, (
        "in three problems it is no phrase"
    )
    assert found([f"Ratio {i} of these {phrase}" for i in "abcdefghijklm"], [tested]) == []


def test_the_figures_code_does_not_count():
    code = "[asy] draw((0,0)--(3,4)); label(A, (1,1), NE); pair B, C, D; dot(B); dot(C); filldraw(circle(B, 2)); [/asy]"
    assert found([f"Find the area. {code}"], [f"Name the angle at B. {code}"]) == []


def test_plain_text_is_told_by_its_text():
    train, tested = Problem("0", "web", "", solution="A text"), Problem("1", "test", "", solution="a TEXT!")
    keys = np.array([problem_key(identity(train))], dtype=np.uint64)
    assert find_contaminated([[train]], keys, [tested], ngrams=True) == [Match(0, 0, "exact", 1.0)]


@pytest.fixture(scope="module")
def real(data):
    def load(name, path, **options):
        return load_corpus(CorpusArgs(name, path, **options), root=str(data), seed=0)

    return {
        "math": load("math", "math/MATH_train.tar.gz", on_bad_row="skip"),
        "gsm8k": load("gsm8k", "gsm8k/train.jsonl"),
        "gsm8k test": load("gsm8k", "gsm8k/test.jsonl").problems,
        "math500": load("math500", "math500/test.jsonl").problems,
        "aime": [
            Problem(str(number), "aime", row["problem"])
            for number, row in enumerate(json.loads((data / "aime" / "aime_1983_2023.json").read_text()))
        ],
    }


def test_the_aime_problems_in_math_and_math500_are_found(real):
    math = real["math"]
    matches = find_contaminated([math.problems], math.keys, real["aime"], ngrams=False)
    assert len({match.tested for match in matches}) == 356
    math500 = real["math500"]
    keys = np.array([problem_key(problem.problem) for problem in math500], dtype=np.uint64)
    assert len({match.tested for match in find_contaminated([math500], keys, real["aime"], ngrams=False)}) == 6


def test_gsm8k_train_is_not_thrown_away_for_looking_like_gsm8k_test(real):
    gsm8k = real["gsm8k"]
    assert find_contaminated([gsm8k.problems], gsm8k.keys, list(real["gsm8k test"]), ngrams=True) == []


def test_rewritten_aime_problems_in_math_are_found_by_runs_of_words(real):
    math = real["math"]
    matches = find_contaminated([math.problems], math.keys, real["aime"], ngrams=True)
    rewritten = [match for match in matches if match.kind == "ngrams"]
    assert 40 <= len(rewritten) <= 60
    asked = [math.problems[match.row].problem for match in rewritten]
    assert any("Find $\\tan \\angle PAB.$" in text for text in asked), "AIME asks for m + n of tan = m/n"
