"""OpenAI's example solutions of GSM8K's test problems: ``{question, <model>: {solution, is_correct}, …}``.

Of each problem pairs are made: a right solution of any model over a wrong one (Cobbe et al. 2021, arXiv:2110.14168).
The ``<<48/2=24>>`` annotations go, and the last line ``A: 26`` becomes the answer format that prompts ask for by
default. A solution without that line was cut, and is on neither side. ``ground_truth`` is no model's, and not used.
"""

from typing import Any

from lemma.corpora.adapter import Adapter
from lemma.corpora.marks import split_a_line
from lemma.corpora.pairing import RIGHT, UNFINISHED, WRONG, Pairing, make_pairs
from lemma.corpora.rows import Row, checked_text, shown, text
from lemma.prompts import ANSWER_FORMATS, PromptArgs
from lemma.types import InputError, Problem

_KEYS = ("solution", "is_correct")


def to_preferences(row: Row, source: str, most: int) -> Pairing:
    """Return the pairs of a problem; its id is the row's key.

    Args:
        row: A problem with the solutions of some models.
        source: Label of the corpus.
        most: Pairs, at least 1.

    Raises:
        InputError: If the question is missing or empty, no column has solutions, or one lacks a text or a grade.
    """
    problem = Problem(id=row.key, source=source, problem=text(row, "question"))
    models = {name: value for name, value in row.values.items() if isinstance(value, dict)}
    if not models:
        raise InputError(f"no column holds {{solution, is_correct}}; the row has {', '.join(map(str, row.values))}.")
    return make_pairs(problem, [_graded(name, value) for name, value in models.items()], most)


def _graded(name: str, value: dict[str, Any]) -> tuple[str, str]:
    """Return (completion, side) of one model's solution."""
    solution, is_correct = (value.get(key) for key in _KEYS)
    if not isinstance(is_correct, bool):
        raise InputError(f"`{name}.is_correct`: expected true or false, but got {shown(is_correct)}.")
    reasoning, answer = split_a_line(checked_text(solution, f"{name}.solution"))
    if answer is None:
        return reasoning, UNFINISHED
    return ANSWER_FORMATS[PromptArgs().answer_format](reasoning, answer), RIGHT if is_correct else WRONG


ADAPTER = Adapter(to_preferences=to_preferences, graded=True, licence="MIT")
