r"""AIME, in each form in which it is published; an answer is a whole number from 0 to 999.

The forms, by their columns:

1. From 1983 to 2023: ``{problem, solution, answer, year, aime_number, problem_number, difficulty}``; some answers begin
   with zeros.
2. NeMo-Skills, 2024 and 2025: ``{id, problem, expected_answer, reference_solution}``.
3. The hub's: ``{id, problem, solution, answer, year}`` (HuggingFaceH4/aime_2024), ``{problem, answer, id}``
   (math-ai/aime25), ``{question, answer}`` with a subset an exam (opencompass/AIME2025), ``{ID, Problem, Solution,
   Answer}`` (Maxwell-Jia/AIME_2024), ``{ID, Year, Problem Number, Question, Answer, Part}``
   (di-zhang-fdu/AIME_1983_2024).
4. Several of these in one file: ``{…, source_dataset, original_id, global_id}``, where only ``global_id`` is unique.

The subject of a problem is the part of the collection: ``source_dataset``, or the year and the exam where given.
"""

import re

from lemma.corpora.adapter import Adapter
from lemma.corpora.rows import Row, optional_text, present, shown, subject, text
from lemma.types import InputError, Problem

PROBLEM = ("problem", "question", "Problem", "Question")
SOLUTION = ("solution", "reference_solution", "Solution")
ANSWER = ("answer", "expected_answer", "Answer")
IDS = ("global_id", "id", "ID")
EXAMS = ("I", "II")
LAST = 15
"""Number of an exam's last problem."""


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem; the id is the row's own, else ``<year>-<exam>-<number>``, else its place.

    The level is the whole part of ``difficulty``, where there is one.

    Raises:
        InputError: If there is no problem or answer, or the answer is no whole number from 0 to 999.
    """
    identity, solution = present(row, IDS), present(row, SOLUTION)
    return Problem(
        id=text(row, identity) if identity else _exam_id(row) or row.key,
        source=source,
        problem=text(row, present(row, PROBLEM) or PROBLEM[0]),
        solution=optional_text(row, solution) if solution else None,
        answer=whole_number(text(row, present(row, ANSWER) or ANSWER[0]), largest=999),
        level=_level(row),
        subject=_part(row),
    )


def whole_number(answer: str, *, largest: int) -> str:
    r"""Return an answer without leading zeros and without the degree sign that one published form has (``336^\circ``).

    Args:
        answer: As published, e.g. ``073``.
        largest: The largest number that the contest allows.

    Raises:
        InputError: If it is no whole number from 0 to ``largest``.
    """
    found = re.fullmatch(r"\$?0*(\d+)(?:\^\\circ|\^\{\\circ\}|°)?\$?", answer)
    if found is None or int(found[1]) > largest:
        raise InputError(f"`answer`: expected a whole number from 0 to {largest}, but got {shown(answer)}.")
    return found[1]


def _exam_id(row: Row) -> str | None:
    """Return the id of a problem whose columns say which it is, e.g. ``2023-II-15``, else None."""
    if not {"year", "aime_number", "problem_number"} <= row.values.keys():
        return None
    number = text(row, "problem_number")
    return f"{text(row, 'year')}-{_exam(row)}-{LAST if number == '0' else number}"  # 2023's last problems are called 0


def _exam(row: Row) -> str:
    number = text(row, "aime_number")
    if number not in ("1", "2"):
        raise InputError(f"`aime_number`: expected 1 or 2, but got {shown(number)}.")
    return EXAMS[int(number) - 1]


def _level(row: Row) -> int | None:
    difficulty = row.values.get("difficulty")
    if difficulty is None:
        return None
    if isinstance(difficulty, bool) or not isinstance(difficulty, int | float) or not 0 <= difficulty < 100:
        raise InputError(f"`difficulty`: expected a number, but got {shown(difficulty)}.")
    return int(difficulty)


def _part(row: Row) -> str | None:
    if "source_dataset" in row.values:
        return subject(text(row, "source_dataset"))
    year = present(row, ("year", "Year"))
    if year is None:
        return None
    exam = _exam(row) if "aime_number" in row.values else optional_text(row, "Part")
    return subject(f"{text(row, year)} {exam or ''}")


ADAPTER = Adapter(to_problem)
