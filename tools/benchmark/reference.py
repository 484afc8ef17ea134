"""Makes the environment of the reference: apart from Lemma's own, pinned, and made once."""

import os
import subprocess
import sys
from pathlib import Path

from lemma.files import write_text
from lemma.types import InputError

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
    folder = CACHE / name
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = requirements.read_text() + constraints.read_text()
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"Making {folder} (some minutes, about 2 GB; kept for the next time) …", flush=True)
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-c", str(constraints)]
    write_text(CACHE / ".gitignore", "*\n")
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    _run([*pip, "torch"])  # first: pip then takes the build that is at hand instead of resolving the range anew
    _run([*pip, "-r", str(requirements)])
    write_text(stamp, wanted)
    return python


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, env=environment, stdout=sys.stderr, check=False)
    if done.returncode:
        raise InputError(f"reference_python: {' '.join(command)} ended with status {done.returncode}; see above.")
