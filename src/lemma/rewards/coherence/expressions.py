r"""Decides which exact number a written expression is, and when it is none that can be said safely.

The grammar, tightest first: numbers, brackets and ``\frac{a}{b}``; ``%``; a unit of up to three words
(``5 red apples``, ``60 miles/hour``); ``^`` (right to left); signs; ``* / x`` and brackets that touch (``2(3+4)``);
``+ -``. It is read by descent over tokens into `fractions.Fraction`; nothing is ever evaluated as code. Numbers,
exponents, depth and tokens are bounded. What is beyond a bound or beyond the grammar (variables, roots, mixed numbers,
spelled operators such as "half of") is unreadable, neither true nor false.
"""

from collections.abc import Sequence
from fractions import Fraction

from lemma.rewards.coherence.exact import UnreadableError, Value, bounded, combined, divide, literal, power
from lemma.rewards.coherence.tokens import Token

MAX_TOKENS = 200
MAX_DEPTH = 24
MAX_UNIT = 3  # words

SPELLED = frozenset((
    *("times", "plus", "minus", "by", "over", "divided", "multiplied", "than", "squared", "cubed", "factorial", "mod"),
    *("half", "third", "thirds", "quarter", "quarters", "fourth", "fourths", "fifth", "fifths", "tenth", "tenths"),
    *("twice", "thrice", "double", "triple", "percent", "dozen", "hundred", "thousand", "million", "billion"),
))  # fmt: skip
"""Words that are part of a calculation: an expression beside one is not all there is."""
_GLUED_UNITS = frozenset((
    *("km", "cm", "mm", "kg", "mg", "ml", "lb", "lbs", "oz", "ft", "mi", "mph", "min", "mins", "hr", "hrs", "sec"),
))  # fmt: skip
"""Units that touch their number; ``2xy`` is no number of xy."""
_ARTICLES = frozenset("aA")


def read_expression(tokens: Sequence[Token]) -> tuple[Value, int]:
    """Return the value of the longest expression at the beginning, and how many tokens it takes.

    Args:
        tokens: Of a line, without an equals sign.

    Raises:
        UnreadableError: If there is none, or what follows may belong to it (a variable, another number).
    """
    reader = _Reader(tokens[:MAX_TOKENS])
    value = reader.sum()
    following, next_one = reader.peek(), reader.peek(1)
    if following is None or following.kind in ("word", "close", "end"):
        return value, reader.place
    if following.kind == "open" and not following.glued and next_one is not None and next_one.kind == "word":
        return value, reader.place  # a remark in brackets
    raise UnreadableError(f"{following.text} follows")


def singular(word: str) -> str:
    """Return a word without its plural ending, roughly: the same for both numbers of a regular noun."""
    word = word.lower()
    return word.removesuffix("s").removesuffix("e") if len(word) > 3 else word


def is_times(tokens: Sequence[Token], place: int) -> bool:
    """Return whether a token is the letter x between two factors (``3 x 4``)."""
    if tokens[place].text not in ("x", "X") or not 0 < place < len(tokens) - 1:
        return False
    return tokens[place - 1].kind in ("number", "close", "percent", "word") and tokens[place + 1].kind in (
        "number", "open", "frac",
    )  # fmt: skip


