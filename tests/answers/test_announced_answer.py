r"""What the words of a text announce as its answer."""

import pytest

from lemma.answers import Extraction, extract_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("the final answer is: 42", "42"),
        ("Final answer: 42", "42"),
        ("**Final Answer**\n\n42", "42"),
        ("**Final Answer:** 42", "42"),
        ("**Answer:** 42\n\nExplanation: 40 + 2 = 42.", "42"),
        ("Answer: 42", "42"),
        ("Answer: $42$", "42"),
        (r"Answer \[ 9 \]", "9"),
        ("Answer $$ 9 $$", "9"),
        ("**The answer is 42.**", "42"),
        ("The answer is\n\\[\n42\n\\]", "42"),
        ("42 is the answer.", "42"),
        ("Therefore, answer is 189.", "189"),
        ("So, the ordered pair $(x, y)$ that solves the system is $(7, 6)$.", "(7, 6)"),
        ("Final Answer: The maximum number of points of $f(x)$ is 19. <|im_start|>user", "19"),
        ("So the answer is 0", "0"),
        ("So the os then when we 9/3 we get 8 so the answer is 0", "0"),
        ("The answer to the question is 42.", "42"),
        ("The answer, therefore, is 42.", "42"),
        ("The answer should be 42.", "42"),
        ("Work 1 + 1.\nA: 15", "15"),
        ("I think the answer is 42.", "42"),
        ("Ans: 42", "42"),
        ("So, 42.", "42"),
        ("So Mary got 300 + 462 = 762 M&Ms.", "762"),
        ("Hence she has 48/2 = <<48/2=24>>24 clips.", "24"),
        ("Therefore 42 is the answer.", "42"),
        ("We get 5. So the answer is that she has 5 apples.", "5"),
        ("the correct answer: 7", "7"),
        ("Therefore, the remaining answer choices are 3.", "3"),
        ("My answer is 9.", "9"),
    ],
)
def test_an_announcement_is_found_in_any_wording(text: str, answer: str):
    assert extract_answer(text) == Extraction(answer, "phrase")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 42.", "42"),
        ("The answer is 42", "42"),
        ("The answer is **42**.", "42"),
        ("The answer is $5.", "$5"),
        ("The answer is $5 because 2 + 3 = 5.", "$5"),
        ("The answer is $1,234.50.", "$1,234.50"),
        ("The answer is 12%.", "12%"),
        ("The answer is 12 percent of the total.", "12 percent"),
        ("The answer is 18 dollars per day.", "18 dollars per day"),
        ("The answer is 18 eggs.", "18"),
        ("The answer is 5 cm.", "5 cm"),
        ("The answer is 3 dozen.", "3 dozen"),
        ("The answer is 3 p.m. That is late.", "3 p.m."),
        ("The answer is -7.", "-7"),
        ("The answer is \u22127.", "\u22127"),
        ("The answer is 3.5.", "3.5"),
        ("The answer is .5.", ".5"),
        ("The answer is 1/2.", "1/2"),
        ("The answer is 2 1/2.", "2 1/2"),
        ("The answer is 42. The final answer is", "42"),
        ("The answer is a circle.", "a circle"),
        ("The answer is $350 * 12 = $4200.", "$350 * 12 = $4200"),
        ("The answer is approximately 3.14.", "3.14"),
        ("The answer is €1.234,56.", "€1.234,56"),
        ("The answer is 1 234 567.", "1 234 567"),
        ("The answer is {1, 2, 3}.", "{1, 2, 3}"),
        ("The answer is [0, 1).", "[0, 1)"),
        ("The answer is 42 — a nice number.", "42"),
        ("The answer is 42!", "42"),
        ("The answer is 42 (see above).", "42"),
        ("The answer is (3, 4).", "(3, 4)"),
        ("The answer is $3$ cm.", "3 cm"),
        ("The answer is $28$ percent.", "28 percent"),
        ("The answer is 30°.", "30°"),
        ("The answer is 90 degrees.", "90 degrees"),
        ("The answer is 1,234.", "1,234"),
        ("The answer is 1, 2, 3.", "1, 2, 3"),
        ("The answer is 7, which is prime.", "7"),
        ("The answer is `42`.", "42"),
        ("The answer is _42_.", "42"),
        ("The answer is 42.\n\nLet me know if you have 2 more questions.", "42"),
        ("The answer is 42.0.", "42.0"),
        ("The answer is $5-3=2$.", "5-3=2"),
        ("The answer is 5 million.", "5 million"),
        ("The answer is 204_5.", "204_5"),
        ("The answer is $204_5$.", "204_5"),
        ("The answer is 10\n20\n30", "10"),
        ("The answer is 5 less than 10.", "5 less than 10"),
        ("The answer is 5 a day.", "5"),
    ],
)
def test_a_number_is_taken_with_its_currency_unit_and_sign_and_without_what_is_counted(text: str, answer: str):
    assert extract_answer(text) == Extraction(answer, "phrase")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"Final Answer: The final answer is $28 \%$. I hope it is correct.", r"28 \%"),
        ("The answer is $x = 5$.", "x = 5"),
        (r"The answer is \(\frac{1}{2}\).", r"\frac{1}{2}"),
        ("The answer is:\n\n$$x^2 + 1$$", "x^2 + 1"),
        ("So $x = 42$ is the final answer.", "x = 42"),
        ("The answer is 2x + 3y.", "2x + 3y"),
        ("The answer is -1 + sqrt(3).", "-1 + sqrt(3)"),
        ("The answer is 2^10.", "2^10"),
        (r"The answer is \$5.00.", r"\$5.00"),
        (r"The answer is \text{Evelyn}.", r"\text{Evelyn}"),
        (r"The answer is $(-\infty, -3] \cup [2, \infty)$. I hope it is correct.", r"(-\infty, -3] \cup [2, \infty)"),
        ("The answer is (x, y) = (3, 4).", "(x, y) = (3, 4)"),
        ("The answer is x > 5.", "x > 5"),
        (r"The final answer is $\$5$.", r"\$5"),
        ("The answer is 10^{5}.", "10^{5}"),
        (r"The answer is \frac{3}{4}.", r"\frac{3}{4}"),
        (r"The answer is \begin{pmatrix} 1 \\ 2 \end{pmatrix}.", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        (r"The answer is $\infty$.", r"\infty"),
        ("The answer is $x = 1, 2$", "x = 1, 2"),
        ("The answer is 4 \u00d7 10^3.", "4 \u00d7 10^3"),
        ("The answer is 5 less than x.", "5 less than x"),
    ],
)
def test_a_formula_is_taken_whole_and_without_its_delimiters(text: str, answer: str):
    assert extract_answer(text) == Extraction(answer, "phrase")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("ANSWER: C", "C"),
        ("The answer is Evelyn.", "Evelyn"),
        ('The answer is "Evelyn".', "Evelyn"),
        ("The answer is (C).", "(C)"),
        ("The answer is C.", "C"),
        ("The answer is (C) 15.", "(C)"),
        ("The correct option is (B).", "(B)"),
        ("The correct answer is option D.", "D"),
        ("The answer is 3:00 p.m.", "3:00 p.m."),
        ("The answer is 3:00 p.m. on Monday.", "3:00 p.m."),
        ("The answer is June 20, 2021.", "June 20, 2021"),
        ("The answer is xy.", "xy"),
        ("The answer is no.", "no"),
        ("The answer is yes, because 3 > 2.", "yes"),
        ("The answer is Evelyn. She is 5 years older.", "Evelyn"),
        ("The answer is B) 12.", "B"),
        ("The answer is option C.", "C"),
        ("The final answer is A.", "A"),
        ("The answer is 12:30.", "12:30"),
        ("The answer is 3:2.", "3:2"),
        ("The answer is infinity.", "infinity"),
        ("The answer is undefined.", "undefined"),
        ("The answer is no solution.", "no solution"),
        ("The answer is no real solutions.", "no real solutions"),
        ("The answer is all real numbers.", "all real numbers"),
        ("The answer is Monday.", "Monday"),
    ],
)
def test_an_announcement_of_words_choices_dates_and_times_is_taken(text: str, answer: str):
    assert extract_answer(text) == Extraction(answer, "phrase")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 41 or 42.", "41 or 42"),
        ("The answer is either 41 or 42.", "41 or 42"),
        ("The answer is $41$ or $42$.", "41 or 42"),
        ("The answers are 3 and 5.", "3 and 5"),
        ("Thus the roots are 3 and 5.", "3 and 5"),
        ("The answer is 5 hours and 30 minutes.", "5 hours and 30 minutes"),
        ("The answer is 5 apples and 3 oranges.", "5 apples and 3 oranges"),
        ("The answer is x < 5 or x > 7.", "x < 5 or x > 7"),
        (r"The answer is $\frac{1}{2}$ or $0.5$.", r"\frac{1}{2} or 0.5"),
        ("The final answer is $12 $ and $13 $.", "$12 $ and $13 $"),
        (r"The final answer is \"$12 $ and $13 $\".", "$12 $ and $13 $"),
        ("The answer is 2 and the other is 3.", "2 and the other is 3"),
        ("The answer is 18 and a half.", "18 and a half"),
    ],
)
def test_a_list_of_candidates_is_taken_whole(text: str, answer: str):
    assert extract_answer(text) == Extraction(answer, "phrase")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Therefore, x = 5, so the claim holds.", "5"),
        ("Therefore, the total cost is $45.", "$45"),
        ("Therefore the probability that Alice wins the game is 2/3. <|im_start|>user", "2/3"),
        (
            "Therefore, there are 12 distinct sequences that meet the three given conditions. I hope it is correct.",
            "12",
        ),
        (r"Therefore $x \geq 5$ is the solution.", r"x \geq 5"),
        ("Thus, we have:\n\\[ x = 5 \\]", "x = 5"),
        ("Therefore, 16 + 10 = 26 liters of water were left.", "26 liters"),
        ("So she has 5 apples.", "5"),
        ("Thus, in six hours, Dana can travel 24 + 12 = 36 miles.", "36 miles"),
        (r"Hence, the angle is $90^\circ$.", r"90^\circ"),
        ("∴ x = 7", "7"),
        ("Thus $3 + 4 = 7$.", "3 + 4 = 7"),
        ("Therefore, $f(x) = 2x$.", "f(x) = 2x"),
    ],
)
def test_the_last_sentence_concludes_if_it_leaves_no_choice(text: str, answer: str):
    assert extract_answer(text) == Extraction(answer, "phrase")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 60 miles per hour.", "60 miles per hour"),
        ("The answer is not 41 but 42.", "42"),
        ("The answer is 42, not 41.", "42"),
        ("The answer is 41. Wait, no, the answer is 42.", "42"),
        ("The answer is 41, no, 42.", "42"),
        ("The answer is 42. Clearly the answer is not 41.", "42"),
        ("The answer is not 4.1 but 4.2.", "4.2"),
        ("The answer is 5. The answer is 6?", "5"),
    ],
)
def test_the_last_announcement_counts_and_a_denial_announces_nothing(text: str, answer: str):
    assert extract_answer(text) == Extraction(answer, "phrase")


