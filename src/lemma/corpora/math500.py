"""MATH-500's own format: ``{problem, solution, answer, subject, level: int, unique_id}``."""

from lemma.corpora.adapter import Adapter
from lemma.corpora.rows import Row, level, subject, text
from lemma.types import Problem


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem; the id is ``unique_id`` without ``.json``, e.g. ``test/precalculus/807``.

    Raises:
        InputError: If a column is missing or empty.
    """
    return Problem(
        id=text(row, "unique_id").removesuffix(".json"),
        source=source,
        problem=text(row, "problem"),
        solution=text(row, "solution"),
        answer=text(row, "answer"),
        level=level(row, "level"),
        subject=subject(text(row, "subject")),
    )


ADAPTER = Adapter(to_problem, hub="HuggingFaceH4/MATH-500", licence="MIT")
