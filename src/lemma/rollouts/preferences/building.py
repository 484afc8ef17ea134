"""Decides how files of trajectories become a file of pairs: read once, row by row, in memory that files do not fill.

1. Each row is a problem with all its trajectories; the pairs that it gives (`choosing.py`) go to a temporary file
   beside the output. A hash of eight bytes is held of each problem and each pair.
2. When all are counted it is known which of them stay (`thinning.py`); these go from there to the output, in order.
"""

import contextlib
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Literal

from tqdm import tqdm

from lemma.corpora.formats import read_table
from lemma.corpora.rows import BadRow
from lemma.files import keep_previous, write_atomic, write_json
from lemma.rewards.coherence import CoherenceArgs
from lemma.rollouts.preferences.args import PairingArgs
from lemma.rollouts.preferences.candidates import Candidate, Scoring, read_candidates
from lemma.rollouts.preferences.choosing import Pair, choose_pairs
from lemma.rollouts.preferences.report import Report
from lemma.rollouts.preferences.thinning import Thinning
from lemma.types import InputError, Problem

_SUFFIX = ".jsonl"


def build_preferences(
    trajectories: list[Path], output: Path, pairs: PairingArgs | None = None, coherence: CoherenceArgs | None = None,
    max_length: int | None = None, rescore: bool = False, on_bad_row: Literal["error", "skip"] = "error",
) -> tuple[Report, list[str]]:  # fmt: skip
    """Write the pairs of trajectories as rows for the corpus ``preferences``, and a report beside them.

    What stood at ``output`` is kept under another name.

    Args:
        trajectories: Files of ``lemma predict``, ``lemma validate`` or ``tools/regrade.py``: a row a problem, and no
            problem twice, for trajectories are coherent with all others of their problem.
        output: File to write, ``<name>.jsonl``; the report is ``<name>-report.json``.
        pairs: How many pairs of which kind.
        coherence: For scores and rewards that rows do not bring.
        max_length: Tokens that cost the whole ``coherence.length_cost`` in these rewards; null lets length cost
            nothing.
        rescore: Compute scores and rewards again for rows that bring them; their ``s_cf`` stays.
        on_bad_row: What a row that cannot be read, or a problem that comes again, does: error, or skip.

    Returns:
        What was counted, and warnings.

    Raises:
        InputError: If something cannot be read or written, or there is no pair of a kind that was asked for.
    """
    args, scoring = pairs or PairingArgs(), Scoring(coherence or CoherenceArgs(), max_length, rescore)
    _check_files(trajectories, output)
    report, thinning = Report(), Thinning(args)
    with _spool(output.parent) as spool:
        for problem, candidates in _problems(trajectories, scoring, on_bad_row, report):
            choice = choose_pairs(f"{problem.source}/{problem.id}", candidates, args)
            report.problem(problem.source, choice.outcome, choice.unused)
            for row in _rows(problem, choice.pairs):
                thinning.add(row)
                report.found(row)
                spool.write(_line(row))
        warnings = report.check(args)
        thinning.settle()
        keep_previous(output)
        write_atomic(output, lambda stream: _write_kept(spool, stream, thinning, report))
    beside = output.with_name(f"{output.stem}-report.json")
    keep_previous(beside)
    settings = {"pairs": asdict(args), "coherence": asdict(scoring.coherence), "max_length": max_length}
    sources = {"trajectories": [str(path) for path in trajectories], "rescore": rescore}
    write_json(beside, {**sources, **settings, **report.as_json(), "warnings": warnings})
    return report, warnings


def _problems(
    paths: Sequence[Path], scoring: Scoring, on_bad_row: str, report: Report
) -> Iterator[tuple[Problem, list[Candidate]]]:
    seen: set[bytes] = set()
    for path in paths:
        for row in tqdm(read_table(path), desc=path.name, total=_num_lines(path), unit="problem"):
            try:
                if isinstance(row, BadRow):
                    raise InputError(row.reason)
                problem, candidates = read_candidates(row.values, scoring)
                key = hashlib.blake2b(json.dumps([problem.source, problem.id]).encode(), digest_size=8).digest()
                if key in seen:
                    raise InputError(f"problem {problem.id} of {problem.source} was there before.")
            except ValueError as error:
                if on_bad_row == "error":
                    raise InputError(f"{row.where}: {error} (`--on_bad_row skip` leaves out such rows.)") from error
                report.bad_row(f"{row.where}: {error}")
                continue
            seen.add(key)
            yield problem, candidates


def _rows(problem: Problem, pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    """Yield the pairs of a problem as rows for the corpus ``preferences``, with what is known of their sides."""
    ranks: Counter[str] = Counter()
    for pair in pairs:
        sides = (pair.chosen, pair.rejected)
        yield {
            "id": f"{problem.source}/{problem.id}/{pair.pair_type}-{ranks[pair.pair_type]}",
            "source": problem.source,
            "problem_id": problem.id,
            "level": problem.level,
            "subject": problem.subject,
            "problem": problem.problem,
            "chosen": pair.chosen.text,
            "rejected": pair.rejected.text,
            "kind": pair.pair_type,
            "pair_type": pair.pair_type,
            "rank": ranks[pair.pair_type],
            "arms": [side.arm for side in sides],
            "grades": [side.grade for side in sides],
            "scores": [side.scores for side in sides],
            "rewards": [side.reward for side in sides],
            "tokens": [side.num_tokens for side in sides],
        }
        ranks[pair.pair_type] += 1


def _write_kept(spool: BinaryIO, stream: BinaryIO, thinning: Thinning, report: Report) -> None:
    spool.seek(0)
    for line in spool:
        row = json.loads(line)
        if thinning.keeps(row):
            report.kept(row)
            stream.write(line)


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


@contextlib.contextmanager
def _spool(folder: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file in a folder, which is made.

    Raises:
        InputError: If it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            yield stream
    except OSError as error:
        raise InputError(f"{folder}: could not be written ({error}).") from error


def _check_files(paths: Sequence[Path], output: Path) -> None:
    if not paths:
        raise InputError("trajectories: expected at least one file, but got none.")
    for key, path in [*(("trajectories", path) for path in paths), ("output", output)]:
        if path.suffix != _SUFFIX:
            raise InputError(f"{key}: expected a file ending in {_SUFFIX}, but got {path}.")
    for path in paths:
        if not path.is_file():
            raise InputError(f"trajectories: {path}: no such file.")
        if path.resolve() == output.resolve():
            raise InputError(f"output: {output} is one of the inputs; choose another file.")


def _num_lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(1 for _ in stream)
