"""What is too long is refused, dropped or cut, and counted."""

import pytest

from lemma.encoding import Census, Example, Examples, Limits, census_table, take_census, truncate
from lemma.types import InputError


def example(problem_id: str, prompt_length: int, *lengths: int, source: str = "toy") -> Example:
    return Example(problem_id, source, [1] * prompt_length, [[*range(10, 10 + n - 1), 2] for n in lengths])


def truncate_all(examples: list[Example], limits: Limits) -> tuple[list[Example], Census]:
    kept = [short for example in examples if (short := truncate(example, limits)) is not None]
    [part] = Examples.of(kept).parts
    return kept, take_census(part, num_problems=len(examples))


FITS, LONG_PROMPT, LONG_COMPLETION = example("fits", 4, 3), example("prompt", 5, 3), example("completion", 4, 5)


def test_lengths_up_to_the_limit_pass_untouched_under_every_policy():
    for policy in ("error", "drop", "keep_start"):
        kept, census = truncate_all([FITS], Limits(4, 3, policy))
        assert kept == [FITS]
        assert vars(census) == {
            "rows": 1, "prompt_tokens": 4, "completion_tokens": 3, "longest": 7, "dropped": 0, "answer_cut": 0,
        }  # fmt: skip


@pytest.mark.parametrize("long", [LONG_PROMPT, LONG_COMPLETION])
def test_error_names_the_problem_its_lengths_and_the_limits(long):
    prompt, completion = len(long.prompt_ids), len(long.completions[0])
    with pytest.raises(
        InputError,
        match=rf"toy, problem {long.problem_id}: prompt of {prompt} and completion of {completion} tokens, but "
        r"max_prompt_length is 4 and max_completion_length is 3\..*--data\.truncation drop or keep_start",
    ):
        truncate_all([FITS, long], Limits(4, 3, "error"))


def test_drop_leaves_out_what_is_too_long_and_counts_it():
    kept, census = truncate_all([LONG_PROMPT, FITS, LONG_COMPLETION], Limits(4, 3, "drop"))
    assert kept == [FITS]
    assert (census.rows, census.dropped, census.answer_cut) == (1, 2, 0)


def test_keep_start_cuts_the_completion_marks_it_and_drops_a_long_prompt():
    kept, census = truncate_all([FITS, LONG_PROMPT, LONG_COMPLETION], Limits(4, 3, "keep_start"))
    assert [one.problem_id for one in kept] == ["fits", "completion"]
    assert kept[1].completions == [[10, 11, 12]]  # no stop token: the policy does not learn to stop in mid-solution
    assert [one.answer_cut for one in kept] == [False, True]
    assert vars(census) == {
        "rows": 2, "prompt_tokens": 8, "completion_tokens": 6, "longest": 7, "dropped": 1, "answer_cut": 1,
    }  # fmt: skip


def test_only_the_completions_that_are_too_long_are_cut():
    [kept], census = truncate_all([example("pair", 2, 3, 6)], Limits(4, 4, "keep_start"))
    assert kept.completions == [[10, 11, 2], [10, 11, 12, 13]]
    assert kept.answer_cut
    assert (census.completion_tokens, census.longest) == (7, 6)


def test_the_table_gives_each_corpus_a_row_even_where_two_share_a_source():
    censuses = [("x", truncate_all(rows, Limits(4, 3, "drop"))[1]) for rows in ([FITS], [FITS, LONG_PROMPT])]
    rows = [line.split() for line in census_table(censuses, [1, 3]).splitlines()[2:]]
    assert [(row[0], row[1], row[3], row[7]) for row in rows] == [
        ("x", "1", "25.0%", "0.0%"),
        ("x", "1", "75.0%", "50.0%"),
    ]


def test_the_table_of_prompts_says_nothing_of_completions():
    """There was one completion token a row: the stop token that stands for what is yet to be drawn."""
    censuses = [("x", truncate_all([FITS], Limits(4, 3, "drop"))[1])]
    headers, _, row = census_table(censuses, [1], noun="prompts").splitlines()
    assert " ".join(headers.split()) == "corpus prompts per epoch share prompt tokens longest too long dropped"
    assert len(row.split()) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, "drop"), r"data\.max_prompt_length: expected at least 1, but got 0"),
        ((4, -1, "drop"), r"data\.max_completion_length: expected at least 1, but got -1"),
        ((4, 3, "keep_end"), r"data\.truncation: expected one of error, drop, keep_start, but got 'keep_end'"),
    ],
)
def test_limits_that_cannot_work_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Limits(*arguments)
