r"""Whether two readings of answers are the same answer: part by part, until single expressions are left."""

import re

from lemma.answers.conventions import Conventions
from lemma.answers.expressions import parse, symbols
from lemma.answers.leaves import Leaves
from lemma.answers.numbers import as_rational
from lemma.answers.regions import is_region, region
from lemma.answers.structure import Answer, read
from lemma.types import Verdict

_MAX_MATCHED = 40  # items of a list that are compared each with each
_LETTERS = r"(?:[a-zA-Z]|[A-Z]{2,4}|[a-zA-Z ]{3,}|m?\\[a-zA-Z]+ ?(?:\\[a-zA-Z]+|[a-zA-Z]{0,3}))"
_INDEX = r"(?:_(?:\w|\{[\w\\ ]+\}))?"
_NAME = re.compile(
    rf"{_LETTERS}{_INDEX}'*(?:\([\w, \\]*\))?"
    r"|\([a-zA-Z](?:, [a-zA-Z])*\)"
    r"|\\(?:overline|overrightarrow|vec|hat|bar|mathbf)\{[a-zA-Z]{1,3}\}"
    r"|\\frac\{[A-Z]{1,3}\}\{[A-Z]{1,3}\}"
    r"|[A-Z]+(?:_\{?\w+\}?)? ?[:/] ?[A-Z]+(?:_\{?\w+\}?)?"
)
_COORDINATES = frozenset("xyz")


