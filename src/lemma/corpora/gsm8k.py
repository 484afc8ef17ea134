"""GSM8K's own format: ``{question, answer}`` with ``<<48/2=24>>`` annotations and the gold answer after ``####``."""

from lemma.corpora.adapter import Adapter
from lemma.corpora.marks import HASHES, split_hashes
from lemma.corpora.rows import Row, shown, text
from lemma.types import InputError, Problem


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem with the id ``<split>/<row>``.

    Raises:
        InputError: If a column is missing or empty, or no answer follows ``####``.
    """
    worked = text(row, "answer")
    solution, answer = split_hashes(worked)
    if not answer:
        raise InputError(f"`answer`: expected `{HASHES} <answer>` at its end, but got {shown(worked)}.")
    folders = row.key.split("/")
    return Problem(
        id=f"{folders[0]}/{folders[-1]}",
        source=source,
        problem=text(row, "question"),
        solution=solution or None,
        answer=answer,
    )


ADAPTER = Adapter(to_problem, hub="openai/gsm8k", subsets=("main",), licence="MIT")
