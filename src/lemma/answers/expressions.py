r"""What one expression says: a syntax tree, from LaTeX or plain notation alike.

A tree is a tuple whose first entry names the node:

==========================  ==============================================================================
``("num", q)``              a number, as an exact `Fraction`
``("sym", name)``           a variable or a constant: ``x_1``, ``\theta``, ``\pi``, ``e``, ``i``, ``\infty``
``("+", a, b)``             likewise ``*``, ``/`` and ``^``, of two trees; ``-a`` is ``-1 * a``
``("call", f, a, …)``       a function's value: ``sin``, ``log``, ``abs``, ``root`` (radicand, degree), ``!``, …
``("sum", f, k, a, b, t)``  a sum or product (``f``) of ``t`` for ``k`` from ``a`` to ``b``
==========================  ==============================================================================

A fraction bar binds as in a program, from left to right: ``1/3p`` is ``(1/3)p``. A function without brackets takes the
product behind it (``\sin 2x``), up to the next sign or function. What is no expression is refused, never guessed at.
"""

import re
from fractions import Fraction
from functools import lru_cache

from lemma.answers import tokens as signs
from lemma.answers.tokens import Cursor, NotAnExpressionError, tokenize

Tree = tuple

_MAX_DEPTH = 60  # nested groups
_MAX_NUMBER = 400  # digits


@lru_cache(maxsize=4096)
def parse(text: str) -> Tree | None:
    """Return the syntax tree of one expression, or None where the text is none.

    Args:
        text: A normal form (`lemma.answers.normalize`) of at most ``MAX_LENGTH`` characters. The time is linear in it.
    """
    if len(text) > signs.MAX_LENGTH:
        return None
    try:
        parser = _Parser(tokenize(text))
        tree = parser.sum()
        return tree if parser.at_end() else None
    except NotAnExpressionError:
        return None


def symbols(tree: Tree) -> set[str]:
    """Return the names of the variables and constants in a tree, but for a sum's own variable."""
    names, bound, open_trees = set(), set(), [tree]
    while open_trees:
        tree = open_trees.pop()
        if tree[0] == "sym":
            names.add(tree[1])
        elif tree[0] == "sum":
            bound.add(tree[2])
        open_trees.extend(part for part in tree[1:] if isinstance(part, tuple))
    return names - bound


