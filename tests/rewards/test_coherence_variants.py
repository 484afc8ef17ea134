"""Variants of problems: what must stay, stays; what changes, changes to what the worked solution gives."""

import json
import os
import random
import re
from fractions import Fraction
from pathlib import Path

import pytest

from lemma.corpora import arithmetic
from lemma.corpora.marks import split_hashes
from lemma.rewards.coherence import KINDS, make_variants
from lemma.rewards.coherence.dataflow import decimal, find_mentions, trace
from lemma.rewards.coherence.numbers import change_numbers
from lemma.rewards.coherence.wording import rename, reorder
from lemma.types import InputError, Problem

ROOT = Path(__file__).parents[2]
GSM8K = Path(os.environ.get("LEMMA_DATA", ROOT.parent / "shared" / "data")) / "gsm8k" / "test.jsonl"


def problem(text: str, solution: str, answer: str) -> Problem:
    return Problem("1", "test", text, solution=solution, answer=answer)


EGGS = problem(
    "Ada has 16 eggs and eats 3. She sells the rest for $2 each, and half of the money is saved. How much is saved?",
    "16-3=<<16-3=13>>13 eggs. 13*2=<<13*2=26>>26 dollars. 26/2=<<26/2=13>>13.",
    "13",
)
SHOP = problem(
    "A pen costs $1.50 and a book $12. Ben buys 4 pens and 5 books, 20% of the sum is taken off. How much is it?",
    "4*1.5=<<4*1.5=6>>6 and 5*12=<<5*12=60>>60, so 6+60=<<6+60=66>>66. 66*.2=<<66*.2=13.2>>13.2. <<66-13.2=52.8>>52.8.",
    "52.8",
)


def test_numbers_change_and_the_answer_follows_by_the_same_steps():
    flow = trace(SHOP)
    assert [flow.mentions[i].text for i in flow.changeable] == ["1.50", "12", "4", "5", "20"]
    # pens, books, percentage by hand: (3 * 2 + 6 * 10) * (1 - 25/100)
    results = flow.execute([Fraction(2), Fraction(10), Fraction(3), Fraction(6), Fraction(25)])
    assert results == [6, 60, 66, Fraction(33, 2), Fraction(99, 2)]
    found = change_numbers(SHOP, flow, random.Random(0))
    text, answer, changed = found
    price, book, pens, books, share = (mention.value for mention in find_mentions(text))
    assert Fraction(answer) == (pens * price + books * book) * (1 - share / 100)
    assert answer != SHOP.answer
    assert re.sub(r"[\d.]", "", text) == re.sub(r"[\d.]", "", SHOP.problem)
    assert changed.count("->") == sum(
        old.value != new.value for old, new in zip(flow.mentions, find_mentions(text), strict=True)
    )


def test_unchanged_numbers_give_the_gold_answer():
    flow = trace(SHOP)
    assert flow.execute([mention.value for mention in flow.mentions]) == list(flow.results)
    assert decimal(flow.results[-1]) == SHOP.answer


@pytest.mark.parametrize(
    ("text", "solution", "answer"),
    [
        ("He has 5 and 7 nuts.", "<<5+7=12>>", "13"),  # another answer
        ("He has 5 and 7 nuts.", "<<5+7=13>>", "13"),  # a false step
        ("He has 5 and 7 nuts.", "<<5+8=13>>", "13"),  # 8 comes from nowhere
        ("He has 5, 7 and 12 nuts.", "<<5+7=12>> <<12*5=60>>", "60"),  # 12: of the text, or the result?
        ("He has 5 and 7 nuts.", "<<5+7=12>> <<7*5=35>>", "35"),  # 12 is not needed: something is not written
        ("He has 6 and 7 nuts.", "<<6*2=12>> <<6+6=12>> <<12+7=19>>", "19"),  # which 12?
        ("He has 10 and 3 nuts.", "<<10/3=3.33>> <<3.33*3=9.99>>", "9.99"),  # not exact
        ("He has 5 and 5 nuts.", "<<5+5=10>>", "10"),  # which 5?
        ("He has some nuts.", "", "3"),
        ("He has x nuts.", "<<x=3>>", "3"),
    ],
)
def test_what_cannot_be_traced_for_sure_gets_no_numeric_variant(text, solution, answer):
    assert trace(problem(text, solution, answer)) is None
    assert make_variants(problem(text, solution, answer), 3, kinds=("numbers",)) == []


def test_what_words_stand_for_stays():
    flow = trace(EGGS.__class__("1", "test", EGGS.problem.replace("eats 3", "eats 4"), EGGS.solution, "13"))
    assert flow is None  # 3 comes from nowhere now
    half = problem("He has 48 clips and half as many pins.", "48/2=<<48/2=24>>24. <<48+24=72>>", "72")
    assert [half.problem[m.start :][:2] for m in trace(half).mentions] == ["48"]
    text, answer, _ = change_numbers(half, trace(half), random.Random(1))
    (mention,) = find_mentions(text)
    assert Fraction(answer) == mention.value * 3 / 2
    assert mention.value % 2 == 0


def test_a_number_that_is_no_quantity_is_pinned():
    text = "On the 3rd of May 2015 at 5:30 a 40-page book cost 1/2 of $2015, in room-7, 12 of 25 pages, 8 pm."
    free = [mention.text for mention in find_mentions(text) if not mention.is_pinned]
    assert free == ["2015", "12", "25"]


