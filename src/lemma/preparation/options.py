"""Decides what the tools that show and write data take besides the configuration of a run."""

import re
from dataclasses import dataclass, field

from lemma.types import InputError

OWN = "own"
FORMATS = ("csv", "datasets")

_SPLIT = re.compile(r"[1-9][0-9]*/[1-9][0-9]*(/[1-9][0-9]*)?")


@dataclass(frozen=True)
class PreparationArgs:
    """What is written, and where."""

    output: str
    """Folder to write into; one that holds an unfinished output of the same configuration is gone on with."""
    split: str = OWN
    """own (val is what the run holds out, test its benchmarks), or proportions by a hash of the problem: 80/10/10, or
    90/10 with the benchmarks as test."""
    near_duplicates: float | None = None
    """Least similarity, above 0 and at most 1, of a problem that is left out because it resembles an earlier or a
    tested one, e.g. 0.8; null looks for none. Needs datasketch."""
    formats: list[str] = field(default_factory=lambda: list(FORMATS))
    """What is written besides JSON Lines: csv (id, problem, answer), datasets (Hugging Face, save_to_disk)."""

    def __post_init__(self) -> None:
        """Refuse what can be known to be wrong before anything is read.

        Raises:
            InputError: Names the key, the rule and the value.
        """
        _expect(bool(self.output), "output", "a folder", self.output)
        _expect(self.split == OWN or bool(_SPLIT.fullmatch(self.split)), "split", "own, 80/10/10 or 90/10", self.split)
        similarity = self.near_duplicates
        rule = "a similarity above 0 and at most 1, or null"
        _expect(similarity is None or 0 < similarity <= 1, "near_duplicates", rule, similarity)
        for name in self.formats:
            _expect(name in FORMATS, "formats", f"among {', '.join(FORMATS)}", name)


@dataclass(frozen=True)
class InspectionArgs:
    """What is shown."""

    num_examples: int = 2
    """Decoded examples of each corpus."""
    source: str | None = None
    """The one corpus whose examples, lengths and dropped rows are shown; null shows all."""
    output: str | None = None
    """PNG file for the histogram of lengths; null draws it in the terminal alone."""

    def __post_init__(self) -> None:
        """Refuse what cannot be shown.

        Raises:
            InputError: Names the key, the rule and the value.
        """
        _expect(self.num_examples >= 0, "num_examples", "at least 0", self.num_examples)
        _expect(self.output is None or self.output.endswith(".png"), "output", "a .png file", self.output)


def _expect(holds: bool, key: str, rule: str, value: object) -> None:
    if not holds:
        raise InputError(f"--{key}: expected {rule}, but got {value!r}.")
