r"""NuminaMath-CoT's own format: ``{source, problem, solution, messages}``; the last box is the answer.

The subject of a problem is its ``source``, e.g. ``olympiads`` or ``cn_k12``. Proofs have no answer. A column
``answer``, which other releases have, is not read: it may say ``See solution`` or ``proof``.
"""

from lemma.answers import last_boxed
from lemma.corpora.adapter import Adapter
from lemma.corpora.rows import Row, optional_text, subject, text
from lemma.types import Problem


def to_problem(row: Row, source: str) -> Problem:
    r"""Return a row as a problem with the id ``original_id`` where there is one; without a box the answer is None.

    Raises:
        InputError: If a column is missing or empty.
    """
    solution = text(row, "solution")
    return Problem(
        id=optional_text(row, "original_id") or row.key,
        source=source,
        problem=text(row, "problem"),
        solution=solution,
        answer=last_boxed(solution) or None,
        subject=subject(text(row, "source")),
    )


ADAPTER = Adapter(to_problem, hub="AI-MO/NuminaMath-CoT", licence="Apache-2.0")
