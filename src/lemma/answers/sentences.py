r"""Where a sentence of a solution ends, and what value it states.

A sentence is announced text (``18 dollars per day, since …``) or a conclusion (``the total is 3 + 4 = 7 apples``). What
leaves a choice among several values states none: choosing would be guessing.
"""

import itertools
import re

from lemma.answers.mentions import MATH, bare_formula, is_part, mentions

MAX_LENGTH = 1000  # characters of a sentence that are looked at; bounds the time
_MAX_WORDS = 6  # of an answer in words

_ATOM = (
    rf"{MATH}|\\begin\{{[^{{}}]*\}}[^$]*?\\end\{{[^{{}}]*\}}"
    r"|\\(?:text(?:bf|it|rm)?|mbox|mathrm|mathbf)\s*\{[^{}]*\}"
)
_END = re.compile(
    rf"(?P<atom>{_ATOM}|\b(?:[ap]\.\s?m\.|e\.g\.|i\.e\.|approx\.|sq\.|cu\.|Mrs?\.|Dr\.|St\.|No\.)(?!\s*\Z|\s+[A-Z]))"
    r"|[.!?。]+(?=[*_\"'”’)\]`]*(?:\s|\Z))|(?<![:,\s])\s*\n(?!\s*(?:\\\[|\$\$))",  # noqa: RUF001
)
_CLAUSE = re.compile(
    rf"(?P<atom>{_ATOM})|[,;]?\s+(?:\(\s*)?(?:because|since|as|which|so|where|when|whereas|but|therefore|thus|hence|given|"
    r"assuming|based|according|rather|instead|not|if|i\.e\.)\b|\s(?:[–—]|--)\s|\s\((?![^()]*[0-9]|[a-zA-Z]\))",  # noqa: RUF001
    re.IGNORECASE,
)
_CORRECTION = re.compile(r"\A.*[,;–—-]\s*(?:no|wait|sorry|actually|oops|i\s+mean|make\s+that)\b[\s,.:!]*", re.I | re.S)  # noqa: RUF001
_STRONG = re.compile(r"(?<![\w)*])\*\*(?=[^\s*])([^*]+)(?<=[^\s*])\*\*(?![\w(*])")
_COPULA = re.compile(rf"(?P<atom>{MATH})|=|\b(?:is|are|was|were|equals?|be)\b", re.IGNORECASE)
_JOINERS = re.compile(r"\s*(?:,|;|\band\b|\bor\b|,\s*and\b|,\s*or\b)\s*")
_WORD = re.compile(rf"(?P<atom>{_ATOM}|\\[a-zA-Z]+)|(?<![a-zA-Z])[a-zA-Z][a-zA-Z'’-]+")  # noqa: RUF001
_FUNCTIONS = frozenset(
    [
        "and",
        "or",
        "sqrt",
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "log",
        "ln",
        "exp",
        "pi",
        "arcsin",
        "arccos",
        "arctan",
        "min",
        "max",
        "mod",
    ]
)
_SHORT_WORDS = frozenset(
    [
        "am",
        "an",
        "as",
        "at",
        "be",
        "by",
        "do",
        "go",
        "he",
        "if",
        "in",
        "is",
        "it",
        "me",
        "my",
        "no",
        "of",
        "on",
        "pm",
        "so",
        "to",
        "up",
        "us",
        "we",
    ]
)
_UNIT = (
    r"(?:(?:sq(?:uare|\.)?|cubic|cu\.?)\s+)?(?:mm|cm|km|m|ft|kg|g|mg|ml|l|s|h|lbs?|oz|mph|percent(?:age)?|pct|"
    r"inch(?:es)?|in|feet|foot|yards?|miles?|(?:milli|centi|kilo)?met(?:er|re)s?|(?:milli|kilo)?grams?|pounds?|ounces?|"
    r"(?:milli)?lit(?:er|re)s?|gallons?|quarts?|pints?|dollars?|cents?|euros?|rupees?|yuan|pesos?|bucks|seconds?|"
    r"minutes?|mins?|hours?|hrs?|days?|weeks?|months?|years?|degrees?|radians?|[ap]\.?\s?m\.?|noon|midnight|"
    r"dozens?|hundred|thousand|million|billion|trillion)(?:\^(?:\{[23]\}|[23]))?(?![a-zA-Z&])"
)
_UNITS = re.compile(rf"\s*(?:{_UNIT}\s*){{1,3}}(?:(?:per|/)\s*{_UNIT})?", re.IGNORECASE)
_NO_ANSWER = re.compile(
    r"(?:that|obtained|found|given|calculated|computed|determined|derived|to|by|in|as|the\s+same|below|above|correct|"
    r"wrong|incorrect|right|unknown|unclear|let|we|first|step|see|here|this|what|how|i|you|it|expressed|written)\b",
    re.IGNORECASE,
)
_MORE = re.compile(  # of the value: what follows is no mere noun
    r".*[0-9$]|(?:is|are|was|were|has|have|less|more|fewer|than|times|plus|minus|of|over|divided|squared|cubed|factorial|"
    r"halves|half|thirds?|quarters?|fourths?|fifths?|to|and|or|not|if)\b",
    re.IGNORECASE | re.DOTALL,
)
_DATE = re.compile(
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s+[0-9]|[0-9]+(?:st|nd|rd|th)\b", re.I
)
_CHOICE = re.compile(
    r"(?:(?:option|choice|letter)\s+)?(?:\(([A-Ja-j])\)|([A-J])(?:[).:](?=\s|$)|$))\s*(?:[^\s].*)?", re.S
)


