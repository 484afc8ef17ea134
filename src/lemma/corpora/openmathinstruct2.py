"""OpenMathInstruct-2's own format: ``{problem, generated_solution, expected_answer, problem_source}``.

A problem may come many times, with another solution each. The subject of a problem is its ``problem_source``, e.g.
``augmented_gsm8k``. Source: arXiv:2410.01560.
"""

from lemma.corpora.adapter import Adapter
from lemma.corpora.rows import Row, subject, text
from lemma.types import Problem


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem.

    Raises:
        InputError: If a column is missing or empty.
    """
    return Problem(
        id=row.key,
        source=source,
        problem=text(row, "problem"),
        solution=text(row, "generated_solution"),
        answer=text(row, "expected_answer"),
        subject=subject(text(row, "problem_source")),
    )


ADAPTER = Adapter(to_problem, hub="nvidia/OpenMathInstruct-2", licence="CC-BY-4.0")