@pytest.mark.parametrize(
    ("text", "answer", "strategy"),
    [
        ("If the answer is 41, we fail.", "41", "number"),
        ("Therefore, it takes 3 hours for 2 men.", "2", "number"),
        ("She has so many as 5 apples.", "5", "number"),
        ("The answer is obtained by adding 3 and 4.", "4", "number"),
        ("To answer: we add 3 and 4 to get 7.", "7", "number"),
        ("Answer: Let's think. 3 + 4 = 7.\n7 * 2 = 14", "14", "number"),
        ("Answer: 16 - 3 - 4 = 9 eggs are sold.\n9 * 2 = 18 dollars a day", "18", "number"),
        ("The answer is correct. It is 42.", "42", "number"),
        ("Is the answer 41? It is 42.", "42", "number"),
        ("A: 15\nB: 16", "16", "number"),
        ("<answer>42", "42", "number"),
        ("2^10", "2^10", "math"),
        ("$5", "$5", "number"),
        ("The answer is between 3 and 4.", "4", "number"),
        ("Therefore, the largest of 3 and 5 is 5. Check: 5 > 3.", "3", "number"),
        ("Therefore, Ben is 5 years older than Ann, who is 7.", "7", "number"),
        ("The answer is that 3 of 5 apples are red.", "5", "number"),
        ("She gave the answer 5.", "5", "number"),
        ("The probability is 1/6.", "1/6", "number"),
        ("1 + 1 = 2", "1 + 1 = 2", "math"),
    ],
)
def test_what_announces_nothing_or_leaves_a_choice_is_a_guess(text: str, answer: str, strategy: str):
    found = extract_answer(text)
    assert found == Extraction(answer, strategy)
    assert not found.strict


@pytest.mark.parametrize(
    "text",
    [
        "The answer is not 42.",
        "The answer isn't 42.",
        "The answer cannot be 42.",
        "42 is not the answer.",
        "The answer is 41. No, the answer is not 41.",
        "The answer is",
        "7 + 8 = 15. The answer is",
        "Answer:",
        "<answer></answer>",
        r"<THINK>\boxed{42}",
        "The question's answer choices are A, B.",
        "It is not 42.",
    ],
)
def test_a_denied_or_missing_answer_is_none_in_every_mode(text: str):
    assert extract_answer(text) is None
