r"""What an answer consists of: a list, tuple, set, interval, matrix, relation, or a single expression.

The reading is made from the outside in and only of what stands at the top level, in the order of how loosely it binds:
``;`` and ``or``, commas, relations, set operations, brackets. Nothing is computed.
"""

import re
from functools import lru_cache
from typing import NamedTuple

MAX_ITEMS = 200  # of one list
_MAX_DEPTH = 60  # of brackets
_MAX_SIGNS = 4  # independent plus-minus signs

_TOKEN = re.compile(r"\\(?:begin|end)\{[a-zA-Z]*\*?\}|\\[a-zA-Z]+|\\.|[^\\]", re.DOTALL)
_OPENING = {"(", "[", "{", r"\{", r"\langle", r"\lfloor", r"\lceil", r"\lbrace", r"\lbrack"}
_CLOSING = {")", "]", "}", r"\}", r"\rangle", r"\rfloor", r"\rceil", r"\rbrace", r"\rbrack"}
_RELATIONS = {
    "=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\in": "in", r"\approx": "~",
    r"\equiv": "==", r"\sim": "==", r"\simeq": "~", r"\notin": "notin", r"\implies": "=>", r"\Rightarrow": "=>",
    r"\iff": "=>", r"\Leftrightarrow": "=>", r"\rightarrow": "->", r"\to": "->", r"\colon": ":",
}  # fmt: skip
_SET_OPERATIONS = {r"\cup": "union", r"\cap": "intersection", r"\setminus": "difference", r"\backslash": "difference"}
_MATRIX = re.compile(
    r"\\begin\{([pbBvV]?)(?:small)?(?:matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{[a-zA-Z]*\}", re.DOTALL
)
_SET_BUILDER = re.compile(r"[a-zA-Z](?:\\in ?(?:\\mathbb\{R\}|\\R))? ?(?:\||:|\\mid|\\colon) ?(.+)", re.DOTALL)
_TRANSPOSED = re.compile(r"(\(.*\))\^\{?(?:T|\\top|\\intercal)\}?", re.DOTALL)
_LEADING_PLUS = re.compile(r"(^|[({])\+")
_REVERSED = re.compile(
    r"(?:(?<![0-9a-zA-Z)}\]])|(?<=\\cup)|(?<=\\cap)|(?<=\\in)|(?<=\\setminus))"
    r"([\[\]])(\s*[^\s\[\](),;][^\[\](),;]*[,;]\s*[^\s\[\](),;][^\[\](),;]*)([\[\]])"
)


class Answer(NamedTuple):
    r"""A reading of an answer.

    Attributes:
        kind: ``expression``, ``list``, ``tuple``, ``set``, ``matrix``, ``relation``, or a set operation: ``union``,
            ``intersection``, ``difference``.
        text: The normal form that was read; of an expression, what to compare.
        items: The parts, of a matrix row by row; none of an expression.
        marks: Of a tuple its two brackets, of a relation its operators, of a list ``and`` or ``or`` if it has them or
            ``pm`` where one sign stands for two, of a set its braces if they are plain ones, of a matrix its number of
            rows and the letter of its environment.
    """

    kind: str
    text: str
    items: tuple["Answer", ...] = ()
    marks: tuple[str, ...] = ()


@lru_cache(maxsize=8192)
def read(form: str) -> Answer:
    """Return the reading of a normal form; what has unbalanced brackets is read as one expression."""
    if "[" in form and _REVERSED.search(form):
        form = _REVERSED.sub(_usual_brackets, form)
    return _read(form.strip(), 0)


def balanced(form: str) -> bool:
    """Return whether every bracket closes; the two ends of an interval need not match (``[0,1)``, ``]0,1[``)."""
    return _tops(_REVERSED.sub(_usual_brackets, form)) is not None


def _read(form: str, depth: int) -> Answer:
    tops = _tops(form) if depth < _MAX_DEPTH else None
    if tops is None:
        return Answer("expression", form)
    for separators in ({";"}, {"or", "and", ","}):
        parts, found = _split(form, tops, separators)
        if len(parts) > 1:
            items = tuple(_read(part, depth + 1) for part in parts)
            junctions = {each for each in found if each in ("and", "or")}
            return Answer("list", form, _grouped(items), tuple(sorted(junctions)))
    parts, found = _split(form, tops, _RELATIONS.keys())
    if len(parts) > 1:
        operators = tuple(_RELATIONS[each] for each in found)
        return Answer("relation", form, tuple(_read(part, depth + 1) for part in parts), operators)
    for separators in ({r"\cup"}, {r"\cap"}, {r"\setminus", r"\backslash"}):
        parts, found = _split(form, tops, separators)
        if len(parts) > 1 and all(parts):
            return Answer(_SET_OPERATIONS[found[0]], form, tuple(_read(part, depth + 1) for part in parts))
    answer = _bracketed(form, tops, depth)
    signed = answer.kind == "expression" and (r"\pm" in form or r"\mp" in form)
    return _both_signs(answer.text, depth) if signed else answer


