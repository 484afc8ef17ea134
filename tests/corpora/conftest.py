"""Where corpus tests find real data, and how they write small files of their own."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(os.environ.get("LEMMA_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of real data sets, or skip where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"real data is absent: {DATA}")
    return DATA


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """Return a function of (file name, rows) that writes JSON Lines; a row given as bytes is written as it is."""

    def write(name: str, *rows: dict | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    return write
