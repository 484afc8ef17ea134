"""Decides how texts are shown in TensorBoard's text page: as a Markdown table in which no model text is markup."""

import html
from collections.abc import Iterable, Sequence


def text_table(columns: Sequence[str], rows: Iterable[Sequence[str | None]]) -> str:
    """Return a Markdown table with every cell escaped; None is an empty cell.

    Args:
        columns: C names.
        rows: C texts each.
    """
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(_cell(text) for text in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(text: str | None) -> str:
    return html.escape(text or "").replace("|", "&#124;").replace("\n", "<br>")
