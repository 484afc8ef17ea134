r"""MATH's own format: ``{problem, level: "Level 3", type, solution}``, the gold answer in the solution's last box.

The data set is a tree of one file a problem (``MATH/train/algebra/17.json``), as a folder or a ``.tar.gz``; the hub has
one configuration a subject.
"""

from lemma.answers import last_boxed
from lemma.corpora.adapter import Adapter
from lemma.corpora.rows import Row, level, shown, subject, text
from lemma.types import InputError, Problem

SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)


def to_problem(row: Row, source: str) -> Problem:
    r"""Return a row as a problem with the id ``<split>/<subject>/<number>``.

    Raises:
        InputError: If a column is missing or empty, or the last ``\boxed{}`` is missing or empty.
    """
    solution = text(row, "solution")
    answer = last_boxed(solution)
    if not answer:
        raise InputError(rf"`solution`: expected an answer in its last \boxed{{}}, but got {shown(solution)}.")
    return Problem(
        id="/".join(row.key.split("/")[-3:]),
        source=source,
        problem=text(row, "problem"),
        solution=solution,
        answer=answer,
        level=level(row, "level"),
        subject=subject(text(row, "type")),
    )


ADAPTER = Adapter(to_problem, hub="EleutherAI/hendrycks_math", subsets=SUBJECTS, licence="MIT")