class Comparison:
    """The comparison of two readings; its methods say None where they cannot tell.

    Args:
        conventions: How strictly to compare.
        symbolic: Whether to ask what may take long.
    """

    def __init__(self, conventions: Conventions, symbolic: bool) -> None:
        self._conventions = conventions
        self._symbolic = symbolic
        self._leaves = Leaves(conventions, symbolic)

    def compare(self, gold: Answer, prediction: Answer) -> Verdict | None:
        """Return whether two readings are the same answer."""
        if gold.text == prediction.text:
            return Verdict.CORRECT
        gold, prediction = _without_approximation(gold), _without_approximation(prediction)
        if not (is_region(gold) or is_region(prediction)):
            return self._by_parts(gold, prediction)
        if (verdict := self._regions(gold, prediction)) is not None:
            return verdict
        verdict = self._by_parts(gold, prediction)
        return verdict if self._symbolic or verdict == Verdict.CORRECT else None

    def _by_parts(self, gold: Answer, prediction: Answer) -> Verdict | None:
        if gold.kind == "relation" or prediction.kind == "relation":
            return self._relations(gold, prediction)
        if gold.kind == prediction.kind == "expression":
            return self._leaves.compare(gold.text, prediction.text)
        return self._collections(gold, prediction)

    def _regions(self, gold: Answer, prediction: Answer) -> Verdict | None:
        regions = [region(answer, self._leaves) for answer in (gold, prediction)]
        if None in regions:
            return None
        (gold_name, gold_region), (name, found) = regions
        return _of(gold_region == found and (gold_name == name or None in (gold_name, name)))

    def _relations(self, gold: Answer, prediction: Answer) -> Verdict | None:
        """Compare where one side or both are equations or inequalities."""
        gold_name, gold_rest = _split_name(gold)
        name, rest = _split_name(prediction)
        if gold_name is not None and name is not None:
            if _same_name(gold_name, name):
                return self.compare(gold_rest, rest)
            if parse(gold_rest.text) is None or parse(rest.text) is None or _is_value(gold_rest) or _is_value(rest):
                return Verdict.WRONG
        elif gold_name is not None and prediction.kind != "relation":
            return self.compare(gold_rest, prediction)
        elif name is not None and gold.kind != "relation":
            return self.compare(gold, rest)
        if gold.kind == prediction.kind == "relation":
            if _is_computation(gold) and _is_computation(prediction):
                return _all([self.compare(part, other) for part in gold.items for other in prediction.items])
            if len(gold.items) == len(prediction.items) == 2:
                verdict = self._leaves.compare_relations(gold, prediction)
                return verdict if verdict == Verdict.CORRECT else self._regions(gold, prediction) or verdict
            return self._aligned(gold, prediction) if gold.marks == prediction.marks else Verdict.WRONG
        chain, value = (prediction, gold) if prediction.kind == "relation" else (gold, prediction)
        if set(chain.marks) != {"="} or value.kind == "list":
            return self._leaves.compare(gold.text, prediction.text) if "=" not in chain.marks else Verdict.WRONG
        if chain is prediction:
            return _all([self.compare(gold, part) for part in chain.items])
        return _all([self.compare(part, prediction) for part in chain.items])

    def _collections(self, gold: Answer, prediction: Answer) -> Verdict | None:
        if {gold.kind, prediction.kind} == {"set", "tuple"}:
            gold, prediction = (x._replace(kind="list") if x.marks == ("{", "}") else x for x in (gold, prediction))
        kinds = {gold.kind, prediction.kind}
        if kinds in ({"set", "matrix"}, {"set", "tuple"}) and len(
            {len(x.items) for x in (gold, prediction) if x.kind == "set"} & {1}
        ):
            return self.compare(*(x.items[0] if x.kind == "set" else x for x in (gold, prediction)))
        if kinds <= {"list", "set", "expression"}:
            if kinds == {"expression", "list"}:
                return self._list_and_expression(gold, prediction)
            if {"and", "or"} <= {*gold.marks, *prediction.marks} and all(x.kind == "relation" for x in gold.items):
                return Verdict.WRONG
            ordered = self._conventions.ordered_lists and kinds == {"list"}
            return self._aligned(gold, prediction) if ordered else self._matched(gold, prediction)
        if kinds == {"tuple"}:
            if len(gold.items) == 2 and _ends(gold) != _ends(prediction):
                return Verdict.WRONG
            return self._aligned(gold, prediction)
        if kinds == {"list", "tuple"}:
            single = gold if gold.kind == "list" else prediction
            return Verdict.WRONG if {"pm", "or"} & {*single.marks} else self._aligned(gold, prediction)
        if kinds == {"matrix"}:
            same_shape = gold.marks[0] == prediction.marks[0] and _is_determinant(gold) == _is_determinant(prediction)
            return self._aligned(gold, prediction) if same_shape else Verdict.WRONG
        if kinds == {"matrix", "tuple"}:
            return self._vector(gold, prediction)
        if "expression" in kinds or kinds & {"union", "intersection", "difference"}:
            return self._leaves.fall_back(gold.text, prediction.text)
        return Verdict.WRONG

    def _list_and_expression(self, gold: Answer, prediction: Answer) -> Verdict | None:
        r"""Compare a list with what is none; ``\pm 0`` is one number."""
        several, single = (gold, prediction) if gold.kind == "list" else (prediction, gold)
        if "pm" in several.marks:
            return _all([self.compare(item, single) for item in several.items])
        return Verdict.WRONG

    def _vector(self, gold: Answer, prediction: Answer) -> Verdict | None:
        """Compare a tuple with a column or row; a tuple of tuples with a matrix."""
        matrix, tuple_ = (gold, prediction) if gold.kind == "matrix" else (prediction, gold)
        num_rows = int(matrix.marks[0])
        items = tuple_.items
        if len(items) == num_rows and all(item.kind == "tuple" for item in items):
            items = tuple(cell for item in items for cell in item.items)
        elif num_rows not in (1, len(matrix.items)):
            return Verdict.WRONG
        flat = tuple_._replace(items=items)
        return self._aligned(gold, flat) if matrix is gold else self._aligned(flat, prediction)

    def _aligned(self, gold: Answer, prediction: Answer) -> Verdict | None:
        """Compare item by item in the given order."""
        if len(gold.items) != len(prediction.items):
            return Verdict.WRONG
        return _all([self.compare(a, b) for a, b in zip(gold.items, prediction.items, strict=True)])

    def _matched(self, gold: Answer, prediction: Answer) -> Verdict | None:
        """Compare as collections without order; in sets, but not in lists, repetitions do not count."""
        golds, predictions = (self._distinct(answer) for answer in (gold, prediction))
        if len(golds) != len(predictions):
            return Verdict.WRONG
        shared = [item.text for item in golds]
        rest = []
        for item in predictions:  # what is spelled alike is paired first
            shared.remove(item.text) if item.text in shared else rest.append(item)
        golds = [item for item in golds if item.text in shared and not shared.remove(item.text)]
        if len(rest) > _MAX_MATCHED:
            return None
        undecided = False
        for gold_item in golds:
            verdicts = [self.compare(gold_item, item) for item in rest]
            if Verdict.CORRECT in verdicts:
                rest.pop(verdicts.index(Verdict.CORRECT))
            elif None in verdicts:
                undecided = True
            else:
                return Verdict.WRONG
        return None if undecided else Verdict.CORRECT

    def _distinct(self, answer: Answer) -> list[Answer]:
        items = list(answer.items) if answer.kind in ("list", "set") else [answer]
        if answer.kind != "set" or len(items) > _MAX_MATCHED:
            return items
        kept: list[Answer] = []
        for item in items:
            if all(self.compare(other, item) != Verdict.CORRECT for other in kept):
                kept.append(item)
        return kept


