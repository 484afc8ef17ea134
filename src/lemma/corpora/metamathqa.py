"""MetaMathQA's own format: ``{query, response, type, original_question}``; each response ends in ``The answer is: 42``.

The subject of a problem is its ``type``, e.g. ``math_rephrased``. Source: arXiv:2309.12284.
"""

from lemma.corpora.adapter import Adapter
from lemma.corpora.marks import split_hashes, split_sentence
from lemma.corpora.rows import Row, shown, subject, text
from lemma.types import InputError, Problem


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem; the solution loses the line of the answer, and a line ``#### 42`` above it.

    Raises:
        InputError: If a column is missing or empty, or the response does not end in ``The answer is: …``.
    """
    response = text(row, "response")
    solution, answer = split_sentence(response)
    if not answer:
        raise InputError(f"`response`: expected `The answer is: <answer>` at its end, but got {shown(response)}.")
    return Problem(
        id=row.key,
        source=source,
        problem=text(row, "query"),
        solution=split_hashes(solution)[0] or None,
        answer=answer,
        subject=subject(text(row, "type")),
    )


ADAPTER = Adapter(to_problem, hub="meta-math/MetaMathQA", licence="MIT")