def _bracketed(form: str, tops: list[tuple[int, str]], depth: int) -> Answer:
    if form.startswith(r"\begin") and (match := _MATRIX.fullmatch(form)) and len(tops) == 1:
        rows = [row.split("&") for row in re.split(r"\\\\(?:\[[^\]]*\])?", match[2]) if row.strip()]
        if rows and all(len(row) == len(rows[0]) for row in rows):
            cells = tuple(_read(cell.strip(), depth + 1) for row in rows for cell in row)
            return Answer("matrix", form, cells, (str(len(rows)), match[1]))
    if len(tops) == 3 and (transposed := _TRANSPOSED.fullmatch(form)) and "," in form:
        return _read(transposed[1], depth + 1)
    if form == r"\emptyset":
        return Answer("set", form)
    if len(tops) != 1 or len(form) < 2:
        return Answer("expression", form)
    start = next((mark for mark in (r"\{", r"\langle", r"\lbrace", "(", "[", "{") if form.startswith(mark)), None)
    end = next((mark for mark in (r"\}", r"\rangle", r"\rbrace", ")", "]", "}") if form.endswith(mark)), None)
    if start is None or end is None:
        return Answer("expression", form)
    content = form[len(start) : len(form) - len(end)].strip()
    inner = _read(content, depth + 1)
    if start in (r"\{", r"\lbrace") and end in (r"\}", r"\rbrace"):
        if condition := _SET_BUILDER.fullmatch(content):
            return _read(condition[1], depth + 1)
        if "|" in content or r"\mid" in content or ":" in content:
            return Answer("expression", form)
        return Answer("set", form, inner.items if inner.kind == "list" else (inner,) if content else ())
    if start == "{" and end == "}" and r"\choose" not in content:  # in LaTeX these braces are invisible
        return inner if inner.kind != "list" else Answer("set", form, inner.items, ("{", "}"))
    if inner.kind == "list":
        return Answer("tuple", form, inner.items, (start, end))
    matrix = inner.kind == "matrix" and start in "[(" and not inner.marks[1]
    if matrix or (start, end) == ("(", ")"):
        return inner
    if (start, end) == ("[", "]"):
        return Answer("tuple", form, (inner,), (start, end)) if inner.kind == "tuple" else inner
    return Answer("expression", form)


def _both_signs(form: str, depth: int) -> Answer:
    r"""Read ``a \pm b`` as the list of ``a + b`` and ``a - b``; without ``\mp`` two such signs are independent."""
    if r"\mp" in form:
        variants = [form.replace(r"\pm", sign).replace(r"\mp", other) for sign, other in ("+-", "-+")]
    else:
        pieces = re.split(r"\\pm(?![a-zA-Z])", form)
        if not 2 <= len(pieces) <= _MAX_SIGNS + 1:
            return Answer("expression", form)
        variants = [""]
        for index, piece in enumerate(pieces):
            variants = [f"{start}{sign}{piece}" for start in variants for sign in ("+-" if index else [""])]
    items = tuple(_read(_LEADING_PLUS.sub(r"\1", each).strip(), depth + 1) for each in variants)
    return Answer("list", form, items, ("pm",))


def _grouped(items: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """Group assignments by solution: in ``p=5, q=2, p=7, q=2`` a name that returns begins the next one."""
    flat = tuple(part for item in items for part in (item.items if item.kind == "list" else (item,)))
    if any(part.kind != "relation" or part.marks != ("=",) for part in flat) or len(flat) < 3:
        return items
    groups: list[list[Answer]] = [[]]
    for part in flat:
        if part.items[0].text in {each.items[0].text for each in groups[-1]}:
            groups.append([])
        groups[-1].append(part)
    if len(groups) == 1 or len({len(group) for group in groups}) > 1 or len(groups[0]) == 1:
        return flat
    return tuple(Answer("list", ", ".join(part.text for part in group), tuple(group)) for group in groups)


def _usual_brackets(match: re.Match) -> str:
    left, inside, right = match.groups()
    if (left, right) == ("[", "]"):
        return match[0]
    return ("(" if left == "]" else "[") + inside + (")" if right == "[" else "]")


def _tops(form: str) -> list[tuple[int, str]] | None:
    """Return the offsets and tokens at the top level, a group as its opening; None if unbalanced or too deep."""
    tops, depth = [], 0
    for match in _TOKEN.finditer(form):
        token = match[0]
        closing = token in _CLOSING or token.startswith(r"\end{")
        if closing:
            depth -= 1
            if depth < 0:
                return None
        elif depth == 0 and token != " ":
            tops.append((match.start(), token))
        if token in _OPENING or token.startswith(r"\begin{"):
            depth += 1
            if depth > _MAX_DEPTH:
                return None
    return tops if depth == 0 else None


def _split(form: str, tops: list[tuple[int, str]], separators: set[str]) -> tuple[list[str], list[str]]:
    """Split at separators of the top level; ``and`` and ``or`` count as words only."""
    parts, found, start = [], [], 0
    words = separators & {"and", "or"}
    for offset, token in tops:
        if words and token in "ao":
            token = next((w for w in words if form.startswith(w, offset) and _is_word(form, offset, len(w))), token)
        if token in separators and offset >= start:
            parts.append(form[start:offset].strip())
            found.append(token)
            start = offset + len(token)
    parts.append(form[start:].strip())
    if words:  # "1, 2, and 3"
        parts = [part for part in parts if part]
    return (parts, found) if len(parts) <= MAX_ITEMS else ([form], [])


def _is_word(form: str, offset: int, length: int) -> bool:
    before, after = form[offset - 1 : offset], form[offset + length : offset + length + 1]
    return not (before.isalpha() or before == "\\" or after.isalpha())
