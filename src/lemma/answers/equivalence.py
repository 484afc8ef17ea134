r"""Whether a prediction equals the gold answer: part by part, by the conventions of `lemma.answers.conventions`.

1. Both sides are brought to normal form and read (`structure`); equal forms are equal answers.
2. Words, choice letters, dates, times and sets of numbers are compared as what they are; lists, tuples, sets, matrices
   and relations part by part.
3. Single expressions are compared exactly (`closed_form`). `exact_verdict` stops here, having used no library, and says
   None where it cannot tell.
4. `symbolic_verdict` goes on: numerically to 100 digits, then by Math-Verify. That may take arbitrarily long and
   belongs into a process that can be killed (`lemma.answers.grader`).
"""

import re

from lemma.answers import words
from lemma.answers.comparison import Comparison
from lemma.answers.conventions import DEFAULT, Conventions
from lemma.answers.normalize import MAX_LENGTH, normalize
from lemma.answers.numbers import as_rational
from lemma.answers.structure import balanced, read
from lemma.types import Verdict

MAX_PREDICTION_LENGTH = MAX_LENGTH  # characters; a longer prediction is no answer
_MARKED = re.compile(r"\s*\$?\s*\\(?:text\w*|mbox|mathrm)\s*\{")
_SOMETHING = re.compile(r"[^\W_]|\\[a-zA-Z{]|[√∞∅]")


def exact_verdict(gold: str, prediction: str, conventions: Conventions = DEFAULT) -> Verdict | None:
    """Return the verdict where it needs no algebra system, None where it does.

    Args:
        gold: The right answer, not empty.
        prediction: The extracted answer.
        conventions: How strictly to compare.

    Returns:
        CORRECT or WRONG if that is certain; UNPARSEABLE if the prediction is empty or longer than
        ``MAX_PREDICTION_LENGTH``; else None.
    """
    return _verdict(gold, prediction, Comparison(conventions, symbolic=False))


def symbolic_verdict(gold: str, prediction: str, conventions: Conventions = DEFAULT) -> Verdict:
    """Return the verdict on two answers that `exact_verdict` left undecided.

    It has no time limit: call it in a process that can be killed.

    Args:
        gold: The right answer, not empty.
        prediction: The extracted answer.
        conventions: How strictly to compare.

    Returns:
        CORRECT, WRONG, or UNPARSEABLE if the prediction is no mathematics that anything here reads.
    """
    return _verdict(gold, prediction, Comparison(conventions, symbolic=True)) or Verdict.WRONG


def unreadable(gold: str) -> str | None:
    """Return why no reading can be made of a gold answer, None if nothing speaks against it. Takes microseconds.

    Args:
        gold: A gold answer of a corpus.
    """
    if not gold.strip():
        return "it is empty"
    if len(gold) > MAX_LENGTH:
        return f"it is longer than {MAX_LENGTH} characters"
    form = normalize(gold)
    if not _SOMETHING.search(form):
        return "it holds neither a letter nor a digit"
    if not balanced(form):
        return "a bracket in it does not close"
    return None


def _verdict(gold: str, prediction: str, comparison: Comparison) -> Verdict | None:
    if len(prediction) > MAX_PREDICTION_LENGTH or len(gold) > MAX_LENGTH:
        return Verdict.UNPARSEABLE
    gold_form, form = normalize(gold), normalize(prediction)
    if not form:
        return Verdict.UNPARSEABLE
    if gold_form == form:
        return Verdict.CORRECT
    if (gold_value := as_rational(gold_form)) is not None and (value := as_rational(form)) is not None:
        return Verdict.CORRECT if gold_value == value else Verdict.WRONG
    verdict = _in_words(gold, prediction, gold_form, form)
    return verdict or comparison.compare(read(_spelled(gold_form)), read(_spelled(form)))


def _in_words(gold: str, prediction: str, gold_form: str, form: str) -> Verdict | None:
    """Compare choices, dates, times and words; None where one side is mathematics."""
    gold_letter, letter = words.choice(gold_form), words.choice(form)
    if gold_letter and letter and 1 in (len(gold_form), len(form)):
        return _of(gold_letter == letter)
    gold_moment, moment = words.moment(gold_form), words.moment(form)
    if gold_moment is not None and moment is not None:
        if len(gold_moment) == len(moment) == 3 and None in (gold_moment[0], moment[0]):
            return _of(gold_moment[1:] == moment[1:])
        return _of(gold_moment == moment)
    marked = bool(_MARKED.match(gold) or _MARKED.match(prediction))
    gold_phrase, phrase = words.phrase(gold_form, marked), words.phrase(form, marked)
    if gold_phrase is not None and phrase is not None:
        return _of(words.number_of(gold_phrase) == words.number_of(phrase))
    return None


def _spelled(form: str) -> str:
    """Return mathematics for words that mean some: ``no solution``, ``all real numbers``, ``twelve``."""
    phrase = words.phrase(form, marked=False)
    return form if phrase is None else words.number_of(phrase)


def _of(equal: bool) -> Verdict:
    return Verdict.CORRECT if equal else Verdict.WRONG
