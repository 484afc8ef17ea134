"""Decides what the environment of the reference holds: pinned, and apart from Lemma's own."""

from pathlib import Path

from environments import make_environment

from lemma.files import write_text

TOOLS = Path(__file__).parents[1]
CACHE = TOOLS.parent / ".bench"


def reference_python(name: str) -> Path:
    """Return the interpreter of ``.bench/<name>``, which is made from ``<name>-requirements.txt`` if need be.

    Args:
        name: Of the reference, such as trl.

    Raises:
        InputError: If pip cannot install it.
    """
    requirements, constraints = TOOLS / "benchmark" / f"{name}-requirements.txt", TOOLS / "constraints.txt"
    install = ["install", "-c", str(constraints)]
    write_text(CACHE / ".gitignore", "*\n")
    steps = [[*install, "torch"], [*install, "-r", str(requirements)]]  # torch first: the build that is at hand
    return make_environment(CACHE / name, steps, wanted=requirements.read_text() + constraints.read_text())
