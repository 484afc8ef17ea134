"""Says what a process is and what it took: memory, versions, the machine under it. Needs the standard library alone."""

import importlib.metadata
import json
import os
import platform
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record for the process that started this one."""
    path.write_text(json.dumps(record))


def facts(packages: Iterable[str]) -> dict[str, Any]:
    """Return what belongs to the record of any side.

    Args:
        packages: Names of packages whose versions belong to it.
    """
    return {
        "peak_memory": resident_memory(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "gpu": None,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
    }


def resident_memory() -> int:
    """Return the most memory in bytes that this process had so far, with what the processes that it started had.

    ``ru_maxrss`` alone would be wrong: on Linux a process inherits that of the one that started it.
    """
    own = Path("/proc/self")
    if not (own / "status").is_file():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if platform.system() == "Darwin" else peak * 1024
    children = [pid for file in own.glob("task/*/children") for pid in file.read_text().split()]
    return sum(_peak(Path("/proc", pid, "status")) for pid in (str(os.getpid()), *children))


def machine() -> dict[str, Any]:
    """Return what this machine is, and how busy it is."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "platform": platform.platform(),
    }


def _peak(status: Path) -> int:
    """Return what a process had at most; nothing if it has ended."""
    try:
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return 0