class _Reader:
    """Reads an expression from tokens, from the left."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.place = 0
        self.depth = 0

    def peek(self, ahead: int = 0) -> Token | None:
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else None

    def sum(self) -> Value:
        terms = [("+", self.product())]
        while (token := self.peek()) and token.kind == "operator" and token.text in "+-":
            self.place += 1
            terms.append((token.text, self.product()))
        if len(terms) == 1:
            return terms[0][1]
        total = sum((-term.number if sign == "-" else term.number for sign, term in terms), Fraction(0))
        return combined(total, terms, has_sum=True)

    def product(self) -> Value:
        factors = [("*", self.signed())]
        while operator := self._next_factor(divided=any(sign == "/" for sign, _ in factors)):
            factors.append((operator, self.signed()))
        if len(factors) == 1:
            return factors[0][1]
        number = Fraction(1)
        for sign, factor in factors:
            number = bounded(number * factor.number if sign == "*" else divide(number, factor.number))
        return combined(number, factors)

    def signed(self) -> Value:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError("nested too deep")
        token = self.peek()
        if token and token.kind == "operator" and token.text in "+-":
            self.place += 1
            value = self.signed()
            value = value if token.text == "+" else value._replace(number=-value.number, form=f"-{value.form}")
        else:
            value = self.power()
        self.depth -= 1
        return value

    def power(self) -> Value:
        base = self.operand()
        token = self.peek()
        if not token or token.kind != "operator" or token.text != "^":
            return base
        self.place += 1
        exponent = self.signed()
        return combined(power(base.number, exponent.number), [("", base), ("^", exponent)], ordered=True)

    def operand(self) -> Value:
        value = self.atom()
        while (token := self.peek()) and token.kind == "percent":
            self.place += 1
            number = value.number / 100
            form = str(number) if value.is_literal else f"{value.form}%"
            value = value._replace(
                number=number, form=form, decimals=value.decimals + 2, is_percentage=value.is_literal
            )
        unit = self.unit()
        return value._replace(units=value.units | {unit}) if unit else value

    def atom(self) -> Value:
        token = self.peek()
        if token is None:
            raise UnreadableError("an operand is missing")
        self.place += 1
        if token.kind == "number":
            return literal(token.text)
        if token.kind == "open":
            return self.bracketed()
        if token.kind == "frac":
            above, below = self.group(), self.group()
            return combined(divide(above.number, below.number), [("*", above), ("/", below)])
        raise UnreadableError(f"{token.text} is no operand")

    def bracketed(self) -> Value:
        value = self.sum()
        if (token := self.peek()) is None or token.kind != "close":
            raise UnreadableError("a bracket stays open")
        self.place += 1
        return value

    def group(self) -> Value:
        r"""Return a brace group, or one digit, as in ``\frac12``, which is two tokens only if blanks part them."""
        token = self.peek()
        if token is None or token.kind not in ("open", "number"):
            raise UnreadableError("a fraction lacks a part")
        return self.atom()

    def unit(self) -> str | None:
        """Return the last word of a unit, and go past it; None where the words are prose, or none stand here."""
        first = self.peek()
        if first is None or first.kind not in ("word", "operator") or is_times(self.tokens, self.place):
            return None
        if first.kind == "operator":  # ``5/apple``
            return self._denominator()
        following = self.peek(1)
        if first.text in _ARTICLES and not first.glued and following is not None and following.kind == "word":
            return None
        glued = first.glued and first.text.lower() not in _GLUED_UNITS
        if len(first.text) == 1 or glued or first.text.lower() in SPELLED | {"of"}:
            raise UnreadableError(f"{first.text} is no unit")
        length = 1
        while (token := self.peek(length)) and token.kind == "word" and not is_times(self.tokens, self.place + length):
            length += 1
            if length > MAX_UNIT:
                return None
        if token is not None and token.kind not in ("operator", "close", "word"):
            return None
        last = self.peek(length - 1)
        if len(last.text) == 1:
            raise UnreadableError(f"{last.text} is no unit")
        self.place += length
        self._skip_unit_exponent()
        self._denominator()
        return singular(last.text)

    def _skip_unit_exponent(self) -> None:
        """Go past the exponent of ``cm^2`` or ``cm^{2}``."""
        kinds = [token.kind for token in self.tokens[self.place : self.place + 4]]
        if kinds and self.tokens[self.place].text == "^":
            if kinds[1:2] == ["number"]:
                self.place += 2
            elif kinds[1:] == ["open", "number", "close"]:
                self.place += 4
            else:
                raise UnreadableError("a unit with an exponent")

    def _denominator(self) -> str | None:
        """Go past ``/hour``; return its word."""
        slash, word = self.peek(), self.peek(1)
        if slash is None or slash.text != "/" or word is None or word.kind != "word" or len(word.text) == 1:
            return None
        self.place += 2
        self._skip_unit_exponent()
        return singular(word.text)

    def _next_factor(self, *, divided: bool) -> str | None:
        """Return the operator before the next factor and go past it, None where none follows."""
        token = self.peek()
        if token is None:
            return None
        if (token.kind == "operator" and token.text in "*/") or is_times(self.tokens, self.place):
            self.place += 1
            return "/" if token.text == "/" else "*"
        inside = self.peek(1)
        if token.kind != "open" or (inside is not None and inside.kind == "word"):
            return None
        if divided or not token.glued:
            raise UnreadableError("a bracket follows that may or may not be a factor")
        return "*"
