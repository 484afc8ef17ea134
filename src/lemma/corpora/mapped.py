r"""Any format whose columns the user names: ``columns: {problem: question, answer: gold, level: difficulty}``.

The answer column may be bare, or hold a marker (``#### 42``, ``\boxed{42}``, ``The answer is: 42``). Without an answer
column, the answer is taken from the solution by the same markers; with neither column, the problems have no answer.
``answer: null`` says that solutions mark none: they are kept as they are, to be trained on alone.
"""

from lemma.corpora.marks import marked_answer
from lemma.corpora.rows import Row, level, shown, subject, text
from lemma.types import InputError, Problem

KEYS = ("problem", "answer", "solution", "level", "subject", "id")


def to_problem(row: Row, source: str, *, columns: dict[str, str | None]) -> Problem:
    """Return a row as a problem.

    Args:
        row: A row of any columns.
        source: Label of the corpus.
        columns: Key among ``KEYS`` → column; ``problem`` is there. Without ``id`` the id is the row's key; only
            ``answer`` may be None.

    Raises:
        InputError: If a mapped column is missing, or one with text is empty. A row may lack level and subject.
    """
    solution = answer = None
    if "solution" in columns:
        worked = text(row, columns["solution"])
        solution, answer = (worked, None) if _marks_none(columns) else marked_answer(worked)
        if "answer" not in columns:
            _check_answer(answer, worked, columns["solution"])
    if "answer" in columns and not _marks_none(columns):
        given = text(row, columns["answer"])
        answer = marked_answer(given)[1]
        answer = given if answer is None else answer
        _check_answer(answer, given, columns["answer"])
    return Problem(
        id=text(row, columns["id"]) if "id" in columns else row.key,
        source=source,
        problem=text(row, columns["problem"]),
        solution=solution or None,
        answer=answer,
        level=level(row, columns["level"]) if columns.get("level") in row.values else None,
        subject=subject(text(row, columns["subject"])) if row.values.get(columns.get("subject")) is not None else None,
    )


def _marks_none(columns: dict[str, str | None]) -> bool:
    return "answer" in columns and columns["answer"] is None


def _check_answer(answer: str | None, given: str, column: str) -> None:
    if not answer:
        marks = r"after ####, in \boxed{} or after `The answer is`"
        raise InputError(f"`{column}`: expected an answer {marks}, but got {shown(given)}.")
