"""Lemma's side of ``grade``: python -m benchmark.grade_lemma BATCHES RUN_FOLDER"""

from benchmark.grade_side import Pair, measure
from lemma.answers import Grader
from lemma.types import Verdict


def main() -> None:
    """Grade a batch in one call, with one worker process for what takes computer algebra."""
    with Grader() as grader:
        grader.grade([(r"\int_0^1 x dx", "1/2")])  # starts the worker

        def grade(pairs: list[Pair]) -> list[bool]:
            graded = grader.grade_texts(*zip(*pairs, strict=True))
            return [each.flexible_verdict is Verdict.CORRECT for each in graded]

        measure(grade, ("lemma", "sympy", "math-verify"))


if __name__ == "__main__":
    main()
