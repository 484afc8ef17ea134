"""Decides which corpora there are and how a configuration asks for one.

To add a format: one file like ``gsm8k.py`` with an ``ADAPTER``, and one line in ``ADAPTERS``.
"""

import math
import re
from dataclasses import dataclass, fields
from typing import Any

from lemma.corpora import (
    aime,
    aimo,
    aqua,
    graded,
    gsm8k,
    gsm8k_backward,
    gsm8k_platinum,
    gsm8k_solutions,
    limo,
    mapped,
    math500,
    mathinstruct,
    metamathqa,
    nemotron_cc_math,
    numinamath,
    openmathinstruct2,
    orca_math,
    preferences,
    text,
)
from lemma.corpora import math as hendrycks_math
from lemma.corpora.adapter import Adapter
from lemma.corpora.split import FOLDS
from lemma.types import InputError

ADAPTERS: dict[str, Adapter] = {
    "aime": aime.ADAPTER,
    "aimo": aimo.ADAPTER,
    "aqua": aqua.ADAPTER,
    "graded": graded.ADAPTER,
    "gsm8k": gsm8k.ADAPTER,
    "gsm8k_backward": gsm8k_backward.ADAPTER,
    "gsm8k_platinum": gsm8k_platinum.ADAPTER,
    "gsm8k_solutions": gsm8k_solutions.ADAPTER,
    "limo": limo.ADAPTER,
    "math": hendrycks_math.ADAPTER,
    "math500": math500.ADAPTER,
    "mathinstruct": mathinstruct.ADAPTER,
    "metamathqa": metamathqa.ADAPTER,
    "nemotron_cc_math": nemotron_cc_math.ADAPTER,
    "numinamath": numinamath.ADAPTER,
    "openmathinstruct2": openmathinstruct2.ADAPTER,
    "orca_math": orca_math.ADAPTER,
    "preferences": preferences.ADAPTER,
    "text": text.ADAPTER,
}
"""Name → adapter of a native format."""

ARITHMETIC, MAPPED = "arithmetic", "mapped"
ANSWERS = "answers"
"""Subset of the generated corpus that has no worked solutions, as collections of competition problems have none."""
NAMES = tuple(sorted((*ADAPTERS, ARITHMETIC, MAPPED)))
"""Every name that ``CorpusArgs`` takes: the adapters, the generated corpus, and columns that the user names."""

_FOLDS = re.compile(r"[1-9][0-9]*/[1-9][0-9]*(/[1-9][0-9]*)?")

FILTERS: dict[str, tuple[type, ...]] = {"level": (int, type(None)), "subject": (str, type(None))}
"""Key of ``CorpusArgs.where`` → types of the values to keep; null keeps the problems without one."""

_GRADED = tuple(name for name, adapter in ADAPTERS.items() if adapter.graded)


