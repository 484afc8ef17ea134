"""LIMO's own format: ``{question, solution, answer}``. Source: arXiv:2502.03387."""

from lemma.corpora.adapter import Adapter
from lemma.corpora.rows import Row, text
from lemma.types import Problem


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem.

    Raises:
        InputError: If a column is missing or empty.
    """
    return Problem(
        id=row.key,
        source=source,
        problem=text(row, "question"),
        solution=text(row, "solution"),
        answer=text(row, "answer"),
    )


ADAPTER = Adapter(to_problem, hub="GAIR/LIMO", licence="Apache-2.0")
