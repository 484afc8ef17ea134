"""GSM8K-Backward's own format: ``{question, answer, original_question, …}``, one asks for an unknown x.

Half of the published rows bring a worked solution as ``output``, half as ``inv_question_pred_answer``; a model wrote
both. Source: MetaMath, arXiv:2309.12284.
"""

from lemma.corpora.adapter import Adapter
from lemma.corpora.marks import marked_answer
from lemma.corpora.rows import Row, optional_text, text
from lemma.types import Problem

WORKED = ("output", "inv_question_pred_answer")


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem; the answer is the column's, and a solution that marks another one is left out.

    Raises:
        InputError: If a column is missing or empty.
    """
    answer = text(row, "answer")
    worked = next(filter(None, (optional_text(row, name) for name in WORKED)), None)
    solution, marked = marked_answer(worked) if worked else (None, None)
    return Problem(
        id=row.key,
        source=source,
        problem=text(row, "question"),
        solution=solution if marked in (None, answer) else None,
        answer=answer,
    )


ADAPTER = Adapter(to_problem, hub="meta-math/GSM8K_Backward", licence="Apache-2.0")