def sentence_at(text: str, start: int) -> tuple[str, int, str]:
    """Return the sentence that begins at ``start``, where it ends, and its closing punctuation.

    A period inside a formula, a number or an abbreviation ends nothing; the end of a line does, unless a colon, a comma
    or a displayed formula carries the sentence on. What is longer than `MAX_LENGTH` is cut.
    """
    window = text[start : start + MAX_LENGTH]
    for match in _END.finditer(window):
        if match["atom"] is None:
            mark = match[0].strip()
            # The period of "3 p.m." belongs to it.
            keep = 1 if mark == "." and re.search(r"\b[ap]\.\s?m$", window[: match.start()]) else 0
            return window[: match.start() + keep], start + match.end(), mark
    return window, start + len(window), ""


def plain(text: str) -> str:
    """Return the text without Markdown emphasis and quotation marks around it, and without closing punctuation."""
    text = text.strip()
    if len(text) > MAX_LENGTH:
        return text
    text = _STRONG.sub(r"\1", text)
    while True:
        shorter = re.sub(r"\\[\"]", "", text).strip('*`"“”').rstrip("_,;:!。 ").strip()
        if not re.search(r"\b[ap]\.\s?m\.$", shorter):
            shorter = shorter.rstrip(".")
        if shorter == text:
            return text
        text = shorter


def unwrap(text: str) -> str:
    r"""Return a `plain` text without the delimiters of its formulas: ``\(10\) meters`` is ``10 meters``."""
    return re.sub(MATH, lambda math: bare_formula(math[0]), plain(text)).strip()


def announced_value(sentence: str) -> tuple[str, bool] | None:
    """Return the answer that a sentence, announced as the answer, is or begins with.

    Args:
        sentence: What follows "the answer is", up to the end of the sentence.

    Returns:
        The answer, and whether nothing but the answer stands in the sentence; None if it is neither a value nor a few
        words that can be an answer.
    """
    if len(sentence) > MAX_LENGTH:
        return None
    main = _main_clause(_CORRECTION.sub("", plain(sentence)))
    if not main:
        return None
    if choice := _CHOICE.fullmatch(main):
        return (f"({choice[1]})" if choice[1] else choice[2]), True
    value, tail = _split_value(main)
    if not value or _DATE.match(main):
        words = main.split()
        is_text = len(words) <= _MAX_WORDS and (not re.search("[0-9$]", main) or _DATE.match(main))
        return (main, False) if is_text and not _NO_ANSWER.match(main) else None
    if _MORE.match(tail):
        return (main, False) if len(tail.split()) <= _MAX_WORDS else None
    answer, unit = _with_unit(value, tail)
    return unwrap(answer), unit == tail


def without_noun(answer: str) -> str:
    """Return ``18`` for ``18 eggs``, and any other answer, one with a unit among them, as it is."""
    value, tail = _split_value(answer) if len(answer) <= MAX_LENGTH else (answer, "")
    if not re.match("[-$]?[0-9]", value) or not re.fullmatch("[a-zA-Z '-]+", tail) or _MORE.match(tail):
        return answer
    return _with_unit(value, tail)[0]


def concluded_value(sentence: str) -> str | None:
    """Return the one value that a sentence states: its only one, or the only one after its last ``=`` or "is".

    Several values with nothing but commas, "and" or "or" between them are one, a list.
    """
    found = mentions(sentence)
    if not found or any(is_part(sentence, mention) for mention in found):
        return None
    copulas = [verb for verb in _COPULA.finditer(sentence) if verb["atom"] is None]
    verbs = [verb.end() for verb in copulas]
    if copulas and copulas[-1][0] != "=":
        clauses = [verb.end() for verb in copulas[:-1] if verb[0] != "="]  # "Ben is 5 years older than Ann, who is 7"
        if clauses and any(clauses[0] <= m.start() < verbs[-1] and re.search("[0-9]", m[0]) for m in found):
            return None
    stated = [mention for mention in found if verbs and mention.start() >= verbs[-1]]
    for earlier in reversed(verbs[:-1]):
        if stated:
            break
        stated = [mention for mention in found if mention.start() >= earlier]
    stated = stated or found
    first, last = stated[0], stated[-1]
    if not all(_JOINERS.fullmatch(sentence, a.end(), b.start()) for a, b in itertools.pairwise(stated)):
        return None
    unit = _UNITS.match(sentence, last.end())
    return unwrap(sentence[first.start() : unit.end() if unit else last.end()]) or None


def _main_clause(sentence: str) -> str:
    """Return the sentence up to its first explanation or restriction (", because …", ", not 41", "(see above)")."""
    for match in _CLAUSE.finditer(sentence):
        if match["atom"] is None and match.start() > 0:
            return plain(sentence[: match.start()])
    return sentence


def _with_unit(value: str, tail: str) -> tuple[str, str]:
    """Return the value with the unit that the tail begins with, and that unit."""
    unit = _UNITS.match(tail)
    return (f"{value} {unit[0].strip()}", unit[0]) if unit else (value, "")


def _split_value(sentence: str) -> tuple[str, str]:
    """Return the beginning of the sentence that is free of words, formulas apart, and the rest."""
    for match in _WORD.finditer(sentence):
        word = match[0].lower()
        symbol = word in _FUNCTIONS or (len(word) == 2 and word not in _SHORT_WORDS)
        if match["atom"] is None and not symbol:
            value = sentence[: match.start()]
            if re.fullmatch(r"\s*[aAI]\s*", value):
                return "", sentence
            if re.search(r"\b(?:and|or)\s+an?\s*$", value):
                return sentence, ""  # "18 and a half"
            if per := re.search(r"(?<=[0-9])\s+an?\s*$", value):
                return value[: per.start()].strip(), ""  # "5 a day"
            value = re.sub(r"(?:\s*,)?\s*(?:\b(?:and|or))?\s*$", "", value)
            return value.strip(), sentence[match.start() :]
    return sentence, ""