@dataclass
class CorpusArgs:
    """One corpus of a mixture, or one benchmark."""

    name: str
    """Format: aime, aimo, aqua, gsm8k, gsm8k_backward, gsm8k_platinum, limo, math, math500, mathinstruct, metamathqa,
    nemotron_cc_math, numinamath, openmathinstruct2, orca_math, text (plain text without a question), mapped (columns
    that you name) or arithmetic (generated). Of preference pairs: preferences (prompt, chosen, rejected), graded
    (records.jsonl of lemma validate) or gsm8k_solutions (OpenAI's example solutions)."""
    path: str | None = None
    """File (.jsonl, .json, .csv, .parquet, .arrow), folder, .tar.gz or hub name; null is the format's own hub name."""
    split: str = "train"
    """Split of the hub data set, the folder, the archive or the generated corpus; a file is read whole."""
    source: str | None = None
    """Label in metrics and logs; null is the name."""
    weight: float | None = None
    """Share of the sampled mixture, above 0 and in any unit; null in every corpus takes each row once an epoch."""
    max_rows: int | None = None
    """Number of problems or pairs kept, drawn by seed after `where`; for arithmetic the number generated, 2000 by
    default."""
    where: dict[str, list] | None = None
    """Problems to keep: {level: [1, 2], subject: [algebra]}; null in a list keeps the problems without one."""
    fold: str | None = None
    """Part of the problems, by a hash of their text: train, validation or test; null is all of them."""
    folds: str = "80/10/10"
    """Proportions of the three; 90/10 has no test fold."""
    columns: dict[str, str | None] | None = None
    """For mapped: {problem: question, answer: gold, solution: cot, level: difficulty, subject: topic, id: uid}; with
    answer: null a solution is taken as it is, and needs no marked answer."""
    subset: str | None = None
    """Name of the hub data set's configuration, e.g. main; for arithmetic, answers leaves the solutions out."""
    revision: str | None = None
    """Branch, tag or commit of the hub data set; null is the newest."""
    streaming: bool = False
    """Read the hub data set row by row without keeping it on the disk (local files always are read row by row)."""
    loss_weight: float = 1.0
    """Weight of each of the corpus's tokens in the SFT loss, of each of its pairs in the DPO loss, above 0."""
    on_bad_row: str = "error"
    """What a row that cannot be read does: error, or skip (such rows are counted and reported)."""
    pairs_per_problem: int = 1
    """For graded and gsm8k_solutions: pairs of a right and a wrong completion made of one problem, at most."""

    @property
    def holds_pairs(self) -> bool:
        """Return whether it is a corpus of preference pairs, not of problems."""
        return self.name in ADAPTERS and ADAPTERS[self.name].to_preferences is not None

    def __post_init__(self) -> None:
        """Refuse what can be known to be wrong before anything is read.

        Raises:
            InputError: If a value is out of range, a name is unknown, or two keys do not go together.
        """
        _expect(self.name in NAMES, "name", f"one of {', '.join(NAMES)}", self.name)
        _expect(self.path != "", "path", "a path, a hub name or null", self.path)
        _expect(bool(self.split), "split", "the name of a split", self.split)
        _expect(_is_label(self.source), "source", "a label without blanks and slashes", self.source)
        _expect(self.weight is None or _is_positive(self.weight), "weight", "a number above 0", self.weight)
        _expect(
            self.max_rows is None or (type(self.max_rows) is int and self.max_rows >= 1),
            "max_rows",
            "at least 1",
            self.max_rows,
        )
        _expect(self.fold is None or self.fold in FOLDS, "fold", f"one of {', '.join(FOLDS)} or null", self.fold)
        _expect(_FOLDS.fullmatch(self.folds) is not None, "folds", "proportions such as 80/10/10 or 90/10", self.folds)
        _expect(_is_positive(self.loss_weight), "loss_weight", "a number above 0", self.loss_weight)
        _expect(self.on_bad_row in ("error", "skip"), "on_bad_row", "error or skip", self.on_bad_row)
        if self.name == ARITHMETIC:
            for key in ("path", "revision"):
                value = getattr(self, key)
                _expect(value is None, key, "null for the generated corpus arithmetic", value)
            known = (None, ANSWERS)
            _expect(self.subset in known, "subset", f"null or {ANSWERS} for the corpus arithmetic", self.subset)
            _expect(not self.streaming, "streaming", "false for the generated corpus arithmetic", self.streaming)
        most = self.pairs_per_problem
        _expect(type(most) is int and most >= 1, "pairs_per_problem", "at least 1", most)
        rule = f"1 for {self.name} (only {' and '.join(_GRADED)} make pairs)"
        _expect(most == 1 or self.name in _GRADED, "pairs_per_problem", rule, most)
        _check_columns(self.name, self.path, self.columns)
        _check_where(self.where)


def corpus_args(value: dict[str, Any]) -> CorpusArgs:
    """Return the arguments that a mapping from a configuration gives.

    Raises:
        InputError: If it is no mapping, a key is unknown, the name is missing, or a value is refused.
    """
    if not isinstance(value, dict):
        raise InputError(f"corpus: expected a mapping such as {{name: gsm8k}}, but got {value!r}.")
    known = [field.name for field in fields(CorpusArgs)]
    for key in value:
        _expect(key in known, "keys", f"among {', '.join(known)}", key)
    _expect("name" in value, "name", f"one of {', '.join(NAMES)}", None)
    return CorpusArgs(**value)


def given_args(args: CorpusArgs) -> dict[str, Any]:
    """Return the mapping that ``corpus_args`` takes, without the keys that hold their default."""
    return {
        field.name: getattr(args, field.name)
        for field in fields(CorpusArgs)
        if getattr(args, field.name) != field.default
    }


def _expect(holds: bool, key: str, rule: str, value: object) -> None:
    if not holds:
        raise InputError(f"corpus: expected `{key}` to be {rule}, but got {value!r}.")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def _is_label(source: str | None) -> bool:
    return source is None or re.fullmatch(r"[^\s/]+", source) is not None


def _check_columns(name: str, path: str | None, columns: dict[str, str | None] | None) -> None:
    if name != MAPPED:
        _expect(columns is None, "columns", f"null for {name} (only {MAPPED} takes columns)", columns)
        return
    _expect(path is not None, "path", f"a file, folder or hub name for {MAPPED}", path)
    _expect(bool(columns) and "problem" in columns, "columns", "a mapping with the key problem", columns)
    for key, column in columns.items():
        _expect(key in mapped.KEYS, "columns", f"a mapping with keys among {', '.join(mapped.KEYS)}", {key: column})
        if (key, column) != ("answer", None):
            _expect(isinstance(column, str) and bool(column), f"columns.{key}", "the name of a column", column)


def _check_where(where: dict[str, list] | None) -> None:
    for key, values in (where or {}).items():
        _expect(key in FILTERS, "where", f"a mapping with keys among {', '.join(FILTERS)}", {key: values})
        kind = "whole numbers" if key == "level" else "texts"
        right = isinstance(values, list) and all(
            isinstance(value, FILTERS[key]) and not isinstance(value, bool) for value in values
        )
        _expect(right and len(values) > 0, f"where.{key}", f"a list of {kind}", values)
