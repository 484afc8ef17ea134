r"""Answers in words: names, choices, phrases with a mathematical meaning, dates and times of day.

Words are compared without regard to case and never letter by letter, so an anagram is another word.
"""

import re

_WORD = re.compile(r"[a-zA-Z][a-zA-Z'.-]*(?: [a-zA-Z][a-zA-Z'.-]*)*[.!]?")
_LONG = re.compile(r"[a-zA-Z]{4}")
_THREE = re.compile(r"[A-Z]{3}|(?=[a-z]*[eiou])[a-z]{3}")  # a triangle, a word; but abc and xyz are products
_ARTICLE = re.compile(r"^(?:the|an?) (?=[a-z]{2})")
_CHOICE = re.compile(
    r"(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer) ?)?(?:\(([A-Za-z])\)|([A-Z])[.):](?= ?\S)|([A-Z]))(?P<rest> ?[^ ].*)?"
)
_SHORT = {*["yes", "no", "odd", "true", "not", "all", "one", "two", "six", "ten", "none", "dne", "sat", "sun", "mon"]}
_PHRASES = {
    r"\emptyset": "no solution|no solutions|no real solution|no real solutions|none|empty set|null set|empty",
    r"(-\infty, \infty)": r"all real numbers|all reals|all real x|every real number|any real number",
    r"\infty": "infinity|positive infinity",
    r"-\infty": "negative infinity",
    "undefined": "does not exist|dne|not defined|indeterminate",
}
_MEANING = {phrase: meaning for meaning, phrases in _PHRASES.items() for phrase in phrases.split("|")}
_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NUMBERS = {word: value for value, word in enumerate(_UNITS)}
_NUMBERS |= {ten: 20 + 10 * index for index, ten in enumerate(_TENS)}
_NUMBERS |= {f"{ten}{dash}{_UNITS[u]}": _NUMBERS[ten] + u for ten in _TENS for u in range(1, 10) for dash in "- "}

_TIME = re.compile(
    r"(?:([0-9]{1,2})(?::([0-9]{2}))?(?::([0-9]{2}))? ?([ap])\.?m\.?|([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?)", re.I
)
_NAMED_TIMES = {"noon": (12, 0, 0), "midnight": (0, 0, 0)}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})[a-z]*\.?"
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?"
_DATES = [
    re.compile(rf"{_WEEKDAY}{_MONTH} ?(?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)?(?:,? ?(?P<year>[0-9]{{4}}))?"),
    re.compile(
        rf"{_WEEKDAY}(?:the )?(?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)? ?(?:of )?{_MONTH}(?:,? ?(?P<year>[0-9]{{4}}))?"
    ),
]
_ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")


def phrase(form: str, marked: bool) -> str | None:
    r"""Return the canonical spelling of an answer in words, None if it is mathematics.

    Args:
        form: A normal form.
        marked: Whether it was written as text (``\text{odd}``), so that three letters are a word and no product.
    """
    text = form.replace(r"\text{", " ").replace("}", "").strip() if "\\text{" in form else form
    if not _WORD.fullmatch(text) or len(text) > 200:
        return None
    marked = marked or bool(_THREE.fullmatch(text))
    text = text.casefold().rstrip(".!")
    if text in _SHORT or _LONG.search(text) or (marked and len(text) > 1) or text in _NUMBERS or text in _MEANING:
        text = _ARTICLE.sub("", text)
        return _MEANING.get(text, text)
    return None


def number_of(word: str) -> str:
    """Return the digits of a number in words (``twenty-one``), the word itself if it is none."""
    return str(_NUMBERS[word]) if word in _NUMBERS else word


def choice(form: str) -> str | None:
    r"""Return the letter of a multiple-choice answer: ``A``, ``(A)``, ``A) 12``, ``option A``; None for any other."""
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1", form).strip() if "\\text{" in form else form
    match = _CHOICE.fullmatch(text)
    if match is None:
        return None
    rest = (match["rest"] or "").strip()
    if rest and (match[3] or re.match(r"(?:or|and)\b|[,;]|\([A-Za-z]\)|[-+*/^=_'(]", rest)):
        return None
    return (match[1] or match[2] or match[3]).upper()


def moment(form: str) -> tuple | None:
    """Return a time of day as (hour, minute, second) or a date as (year or None, month, day); None for any other."""
    text = form.replace(r"\text{", " ").replace("}", "").strip() if "\\text{" in form else form
    text = re.sub(r" +", " ", text.casefold())
    if text in _NAMED_TIMES:
        return _NAMED_TIMES[text]
    if not text[:1].isalnum() or len(text) > 40 or not text.isascii():
        return None
    if match := _TIME.fullmatch(text):
        first = 1 if match[4] else 5
        hour, minute, second = (int(part or 0) for part in match.group(first, first + 1, first + 2))
        if match[4]:
            if not 1 <= hour <= 12:
                return None
            hour = hour % 12 + (12 if match[4] == "p" else 0)
        return (hour, minute, second) if hour < 24 and minute < 60 and second < 60 else None
    if match := _ISO_DATE.fullmatch(text):
        return (int(match[1]), int(match[2]), int(match[3]))
    for pattern in _DATES:
        if match := pattern.fullmatch(text):
            month = _MONTHS.index(match["month"]) + 1
            return (int(match["year"]) if match["year"] else None, month, int(match["day"]))
    return None
