"""The side of Math-Verify in ``grade``: python -m benchmark.grade_math_verify BATCHES RUN_FOLDER"""

import logging

from math_verify import parse, verify

from benchmark.grade_side import Pair, measure


def grade(pairs: list[Pair]) -> list[bool]:
    """Parse and verify one after another, as Math-Verify is used."""
    return [verify(parse(f"${gold}$"), parse(text)) for gold, text in pairs]


if __name__ == "__main__":
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    measure(grade, ("math-verify", "sympy"))
