"""GSM8K's own format: ``{question, answer}`` with ``<<48/2=24>>`` annotations and the gold answer after ``####``."""

import re

from lemma.corpora.adapter import Adapter
from lemma.corpora.rows import Row, shown, text
from lemma.types import InputError, Problem

MARKER = "####"

_ANNOTATION = re.compile(r"<<[^<>\n]*>>")
_THOUSANDS = re.compile(r"[-+]?\$?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem with the id ``<split>/<row>``.

    Raises:
        InputError: If a column is missing or empty, or no answer follows ``####``.
    """
    worked = text(row, "answer")
    solution, answer = split_marked(worked)
    if not answer:
        raise InputError(f"`answer`: expected `{MARKER} <answer>` at its end, but got {shown(worked)}.")
    folders = row.key.split("/")
    return Problem(
        id=f"{folders[0]}/{folders[-1]}",
        source=source,
        problem=text(row, "question"),
        solution=solution or None,
        answer=answer,
    )


def split_marked(worked: str) -> tuple[str, str | None]:
    """Return (solution, answer) of a worked solution that ends in ``#### answer``.

    The solution loses its calculator annotations, the answer its thousands commas (``1,600`` → ``1600``). Where no
    ``####`` begins the last line of text (it may be a heading further up), the whole text is the solution and the
    answer None.
    """
    before, marker, after = worked.rpartition(MARKER)
    answer = after.strip()
    if not marker or "\n" in answer:
        return worked, None
    return _ANNOTATION.sub("", before).strip(), answer.replace(",", "") if _THOUSANDS.fullmatch(answer) else answer


ADAPTER = Adapter(to_problem, hub="openai/gsm8k", subsets=("main",))
