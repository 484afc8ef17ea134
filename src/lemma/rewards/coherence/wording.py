"""Decides how a problem can be worded otherwise while its answer stays: other people and things, another order."""

import random
import re
from collections.abc import Sequence

_GIRLS = (
    "Ada", "Alice", "Amanda", "Amy", "Anna", "Bella", "Beth", "Betty", "Carla", "Carol", "Cindy", "Clara", "Diana",
    "Emily", "Emma", "Erica", "Eva", "Gina", "Hannah", "Helen", "Iris", "Jane", "Janet", "Jasmine", "Jennifer", "Jenny",
    "Jessica", "Jill", "Julia", "Julie", "Karen", "Kate", "Katie", "Kelly", "Laura", "Lena", "Linda", "Lisa", "Lucy",
    "Maria", "Marissa", "Mary", "Megan", "Melissa", "Mia", "Mila", "Monica", "Nancy", "Natalia", "Nina", "Nora", "Olga",
    "Olivia", "Rachel", "Rebecca", "Rosa", "Samantha", "Sandra", "Sara", "Sarah", "Sophia", "Stella", "Susan", "Tanya",
    "Tina", "Vera", "Wendy", "Zoe",
)  # fmt: skip
_BOYS = (
    "Aaron", "Adam", "Alan", "Albert", "Andrew", "Ben", "Billy", "Bob", "Brad", "Brian", "Bruce", "Carl", "Carlos",
    "Charles", "Chris", "Dan", "Daniel", "Dave", "David", "Dennis", "Doug", "Eddie", "Eric", "Ethan", "Felix", "Fred",
    "Gary", "George", "Greg", "Harry", "Henry", "Hugo", "Ian", "Ivan", "Jack", "Jacob", "Jake", "James", "Jason",
    "Jeff", "Jerry", "Jim", "Joe", "John", "Jonas", "Jose", "Josh", "Justin", "Kevin", "Kyle", "Larry", "Leo", "Luke",
    "Matt", "Michael", "Mike", "Nick", "Noah", "Oliver", "Oscar", "Paul", "Peter", "Randy", "Richard", "Robert", "Ron",
    "Ryan", "Sam", "Scott", "Simon", "Steve", "Ted", "Thomas", "Tim", "Toby", "Tom", "Tommy", "Tony", "Travis", "Tyler",
    "Victor", "Walter", "Wayne",
)  # fmt: skip
_THINGS = (
    ("apple", "pear", "peach", "plum", "lemon", "mango", "banana"),
    ("marble", "bead", "sticker", "seashell", "pebble", "stamp"),
    ("pencil", "crayon", "marker", "eraser"),
    ("cookie", "muffin", "cupcake", "donut"),
    ("tulip", "orchid", "daffodil", "sunflower"),
    ("carrot", "cucumber", "pumpkin", "turnip"),
    ("shirt", "jacket", "sweater", "hat"),
    ("book", "notebook", "magazine", "album"),
)
_POINTING = frozenset((
    *("he", "she", "it", "they", "him", "her", "his", "hers", "its", "their", "them", "this", "that", "these"),
    *("those", "then", "also", "too", "another", "other", "others", "more", "less", "fewer", "rest", "left"),
    *("same", "half", "twice", "such", "both", "each", "now", "later", "after", "before", "next", "first", "second"),
    *("last", "finally", "however", "but", "so", "again", "former", "latter", "times", "as", "than", "there", "one"),
    *("afterwards", "meanwhile", "still", "instead", "together", "total", "all", "would", "if", "when"),
    *("once", "who", "which", "theirs", "remaining"),
))  # fmt: skip
"""Words that may point to another sentence, or make one depend on what was said before."""
_POINTING_BACK = _POINTING & frozenset(("he", "she", "it", "him", "her", "his", "hers", "its", "this", "that", "then"))
_SENTENCE_END = re.compile(r"(?<=[a-z0-9)][.!?])\s+(?=[A-Z])")
_WORD = re.compile(r"[A-Za-z]+")


def rename(text: str, draw: random.Random) -> tuple[str, dict[str, str]] | None:
    """Return a text with other people and things, and old → new; None where it names none that are known.

    A name becomes one of the same gender, a thing one of the same sort, neither of them in the text before; articles
    are adapted.

    Args:
        text: Of a problem.
        draw: Decides which.
    """
    words = set(_WORD.findall(text))
    lowered = {word.lower() for word in words}
    changes: dict[str, str] = {}
    for names in (_GIRLS, _BOYS):
        unused = [name for name in names if name not in words]
        for name in sorted(words.intersection(names)):
            changes[name] = unused.pop(draw.randrange(len(unused)))
    for things in _THINGS:
        unused = [thing for thing in things if not {thing, f"{thing}s"} & lowered]
        for thing in things:
            if {thing, f"{thing}s"} & lowered and unused:
                changes[thing] = unused.pop(draw.randrange(len(unused)))
    if not changes:
        return None
    pattern = re.compile(rf"\b(?:(an?)(\s+))?({'|'.join(changes)})(s?)\b", re.IGNORECASE)
    return pattern.sub(lambda match: _renamed(match, changes), text), changes


def reorder(text: str, draw: random.Random) -> tuple[str, str] | None:
    """Return a text with two neighbouring facts exchanged, and what changed; None where no two are independent.

    Both hold a number. Neither may hold a word that points to another sentence (`he`, `more`, `then`, `half`, …), take
    a part "of the" whole, or name with "the" what the other one introduces, and nothing that follows may point back to
    one thing or person.

    Args:
        text: Of a problem; its last sentence is the question.
        draw: Decides which two.
    """
    sentences = _SENTENCE_END.split(text.strip())
    places = [place for place in range(len(sentences) - 2) if _independent(sentences, place)]
    if not places:
        return None
    place = draw.choice(places)
    sentences[place], sentences[place + 1] = sentences[place + 1], sentences[place]
    return " ".join(sentences), f"facts {place + 1} and {place + 2} exchanged"


def _renamed(match: re.Match[str], changes: dict[str, str]) -> str:
    article, blank, word, plural = match[1], match[2], match[3], match[4]
    new = changes.get(word) or changes.get(word.lower())
    if new is None or (word[0].islower() and new[0].isupper()):
        return match[0]
    if word[0].isupper():
        new = new[0].upper() + new[1:]
    if not article:
        return new + plural
    adapted = article[0] + ("n" if new[0].lower() in "aeiou" else "")
    return f"{adapted}{blank}{new}{plural}"


def _independent(sentences: Sequence[str], place: int) -> bool:
    one, other = sentences[place : place + 2]
    for each in (one, other):
        if "?" in each or "of the" in each or not re.search("[0-9]", each) or _words(each) & _POINTING:
            return False
    if any(_words(each) & _POINTING_BACK for each in sentences[place + 2 :]):
        return False
    return not (_definite(one) & _words(other) or _definite(other) & _words(one))


def _words(sentence: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(sentence)}


def _definite(sentence: str) -> set[str]:
    """Return the words that follow "the"."""
    return {word.lower() for phrase in re.findall(r"\b[Tt]he ((?:[a-z]+ ?){1,2})", sentence) for word in phrase.split()}
