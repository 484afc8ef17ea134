"""Decides which Arrow files a folder stands for that ``datasets`` wrote with ``save_to_disk``."""

import json
from pathlib import Path
from typing import Any

from lemma.types import InputError

_SPLITS = "dataset_dict.json"  # of a folder with one folder a split: {"splits": ["train", "test"]}
_STATE = "state.json"  # of a folder with one split: {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], …}


def is_saved(path: Path) -> bool:
    """Return whether a path is a folder of ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk``."""
    return (path / _SPLITS).is_file() or ((path / _STATE).is_file() and (path / "dataset_info.json").is_file())


def saved_files(folder: Path, split: str) -> list[Path]:
    """Return the Arrow files of a saved data set, in the order of its rows.

    Args:
        folder: A folder for which ``is_saved`` holds.
        split: Chooses where the folder holds several splits.

    Raises:
        InputError: If the split is not there, or a file that the data set's own list names is missing.
    """
    if (folder / _SPLITS).is_file():
        splits = _read(folder / _SPLITS, "splits")
        if split not in splits:
            raise InputError(f"{folder}: expected a split {split!r}, but the saved data set holds {', '.join(splits)}.")
        folder = folder / split
    files = [folder / file["filename"] for file in _read(folder / _STATE, "_data_files")]
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise InputError(f"{folder}: expected the Arrow files that {_STATE} names, but there is no {missing or 'one'}.")
    return files


def _read(path: Path, key: str) -> list[Any]:
    try:
        return json.loads(path.read_bytes())[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected a JSON object with the key {key}: {type(error).__name__}: {error}."
        ) from error
