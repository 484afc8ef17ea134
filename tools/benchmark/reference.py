"""Decides which references there are, and what the environment of one holds that must not share Lemma's own."""

import sys
from pathlib import Path
from typing import NamedTuple

from environments import make_environment

from lemma.files import write_text

TOOLS = Path(__file__).parents[1]
CACHE = TOOLS.parent / ".bench"


class Reference(NamedTuple):
    """What Lemma is compared with: how it is called, and the package whose version counts."""

    title: str
    package: str


REFERENCES = {
    "trl": Reference("TRL", "trl"),
    "hf": Reference("Transformers", "transformers"),
    "math_verify": Reference("Math-Verify", "math-verify"),
}


def reference_python(name: str) -> Path:
    """Return the interpreter of a reference.

    One with a ``<name>-requirements.txt`` runs in ``.bench/<name>``, which is made from it if need be; any other is a
    dependency of Lemma, pinned by tools/constraints.txt, and runs where Lemma does.

    Args:
        name: Among ``REFERENCES``, or none.

    Raises:
        InputError: If pip cannot install it.
    """
    requirements, constraints = TOOLS / "benchmark" / f"{name}-requirements.txt", TOOLS / "constraints.txt"
    if not requirements.is_file():
        return Path(sys.executable)
    install = ["install", "-c", str(constraints)]
    write_text(CACHE / ".gitignore", "*\n")
    steps = [[*install, "torch"], [*install, "-r", str(requirements)]]  # torch first: the build that is at hand
    return make_environment(CACHE / name, steps, wanted=requirements.read_text() + constraints.read_text())
