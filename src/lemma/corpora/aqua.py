"""AQuA's own format, multiple choice: ``{question, options: ["A)21", …], rationale, correct: "A"}``.

The choices become part of the problem's text, and the answer is a letter. Source: arXiv:1705.04146.
"""

import re

from lemma.corpora.adapter import Adapter
from lemma.corpora.rows import Row, column, shown, text
from lemma.types import InputError, Problem

REQUEST = "Answer with the letter of the right choice."


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem: the question, the choices one a line, and the request for a letter.

    Raises:
        InputError: If a column is missing or empty, the options are not lettered A), B), … in turn, or ``correct`` is
            the letter of none.
    """
    options = _lettered(column(row, "options"))
    correct = text(row, "correct")
    if correct not in options:
        raise InputError(f"`correct`: expected one of {', '.join(options)}, but got {shown(correct)}.")
    choices = [f"{letter}) {option}" for letter, option in options.items()]
    return Problem(
        id=row.key,
        source=source,
        problem="\n".join([text(row, "question"), *choices, REQUEST]),
        solution=text(row, "rationale"),
        answer=correct,
    )


def _lettered(options: object) -> dict[str, str]:
    """Return letter → choice of ``["A)21", "B)21.5"]``, an empty choice included."""
    if isinstance(options, list) and all(isinstance(option, str) for option in options):
        found = [re.fullmatch(r"\s*([A-Z])\s*\)(.*)", option, re.DOTALL) for option in options]
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(options)]
        if len(options) > 1 and all(found) and [match[1] for match in found] == list(letters):
            return {match[1]: match[2].strip() for match in found}
    raise InputError(f"`options`: expected a list such as ['A)21', 'B)21.5'], but got {shown(options)}.")


ADAPTER = Adapter(to_problem, hub="deepmind/aqua_rat", subsets=("raw",), licence="Apache-2.0")
