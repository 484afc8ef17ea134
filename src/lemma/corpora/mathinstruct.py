"""MathInstruct's own format: ``{source, instruction, output}``, chains of thought and programs of thought.

``source`` is a path such as ``data/CoT/gsm_rft.json``; the subject of a problem is its end, e.g. ``cot_gsm_rft``.
Source: arXiv:2309.05653.
"""

from lemma.corpora.adapter import Adapter
from lemma.corpora.marks import marked_answer
from lemma.corpora.rows import Row, subject, text
from lemma.types import Problem


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem.

    The answer of a chain of thought is the marked one (see ``marks.py``); a chain that marks none and every program
    have none, and are trained on as they are.

    Raises:
        InputError: If a column is missing or empty.
    """
    part = text(row, "source").removeprefix("data/").removesuffix(".json")
    worked = text(row, "output")
    solution, answer = marked_answer(worked) if part.startswith("CoT/") else (worked, None)
    return Problem(
        id=row.key,
        source=source,
        problem=text(row, "instruction"),
        solution=solution if answer else worked,
        answer=answer or None,
        subject=subject(part),
    )


ADAPTER = Adapter(to_problem, hub="TIGER-Lab/MathInstruct", licence="MIT")
