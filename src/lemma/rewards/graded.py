"""What a completion earns for being right."""

from collections.abc import Sequence

from lemma.rewards.options import expect, is_number
from lemma.types import Verdict

Level = float | str | None
"""A number; ``wrong``, to count as a wrong answer; or None, to be left out."""


def correctness(
    completions: Sequence[str],
    *,
    verdicts: Sequence[str],
    correct: float = 5.0,
    wrong: float = 0.0,
    unparseable: Level = "wrong",
    timeout: Level = None,
    **columns: object,
) -> list[float | None]:
    """Return what each completion's verdict is worth: ``correct`` or ``wrong`` (arXiv:2402.03300, rule-based reward).

    It does not grade: the verdicts are the caller's, who counts them as well, and has them from
    ``Grader.grade_texts``. A verdict that was not reached in time says nothing of the policy, and is left out.

    Args:
        completions: N texts.
        verdicts: N values of ``Verdict``.
        correct: For a right answer.
        wrong: For a wrong one.
        unparseable: For a completion without an answer: a number, ``wrong`` or None.
        timeout: Where the grader ran out of time: a number, ``wrong`` or None.
        columns: Not used.

    Returns:
        N values among the four; 5 or 0, and None for a timeout, by default.

    Raises:
        InputError: If an option is neither a number nor what it may be besides.
        ValueError: If a verdict is not one.
    """
    for key, value in (("correct", correct), ("wrong", wrong)):
        expect(is_number(value), key, "a number", value)
    for key, value in (("unparseable", unparseable), ("timeout", timeout)):
        expect(value is None or value == "wrong" or is_number(value), key, "a number, wrong or null", value)
    worth = {
        Verdict.CORRECT: correct,
        Verdict.WRONG: wrong,
        Verdict.UNPARSEABLE: wrong if unparseable == "wrong" else unparseable,
        Verdict.TIMEOUT: wrong if timeout == "wrong" else timeout,
    }
    values = [worth[Verdict(verdict)] for _, verdict in zip(completions, verdicts, strict=True)]
    return [None if value is None else float(value) for value in values]