class _Parser(Cursor):
    """Recursive descent over the tokens; every method consumes what it returns the tree of."""

    def __init__(self, tokens: list[str]) -> None:
        super().__init__(tokens)
        self._depth = 0
        self._bars = 0  # open |

    def sum(self) -> Tree:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NotAnExpressionError
        tree = self._product()
        while self.peek() in ("+", "-"):
            sign = self.next()
            term = self._product()
            tree = ("+", tree, term if sign == "+" else ("*", ("num", Fraction(-1)), term))
        self._depth -= 1
        return tree

    def _product(self) -> Tree:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.next() == "-"
        tree, mixed = self._power(), True
        whole = tree
        while True:
            token = self.peek()
            if token in signs.OPERATORS:
                operator = signs.OPERATORS[self.next()]
                factor, mixed = self._signed_power(), False
            elif self._starts_factor(token):
                if token[0].isdigit() and self.tokens[self.position - 1][0].isdigit():
                    raise NotAnExpressionError  # "40 2" is no product
                operator, factor = "*", self._power()
                if mixed and _is_whole(whole) and _is_fraction(factor):
                    operator = "+"  # 1\frac{1}{2}
            else:
                break
            mixed &= operator == "+"
            tree = (operator, tree, factor)
        return ("*", ("num", Fraction(-1)), tree) if negative else tree

    def _signed_power(self) -> Tree:
        if self.peek() in ("+", "-"):
            sign = self.next()
            tree = self._signed_power()
            return tree if sign == "+" else ("*", ("num", Fraction(-1)), tree)
        return self._power()

    def _power(self) -> Tree:
        tree = self._primary()
        while (token := self.peek()) in ("!", "%", r"\%", "^"):
            self.next()
            if token == "!":
                tree = ("call", "!", tree)
            elif token != "^":
                tree = ("/", tree, ("num", Fraction(100)))
            elif self.peek() == r"\circ" or self.tokens[self.position : self.position + 3] == ["{", r"\circ", "}"]:
                self.position += 1 if self.peek() == r"\circ" else 3
                tree = ("/", ("*", tree, ("sym", r"\pi")), ("num", Fraction(180)))
            else:
                tree = ("^", tree, self._exponent())
        return tree

    def _exponent(self) -> Tree:
        if self.peek() in ("+", "-"):
            sign = self.next()
            tree = self._exponent()
            return tree if sign == "+" else ("*", ("num", Fraction(-1)), tree)
        tree = self._primary()
        if self.peek() == "^":
            self.next()
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise NotAnExpressionError
            tree = ("^", tree, self._exponent())
            self._depth -= 1
        return tree

    def _primary(self) -> Tree:
        token = self.next()
        if token[0].isdigit() or (token[0] == "." and len(token) > 1):
            if len(token) > _MAX_NUMBER or self.peek() == "_":
                raise NotAnExpressionError
            return ("num", Fraction(token))
        if token in signs.CLOSING:
            return self._group(token)
        if token in (r"\frac", r"\dfrac", r"\tfrac"):
            return ("/", self._primary(), self._primary())
        if token in (r"\binom", r"\dbinom", r"\tbinom"):
            return ("call", "binom", self._primary(), self._primary())
        if token in (r"\sqrt", "sqrt"):
            degree: Tree = ("num", Fraction(2))
            if self.peek() == "[":
                degree = self._group(self.next())
            return ("call", "root", self._primary(), degree)
        if token in (r"\sum", r"\prod"):
            return self._series(token[1:])
        if token == r"\lim":
            return self._limit()
        name = token[1:] if token.startswith("\\") else token
        if signs.FONT.fullmatch(token):
            name = self.raw_group().strip("~ ")
            if name not in signs.FUNCTIONS and not name.isalpha():
                raise NotAnExpressionError
        if name in signs.FUNCTIONS:
            return self._call(signs.INVERSE.get(name, name))
        if name in ("pi", "infty"):
            return ("sym", f"\\{name}")
        if name in ("Gamma", "zeta") and self.peek() == "(":
            return ("call", name, self._group(self.next()))
        if len(token) > 1 and not (token.startswith("\\") and token[1:].isalpha()):
            raise NotAnExpressionError
        if not name.isalpha() or len(name) > 12 or not name.isascii() or token in signs.NOT_SYMBOLS:
            raise NotAnExpressionError
        return self._symbol(signs.NAMES.get(token, name if signs.FONT.fullmatch(token) else token))

    def _symbol(self, name: str) -> Tree:
        if self.peek() == "_":
            self.next()
            subscript = self.raw_group() if self.peek() == "{" else self.next()
            name += "_" + signs.FONT.sub("", subscript).translate(signs.PLAIN)
        while self.peek() in ("'", r"\prime"):
            self.next()
            name += "'"
        if name.rstrip("'") in signs.UNDEFINED and self.peek() == "(":
            return ("call", f"{name}()", *self._arguments(self.next()))
        return ("sym", name)

    def _group(self, opening: str) -> Tree:
        """Return what stands between an opening bracket, already read, and its closing one."""
        self._bars += opening == "|"
        bars, self._bars = self._bars, self._bars if opening == "|" else 0
        tree = self.sum()
        if opening == "{" and self.peek() == r"\choose":
            self.next()
            tree = ("call", "binom", tree, self.sum())
        if self.next() != signs.CLOSING[opening]:
            raise NotAnExpressionError
        self._bars = bars - (opening == "|")
        names = {"|": "abs", r"\lfloor": "floor", r"\lceil": "ceil"}
        return ("call", names[opening], tree) if opening in names else tree

    def _arguments(self, opening: str) -> list[Tree]:
        arguments = [self.sum()]
        while self.peek() in (",", ";"):
            self.next()
            arguments.append(self.sum())
        if self.next() != signs.CLOSING[opening]:
            raise NotAnExpressionError
        return arguments

    def _call(self, name: str) -> Tree:
        exponent = base = None
        while self.peek() in ("^", "_"):
            if self.next() == "^":
                exponent = self._exponent()
            else:
                base = self._primary()
        has_brackets = self.peek() in ("(", "[", "{", r"\{")
        arguments = self._arguments(self.next()) if has_brackets else [self._bare_argument()]
        if len(arguments) > 1 and name not in ("min", "max", "gcd", "lcm"):
            raise NotAnExpressionError
        if exponent == ("*", ("num", Fraction(-1)), ("num", Fraction(1))) and name in signs.TRIGONOMETRIC:
            name, exponent = f"arc{name}", None
        if name in ("log", "ln", "lg"):
            base = ("num", Fraction(10)) if name == "lg" else base
            tree = ("call", "log", *arguments)
            tree = tree if base is None else ("/", tree, ("call", "log", base))
        elif base is not None:
            raise NotAnExpressionError
        else:
            tree = ("^", ("sym", "e"), arguments[0]) if name == "exp" else ("call", name, *arguments)
        return tree if exponent is None else ("^", tree, exponent)

    def _bare_argument(self) -> Tree:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NotAnExpressionError
        is_function = self._is_function(self.peek())
        tree = self._power()
        while not is_function and self._starts_factor(token := self.peek()) and not self._is_function(token):
            if token in ("(", "["):
                break
            tree = ("*", tree, self._power())
        if not is_function and self.peek() == "/":  # \sin x/2 is left as ambiguous; \ln 3/\ln 2 is a quotient
            following = self.tokens[self.position + 1 : self.position + 2]
            if not following or not self._is_function(following[0]):
                raise NotAnExpressionError
        self._depth -= 1
        return tree

    def _series(self, name: str) -> Tree:
        low = high = None
        while self.peek() in ("_", "^"):
            if self.next() == "^":
                high = self._primary()
            else:
                if self.next() != "{":
                    raise NotAnExpressionError
                variable = self.next()
                if self.next() != "=":
                    raise NotAnExpressionError
                low = self.sum()
                if self.next() != "}":
                    raise NotAnExpressionError
        if low is None or high is None or not variable.isalpha():
            raise NotAnExpressionError
        return ("sum", name, variable, low, high, self._product())

    def _limit(self) -> Tree:
        """Return the limit of what does not depend on the variable; any other is left to a computer algebra system."""
        if self.next() != "_":
            raise NotAnExpressionError
        variable = re.match(r"([a-zA-Z])\\[a-zA-Z]*arrow|([a-zA-Z])\\to(?![a-zA-Z])", self.raw_group())
        tree = self._product()
        if not variable or (variable[1] or variable[2]) in symbols(tree):
            raise NotAnExpressionError
        return tree

    def _starts_factor(self, token: str | None) -> bool:
        if token is None or token in signs.NO_FACTOR:
            return False
        return token != "|" or not self._bars

    def _is_function(self, token: str | None) -> bool:
        return token is not None and token.lstrip("\\") in signs.FUNCTIONS


def _is_whole(tree: Tree) -> bool:
    return tree[0] == "num" and tree[1].denominator == 1


def _is_fraction(tree: Tree) -> bool:
    return tree[0] == "/" and all(_is_whole(part) for part in tree[1:])
