"""Makes virtual environments for what must not share Lemma's own: pinned, and made once."""

import os
import subprocess
import sys
from pathlib import Path

from lemma.files import write_text
from lemma.types import InputError

_STAMP = ".installed"


def make_environment(folder: Path, steps: list[list[str]], *, wanted: str) -> Path:
    """Return the interpreter of a virtual environment, which is made unless it stands there as wanted.

    Args:
        folder: Of the environment.
        steps: Arguments of pip, one call after another.
        wanted: Text that names what it holds; one that was made for another text is made anew.

    Raises:
        InputError: If a step fails; its output stands above.
    """
    python, stamp = folder / "bin" / "python", folder / _STAMP
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"Making {folder} (some minutes, some GB; kept for the next time) …", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    for number, step in enumerate(steps, start=1):
        print(f"  {number} of {len(steps)}: pip {' '.join(step)}", flush=True)
        _run([str(python), "-m", "pip", "--disable-pip-version-check", "-qq", *step])
    write_text(stamp, wanted)
    return python


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, env=environment, stdout=sys.stderr, check=False)
    if done.returncode:
        raise InputError(f"{' '.join(command)} ended with status {done.returncode}; see above.")
