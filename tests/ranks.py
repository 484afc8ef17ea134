"""Runs ``lemma`` on several ranks as torchrun starts it, each forked from a process that has done the imports.

These take most of a short run, and Lightning's own launcher has the ranks do them one after another.
"""

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lemma.__main__ import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["lemma.cli", "peft"])


def run_ranks(
    arguments: Sequence[str], ranks: int, folder: Path, environment: Mapping[str, str], *, timeout: float = 240
) -> subprocess.CompletedProcess:
    """Run ``lemma`` on this machine and return it finished: with a status other than 0 if a rank has one.

    Args:
        arguments: What comes after ``lemma``.
        ranks: How many there are.
        folder: Where what they print is written.
        environment: Variables besides those that are set here.
        timeout: Seconds until they are killed.

    Raises:
        subprocess.TimeoutExpired: If they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    shared = {**os.environ, **environment, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"GROUP_RANK": "0", "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    processes = []
    for rank in range(ranks):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        target = ["lemma", *arguments], {**shared, **own}, os.getcwd(), str(folder / f"rank{rank}.txt")
        processes.append(_CONTEXT.Process(target=_run, args=target))
        processes[-1].start()
    deadline = time.monotonic() + timeout
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    is_late = any(process.exitcode is None for process in processes)
    for process in processes:
        process.kill()
        process.join()
    printed = "".join((folder / f"rank{rank}.txt").read_text() for rank in range(ranks))
    if is_late:
        raise subprocess.TimeoutExpired(arguments, timeout, stderr=printed)
    status = next((process.exitcode for process in processes if process.exitcode), 0)
    return subprocess.CompletedProcess(arguments, status, stdout="", stderr=printed)


def _run(argv: list[str], environment: dict[str, str], cwd: str, printed: str) -> None:
    with open(printed, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = argv
    multiprocessing.set_start_method(None, force=True)
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", "1")))
    main()
