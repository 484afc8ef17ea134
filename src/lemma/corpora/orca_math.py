"""Orca-Math's own format: ``{question, answer}``, where ``answer`` is a worked solution in prose that marks no answer.

Source: arXiv:2402.14830.
"""

from lemma.corpora.adapter import Adapter
from lemma.corpora.rows import Row, text
from lemma.types import Problem


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem without an answer: its solution is trained on as it is.

    Raises:
        InputError: If a column is missing or empty.
    """
    return Problem(id=row.key, source=source, problem=text(row, "question"), solution=text(row, "answer"))


ADAPTER = Adapter(to_problem, hub="microsoft/orca-math-word-problems-200k", licence="MIT")
