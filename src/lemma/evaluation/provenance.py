"""Decides which commit and which data a figure is of."""

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lemma.types import Problem


def git_output(*arguments: str) -> str | None:
    """Return a git command's output for the folder of this source, or None where there is no repository."""
    return _git(Path(__file__).parent, *arguments)


def git_commit() -> str | None:
    """Return the commit of this source or, if it stands in no repository, of the working directory, or None."""
    return git_output("rev-parse", "HEAD") or _git(Path(), "rev-parse", "HEAD")


def problems_sha256(problems: Sequence[Problem]) -> str:
    """Return a hash of what a benchmark asks, whatever file it came from: 64 hexadecimal digits.

    Args:
        problems: In any order; id, problem, answer, level and subject count.
    """
    digest = hashlib.sha256()
    for problem in sorted(problems, key=lambda problem: problem.id):
        content = [problem.id, problem.problem, problem.answer, problem.level, problem.subject]
        digest.update(json.dumps(content).encode() + b"\n")
    return digest.hexdigest()


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
