"""Plain text: ``{text}``, such as a pre-training corpus. A text is a completion with an empty prompt and no answer."""

from lemma.corpora.adapter import Adapter
from lemma.corpora.rows import Row, text
from lemma.types import Problem


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem without a question: its text is the solution; the id is the row's key.

    Raises:
        InputError: If the column is missing or empty.
    """
    return Problem(id=row.key, source=source, problem="", solution=text(row, "text"))


ADAPTER = Adapter(to_problem)
