"""The AI Mathematical Olympiad's own format on Kaggle: a CSV of ``{id, problem, answer}``, problems over many lines.

An answer is a whole number from 0 to 99999 (to 999 in the first two contests). Its ``test.csv`` holds no answers, and
is refused.
"""

from lemma.corpora.adapter import Adapter
from lemma.corpora.aime import whole_number
from lemma.corpora.rows import Row, text
from lemma.types import Problem


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem with the id of the column.

    Raises:
        InputError: If a column is missing or empty, or the answer is no whole number from 0 to 99999.
    """
    return Problem(
        id=text(row, "id"),
        source=source,
        problem=text(row, "problem"),
        answer=whole_number(text(row, "answer"), largest=99999),
    )


ADAPTER = Adapter(to_problem)
