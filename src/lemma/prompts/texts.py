"""Decides which prompt texts there are: the shipped ones, and those of a user's own YAML file over them."""

import functools
import importlib.resources
import re
from pathlib import Path
from typing import Any

import yaml

from lemma.prompts.formats import ANSWER_FORMATS
from lemma.types import InputError, Problem

SECTIONS = ("templates", "systems", "instructions", "shots")
PLACEHOLDERS = {"templates": ("problem", "instruction"), "systems": (), "instructions": ()}

# `{name}`, but not the argument of a LaTeX command: `\boxed{answer}`, `\frac{a}{b}`, `x_{max}`
_PLACEHOLDER = re.compile(r"(?<![\w\\}^])\{([A-Za-z_]+)\}")


def prompt_texts(file: str | None = None) -> dict[str, dict[str, Any]]:
    """Return every text by section and name.

    Args:
        file: A user's YAML file with some of the sections ``templates``, ``systems``, ``instructions`` (name: text) and
            ``shots`` (category: list of problem, solution and answer). A name or category of the file takes the place
            of the shipped one, a new one is added after them.

    Returns:
        ``templates``, ``systems`` (``none`` is None) and ``instructions``, each from name to text, and ``shots``, from
        category to its worked examples, a list of ``Problem``.

    Raises:
        InputError: If the file cannot be read, or a text of it is none; names file, section and key.
    """
    shipped = _shipped()
    own = {} if file is None else _read(Path(file).expanduser())
    return {section: shipped[section] | own.get(section, {}) for section in SECTIONS}


@functools.cache
def _shipped() -> dict[str, dict[str, Any]]:
    folder = importlib.resources.files("lemma.prompts")
    texts = yaml.safe_load(folder.joinpath("templates.yaml").read_text("utf-8"))
    shots = yaml.safe_load(folder.joinpath("shots.yaml").read_text("utf-8"))
    return {**texts, "shots": _examples(shots)}


def _examples(shots: dict[str, list[dict[str, str]]]) -> dict[str, list[Problem]]:
    return {
        category: [Problem(f"{category}/{number}", "shots", subject=category, **row) for number, row in enumerate(rows)]
        for category, rows in shots.items()
    }


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the checked sections of a user's file."""
    where = f"data.prompt.file: {path}"
    try:
        sections = yaml.safe_load(path.read_text("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: expected UTF-8, but byte {error.start} is {error.object[error.start]:#x}."
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"{where}: expected YAML, but {' '.join(str(error).split())}.") from error
    _expect(isinstance(sections, dict), where, f"a mapping of {', '.join(SECTIONS)}", sections)
    for section, entries in sections.items():
        _expect(section in SECTIONS, where, f"the sections {', '.join(SECTIONS)}", section)
        _expect(isinstance(entries, dict) and bool(entries), f"{where}: {section}", "a mapping", entries)
        for key, value in entries.items():
            _expect(isinstance(key, str), f"{where}: {section}", "names that are text (in quotes)", key)
            check = _check_shots if section == "shots" else _check_text
            check(value, section, key, f"{where}: {section}.{key}")
    return sections | {"shots": _examples(sections.get("shots", {}))}


def _check_text(text: Any, section: str, key: str, where: str) -> None:
    _expect(section != "instructions" or key in ANSWER_FORMATS, where, f"a format of {', '.join(ANSWER_FORMATS)}", key)
    _expect(section != "systems" or key != "none", where, "another name; none is no system prompt", key)
    _expect(isinstance(text, str) and bool(text.strip()), where, "a text", text)
    known = PLACEHOLDERS[section]
    if unknown := [name for name in _PLACEHOLDER.findall(text) if name not in known]:
        rule = f"of placeholders only {' and '.join(f'{{{name}}}' for name in known)}" if known else "no placeholder"
        raise InputError(f"{where}: expected {rule}, but got {{{unknown[0]}}}.")
    if section == "templates" and "{problem}" not in text:
        raise InputError(f"{where}: expected {{problem}} where the problem is to stand, but got {text!r}.")


def _check_shots(rows: Any, section: str, key: str, where: str) -> None:
    _expect(isinstance(rows, list) and bool(rows), where, "a list of worked examples", rows)
    for number, row in enumerate(rows):
        place, fields = f"{where}[{number}]", ("problem", "solution", "answer")
        _expect(isinstance(row, dict) and set(row) == set(fields), place, f"the keys {', '.join(fields)}", row)
        for name in fields:
            value = row[name]
            _expect(isinstance(value, str) and bool(value.strip()), f"{place}.{name}", "a text (in quotes)", value)


def _expect(holds: bool, where: str, rule: str, value: Any) -> None:
    if not holds:
        raise InputError(f"{where}: expected {rule}, but got {value!r}.")
