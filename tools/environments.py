"""Makes virtual environments for what must not share Lemma's own: pinned, and made once."""

import os
import subprocess
import sys
import time
from pathlib import Path

from lemma.files import write_text
from lemma.types import InputError

_STAMP = ".installed"
_SECONDS = 20.0  # between two lines of a step that goes on


def make_environment(folder: Path, steps: list[list[str]], *, wanted: str, size: str = "some GB") -> Path:
    """Return the interpreter of a virtual environment, which is made unless it stands there as wanted.

    Args:
        folder: Of the environment.
        steps: Arguments of pip, one call after another.
        wanted: Text that names what it holds; one that was made for another text is made anew.
        size: What to expect of it on disk, in words.

    Raises:
        InputError: If a step fails; its output stands above.
    """
    python, stamp = folder / "bin" / "python", folder / _STAMP
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"Making {folder} (some minutes, {size}; kept for the next time) …", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(folder)], "venv")
    for number, step in enumerate(steps, start=1):
        print(f"  {number} of {len(steps)}: pip {' '.join(step)}", flush=True)
        _run([str(python), "-m", "pip", "--disable-pip-version-check", "-qq", *step], f"{number} of {len(steps)}")
    write_text(stamp, wanted)
    return python


def _run(command: list[str], name: str) -> None:
    """Run a step to its end, with a line now and then by which it is seen to go on."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    began = time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=sys.stderr) as process:
        try:
            while (status := _status(process)) is None:
                print(f"  {name}: {time.monotonic() - began:.0f} s", flush=True)
        except BaseException:
            process.kill()
            raise
    if status:
        raise InputError(f"{' '.join(command)} ended with status {status}; see above.")


def _status(process: subprocess.Popen) -> int | None:
    """Return the status with which a process ends in the next seconds, None if it goes on."""
    try:
        return process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        return None