def test_a_number_of_too_many_digits_is_left_alone():
    text = f"{'9' * 5000} and 12 of 25"
    assert [mention.text for mention in find_mentions(text)] == ["12", "25"]
    assert trace(problem(text, f"<<{'9' * 5000}+1=2>>", "2")) is None


def test_steps_are_taken_from_the_prose_where_there_are_no_annotations():
    plain = problem("Ada has 16 eggs and eats 3.", "She has 16 - 3 = 13 eggs left.", "13")
    assert make_variants(plain, 1)[0].kind == "numbers"


def test_names_and_things_are_renamed_with_their_articles_everywhere():
    text = "Ada's apple is an apple. Tom gives Ada 3 apples, and Ada eats an apple pie. How many apples has Tom?"
    renamed, changes = rename(text, random.Random(0))
    assert set(changes) == {"Ada", "Tom", "apple"}
    assert not re.search(r"Ada|Tom|apple", renamed)
    assert renamed.count(changes["Ada"]) == 3
    thing = changes["apple"]
    assert f"is a {thing}." in renamed
    assert f"3 {thing}s" in renamed
    assert rename("What is 3 + 4?", random.Random(0)) is None


def test_a_renamed_answer_is_no_variant():
    who = Problem("1", "test", "Ada is 5, Tom is 7. Who is older?", answer="Tom")
    assert make_variants(who, 3, kinds=("renamed",)) == []


def test_only_independent_facts_exchange_places():
    text = "Ada has 3 pens. Tom has 4 books. How many things do they have?"
    assert reorder(text, random.Random(0)) == (
        "Tom has 4 books. Ada has 3 pens. How many things do they have?",
        "facts 1 and 2 exchanged",
    )
    for dependent in (
        "Ada has 3 pens. She has 4 books. How many?",
        "Ada has 3 pens. Tom has 4 more. How many?",
        "A shop has 3 pens. The shop has 4 books. How many?",
        "Ada has 3 pens. Tom has 4 books. He buys 2. How many?",
        "Ada likes pens. Tom has 4 books. How many?",
        "Ada has 3 pens. How many?",
    ):
        assert reorder(dependent, random.Random(0)) is None, dependent


def test_variants_take_turns_follow_from_the_seed_and_a_shorter_list_begins_a_longer_one():
    shop = Problem("7", "shop", "Ada has 30 pens. Tom has 44 books. How many?", "<<30+44=74>>", "74")
    many = make_variants(shop, 7, seed=3)
    assert [each.kind for each in many] == [*KINDS, "numbers", "renamed", "numbers", "renamed"]
    assert len({each.problem.problem for each in many} | {shop.problem}) == 8
    assert len({each.problem.id for each in many}) == 7
    for size in range(7):
        assert make_variants(shop, size, seed=3) == many[:size]
    assert make_variants(shop, 7, seed=4) != many
    for each in many:
        assert each.stays == (each.kind != "numbers") == (each.expected == "74")
        assert each.problem.answer == each.expected
        assert each.problem.solution is None


def test_an_arithmetic_problem_gets_another_one_of_its_template_and_split():
    for original in arithmetic.generate("train", num_problems=4, levels=(1, 6)):
        known = {arithmetic.write("", each).problem for each in arithmetic.skeletons("train", original.level)}
        for variant in make_variants(original, 3, kinds=("numbers",)):
            assert variant.problem.problem in known - {original.problem}
            assert variant.expected != original.answer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_variants": -1}, "num_variants: expected at least 0, but got -1"),
        ({"num_variants": 1, "kinds": ("other",)}, r"kinds: .*\['other'\]"),
        ({"num_variants": 1, "kinds": ("numbers", "numbers")}, "kinds: expected distinct"),
    ],
)
def test_a_wrong_request_is_refused_by_name(arguments, message):
    with pytest.raises(InputError, match=message):
        make_variants(SHOP, **arguments)


@pytest.mark.skipif(not GSM8K.exists(), reason="needs GSM8K")
def test_half_of_gsm8k_has_a_numeric_variant_and_execution_reproduces_the_gold_answers():
    rows = [json.loads(line) for line in GSM8K.read_text("utf-8").split("\n")[:400] if line]
    num_traced = 0
    for index, row in enumerate(rows):
        worked = row["answer"]
        one = Problem(str(index), "gsm8k", row["question"], worked.rpartition("####")[0], split_hashes(worked)[1])
        flow = trace(one)
        if flow is None:
            continue
        num_traced += 1
        assert decimal(flow.execute([mention.value for mention in flow.mentions])[-1]) == one.answer
        for variant in make_variants(one, 2, kinds=("numbers",)):
            old, new = ([mention.value for mention in find_mentions(p.problem)] for p in (one, variant.problem))
            results = flow.execute(new)
            assert decimal(results[-1]) == variant.expected != one.answer
            assert sorted(range(len(old)), key=old.__getitem__) == sorted(range(len(new)), key=new.__getitem__)
            for before, after in zip(flow.results, results, strict=True):
                assert (before > 0) == (after > 0)
                assert before.denominator > 1 or after.denominator == 1
    assert 0.4 < num_traced / len(rows) < 0.7
