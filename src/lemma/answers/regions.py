r"""Sets of real numbers: intervals, inequalities in one variable, and what unions and differences make of them.

A region is a sorted tuple of disjoint pieces, each from a *cut* to a cut. A cut ``(v, 0)`` lies just before the number
``v`` and ``(v, 1)`` just behind it, so ``[1, 2)`` is ``((1, 0), (2, 0))`` and the point 3 is ``((3, 0), (3, 1))``; open
and closed ends need no cases, and two regions are equal exactly if their tuples are.
"""

from fractions import Fraction
from typing import Protocol

from lemma.answers.structure import Answer

Cut = tuple[Fraction | float, int]
Region = tuple[tuple[Cut, Cut], ...]

_LOWEST: Cut = (float("-inf"), 0)
_HIGHEST: Cut = (float("inf"), 0)


class Solver(Protocol):
    """What regions need to know of expressions."""

    def real_value(self, form: str) -> Fraction | None:
        """Return the value of a constant expression; None if it is unknown or not real."""

    def solve(self, left: str, operator: str, right: str) -> tuple[str, Region] | None:
        """Return the variable and the region in which ``left operator right``; None if that is unknown."""


ALL: Region = ((_LOWEST, _HIGHEST),)
_INFINITIES = {r"\infty": "+", r"+\infty": "+", r"-\infty": "-"}
_ALL_NAMES = {r"\mathbb{R}", r"\R", r"\Reals", "R"}


def is_region(answer: Answer) -> bool:
    """Return whether an answer can only be a set of numbers, where ``(1, 2)`` could also be a pair."""
    if answer.kind == "relation":
        if answer.marks == ("in",):
            return is_region(answer.items[1])
        return bool(set(answer.marks) & {"<", ">", "<=", ">=", "!=", "notin"})
    if answer.kind in ("union", "intersection", "difference"):
        return True
    if answer.kind == "list":
        return bool(answer.items) and all(is_region(item) for item in answer.items)
    if answer.kind == "tuple" and len(answer.items) == 2:
        return answer.marks in (("(", "]"), ("[", ")")) or any(item.text in _INFINITIES for item in answer.items)
    return answer.text in _ALL_NAMES - {"R"}


def region(answer: Answer, solver: Solver) -> tuple[str | None, Region] | None:
    """Return the variable's name, if there is one, and the region; None if an end is not a known number.

    Args:
        answer: An interval, inequality, set of numbers, or a combination of them.
        solver: Knows the values of constants and the solutions of inequalities.
    """
    names: set[str] = set()
    found = _region(answer, solver, names)
    return None if found is None or len(names) > 1 else (names.pop() if names else None, found)


def _region(answer: Answer, solver: Solver, names: set[str]) -> Region | None:
    if answer.text in _ALL_NAMES:
        return ALL
    if answer.text == r"\emptyset":
        return ()
    if answer.kind in ("union", "intersection", "difference", "list"):
        parts = [_region(item, solver, names) for item in answer.items]
        if None in parts:
            return None
        if answer.kind == "list":
            if not all(item.kind == "relation" or is_region(item) for item in answer.items) or len(answer.marks) > 1:
                return None
            unequal = all(item.marks == ("!=",) for item in answer.items)
            is_union = "or" in answer.marks or (not answer.marks and not unequal and answer.items[0].kind != "relation")
            parts_join = "union" if is_union else "intersection"
        else:
            parts_join = answer.kind
        return _combined(parts_join, parts)
    if answer.kind == "relation":
        return _from_relation(answer, solver, names)
    if answer.kind == "set":
        return _points(answer.items, solver)
    if answer.kind == "tuple" and len(answer.items) == 2 and set(answer.marks) <= set("()[]"):
        low, high = (_end(item.text, solver) for item in answer.items)
        if low is None or high is None:
            return None
        low_cut = _LOWEST if low == _LOWEST[0] else (low, int(answer.marks[0] == "("))
        high_cut = _HIGHEST if high == _HIGHEST[0] else (high, int(answer.marks[1] == "]"))
        return cleaned([(low_cut, high_cut)])
    return None


def _from_relation(answer: Answer, solver: Solver, names: set[str]) -> Region | None:
    """Read ``a < x \\le b``, ``x \\ne 3``, ``x \\in [0, 1)``: relations of one variable with constants."""
    items, operators = list(answer.items), list(answer.marks)
    if operators in (["in"], ["="], ["notin"]) and _is_name(items[0].text):
        inside = _region(items[1], solver, names) if is_region(items[1]) or items[1].kind in ("set", "tuple") else None
        if inside is None and operators == ["="]:
            inside = _points(items[1].items if items[1].kind == "list" else (items[1],), solver)
        names.add(items[0].text)
        return _complement(inside) if inside is not None and operators == ["notin"] else inside
    parts: list[Region | None] = []
    for left, operator, right in zip(items, operators, items[1:], strict=False):
        if _is_name(left.text) and (value := _end(right.text, solver)) is not None:
            name, part = left.text, _half_line(operator, value)
        elif _is_name(right.text) and (value := _end(left.text, solver)) is not None:
            name, part = right.text, _half_line(operator.translate(_FLIP), value)
        else:
            name, part = solver.solve(left.text, operator, right.text) or ("", None)
        names.add(name)
        parts.append(part)
    return None if None in parts else _combined("intersection", parts)


_FLIP = str.maketrans("<>", "><")


def _half_line(operator: str, value: Fraction | float) -> Region | None:
    """Return the numbers ``x`` for which ``x operator value``."""
    before, behind = ((value, 0), (value, 1)) if isinstance(value, Fraction) else ((value, 0), (value, 0))
    pieces = {
        "<": [(_LOWEST, before)],
        "<=": [(_LOWEST, behind)],
        ">": [(behind, _HIGHEST)],
        ">=": [(before, _HIGHEST)],
        "=": [(before, behind)],
        "!=": [(_LOWEST, before), (behind, _HIGHEST)],
    }
    return cleaned(pieces[operator]) if operator in pieces else None


def _points(items: tuple[Answer, ...], solver: Solver) -> Region | None:
    values = [solver.real_value(item.text) if item.kind == "expression" else None for item in items]
    return None if None in values else cleaned([((value, 0), (value, 1)) for value in values])


def _end(text: str, solver: Solver) -> Fraction | float | None:
    sign = _INFINITIES.get(text)
    return solver.real_value(text) if sign is None else (_HIGHEST if sign == "+" else _LOWEST)[0]


def _is_name(text: str) -> bool:
    plain = text.lstrip("\\")
    return plain[:1].isalpha() and len(plain) < 20 and not set(plain) & set("+-*/^, ")


def _combined(how: str, parts: list[Region]) -> Region:
    first, *rest = parts
    for part in rest:
        if how == "union":
            first = cleaned([*first, *part])
        else:
            first = _intersection(first, _complement(part) if how == "difference" else part)
    return first


def _intersection(first: Region, second: Region) -> Region:
    return cleaned([(max(a, c), min(b, d)) for a, b in first for c, d in second])


def _complement(region: Region) -> Region:
    cuts = [_LOWEST, *(cut for piece in region for cut in piece), _HIGHEST]
    return cleaned(list(zip(cuts[::2], cuts[1::2], strict=True)))


def cleaned(pieces: list[tuple[Cut, Cut]]) -> Region:
    """Sort, drop what is empty and join what touches."""
    joined: list[tuple[Cut, Cut]] = []
    for low, high in sorted(pieces):
        if low >= high:
            continue
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return tuple(joined)