def _without_approximation(answer: Answer) -> Answer:
    r"""Drop ``\approx 0.58`` behind an exact value; ``x \approx 0.58`` is the value of ``x``."""
    if answer.kind != "relation" or "~" not in answer.marks:
        return answer
    first = answer.marks.index("~")
    if first == 0 and _NAME.fullmatch(answer.items[0].text):
        return read(answer.text.replace(r"\approx", "=", 1).replace(r"\simeq", "=", 1))
    if first == 0:
        return answer.items[0] if answer.items[0].text else answer.items[1]
    text = re.split(r"\\(?:approx|simeq)(?![a-zA-Z])", answer.text)[0]
    return read(text.strip())


def _split_name(answer: Answer) -> tuple[str | None, Answer]:
    r"""Split ``x = 5`` or ``x \in A`` into the name and the rest, which may be a chain (``1 + 1 = 2``)."""
    if answer.kind == "relation" and answer.marks[0] in ("=", "in") and _NAME.fullmatch(answer.items[0].text):
        if len(answer.items) == 2:
            if _COORDINATES.issuperset((answer.items[0].text, answer.items[1].text)):
                return None, answer  # y = x is a line
            return answer.items[0].text, answer.items[1]
        offset = answer.text.index("=") + 1 if answer.marks[0] == "=" else answer.text.index(r"\in") + 3
        return answer.items[0].text, read(answer.text[offset:].strip())
    if answer.kind == "list" and answer.items and answer.items[0].kind == "relation":  # "x = 1, 2"
        name, first = _split_name(answer.items[0])
        if name is not None and not any(item.kind == "relation" for item in answer.items[1:]):
            return name, answer._replace(items=(first, *answer.items[1:]), text=answer.text.partition("=")[2].strip())
    return None, answer


def _is_computation(answer: Answer) -> bool:
    """Return whether a relation is a chain of constants: ``2 + 2 = 4``."""
    trees = [parse(item.text) for item in answer.items]
    return set(answer.marks) == {"="} and not any(tree is None or symbols(tree) - {r"\pi", "e", "i"} for tree in trees)


def _same_name(first: str, second: str) -> bool:
    return re.sub(r"[\s{}]|\\mathrm", "", first) == re.sub(r"[\s{}]|\\mathrm", "", second)


def _is_value(answer: Answer) -> bool:
    return answer.kind != "expression" or as_rational(answer.text) is not None


def _ends(answer: Answer) -> tuple[str, ...]:
    return ("(", ")") if answer.marks[0] == r"\langle" else answer.marks


def _is_determinant(answer: Answer) -> bool:
    return answer.marks[1] in ("v", "V")


def _all(verdicts: list[Verdict | None]) -> Verdict | None:
    """Return CORRECT if all are, WRONG if any is certainly not, else None."""
    if any(verdict in (Verdict.WRONG, Verdict.UNPARSEABLE) for verdict in verdicts):
        return Verdict.UNPARSEABLE if set(verdicts) == {Verdict.UNPARSEABLE} else Verdict.WRONG
    return None if None in verdicts else Verdict.CORRECT


def _of(equal: bool) -> Verdict:
    return Verdict.CORRECT if equal else Verdict.WRONG
