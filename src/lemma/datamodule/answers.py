"""Decides which training problems can be in a rollout: those with a question, and an answer that can be read."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from lemma.answers import Grader
from lemma.corpora import Corpus, cached_folder, chunks, code_hash
from lemma.types import InputError, Problem

_CHUNK = 4096  # problems in memory
_SHOWN = 5  # problems that a message names
_FILE = "complaints.json"


def without_ungradable(
    corpora: Sequence[Corpus], dropped: Sequence[np.ndarray], *, cache: Path | None
) -> list[np.ndarray]:
    """Return for each training corpus which of its problems must not be used, (N,) bool, and say which came to it.

    Args:
        corpora: To make rollouts for.
        dropped: For each corpus, what is left out already, (N,) bool; nothing is asked of its answers.
        cache: Folder in which what was found is kept for the next time, or None.

    Raises:
        InputError: If a corpus holds preference pairs, or a problem has no question or no answer that the grader can
            read and ``on_bad_row`` is not ``skip``; names corpus, problem and answer.
    """
    with Grader() as grader:
        return [
            _left_out(corpus, out, _complaints(corpus, grader, cache))
            for corpus, out in zip(corpora, dropped, strict=True)
        ]


def _left_out(corpus: Corpus, out: np.ndarray, complaints: dict[int, str]) -> np.ndarray:
    new = [index for index in sorted(complaints) if not out[index]]
    if not new:
        return out
    told = [f"{corpus.source}, problem {corpus.problems[i].id}: {complaints[i]}" for i in new[:_SHOWN]]
    listed = "; ".join(told) + "." + (f" And {len(new) - _SHOWN} more." if len(new) > _SHOWN else "")
    if corpus.args.on_bad_row == "error":
        raise InputError(f"data.corpora: {listed} (`on_bad_row: skip` leaves out such problems.)")
    rank_zero_info(f"{corpus.source}: {len(new)} of {len(out)} problems cannot be graded and are left out: {listed}")
    out = out.copy()
    out[new] = True
    return out


def _complaints(corpus: Corpus, grader: Grader, cache: Path | None) -> dict[int, str]:
    """Return what is wrong with problems of a corpus, by index; found now or taken from the cache."""
    if cache is None:
        return _find(corpus.problems, grader)
    key = {
        "kind": "gradable answers",
        "code": code_hash("answers"),
        "store": corpus.store.sha256,
        "rows": hashlib.sha256(np.ascontiguousarray(corpus.rows).tobytes()).hexdigest(),
    }

    def build(folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(_find(corpus.problems, grader)), "utf-8")

    found = json.loads((cached_folder(cache, key, build) / _FILE).read_text("utf-8"))
    return {int(index): complaint for index, complaint in found.items()}


def _find(problems: Sequence[Problem], grader: Grader) -> dict[int, str]:
    complaints: dict[int, str] = {}
    first = 0
    for some in chunks(problems, _CHUNK):
        read = []
        for index, problem in enumerate(some, first):
            if not problem.problem.strip():
                complaints[index] = "no question to draw completions for"
            elif not (problem.answer or "").strip():
                complaints[index] = "no answer to grade against"
            else:
                read.append((index, problem.answer))
        for number in grader.unreadable([answer for _, answer in read]):
            index, answer = read[number]
            complaints[index] = f"the grader can make nothing of the answer {answer!r}"
        first += len(some)
    return complaints
