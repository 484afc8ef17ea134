r"""The words and signs of expressions, in LaTeX and in plain notation."""

import re

MAX_LENGTH = 2000  # characters of an expression
_MAX_TOKENS = 250

TRIGONOMETRIC = {f + h for f in ("sin", "cos", "tan", "cot", "sec", "csc") for h in ("", "h")}
INVERSE = {f"{a}{f}": f"arc{f}" for f in TRIGONOMETRIC for a in ("arc", "ar", "a")}
FUNCTIONS = TRIGONOMETRIC | {"log", "ln", "lg", "exp", "gcd", "lcm", "min", "max", "det"} | set(INVERSE)
UNDEFINED = {"f", "g", "h"}  # f(x) is a value of f, but a(b+c) a product
_WORDS = sorted(FUNCTIONS | {"sqrt", "pi", "mod", "infty"}, key=len, reverse=True)
OPERATORS = {r"\cdot": "*", r"\times": "*", r"\ast": "*", r"\div": "/", "*": "*", "/": "/", ":": "/"}
CLOSING = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil", "|": "|"}
NAMES = {"ln": "log", "\\varepsilon": r"\epsilon", "\\varphi": r"\phi", "\\vartheta": r"\theta"}
FONT = re.compile(r"\\(?:math(?:rm|bf|it|sf|cal|bb)|text(?:rm|bf|it)?|operatorname|boldsymbol|vec|hat|bar)(?![a-zA-Z])")
_TOKEN = re.compile(
    r"\s*(?:(?P<num>[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,4}(?![0-9a-zA-Z]))?|\.[0-9]+)"
    rf"|(?P<word>(?:{'|'.join(_WORDS)}))(?![a-z])|(?P<letters>[a-zA-Z]+)"
    r"|(?P<op>\\[a-zA-Z]+|\\.|.))",
    re.DOTALL,
)


PLAIN = str.maketrans("", "", "{} \\")
NOT_SYMBOLS = {
    r"\cup", r"\cap", r"\in", r"\notin", r"\setminus", r"\le", r"\ge", r"\ne", r"\approx", r"\pm", r"\mp", r"\to",
    r"\text", r"\int", r"\lim", r"\begin", r"\end", r"\ldots", r"\dots", r"\cdots", r"\emptyset", r"\equiv", r"\sim",
    r"\langle", r"\rangle", r"\infin", r"\choose", r"\circ", r"\prime", r"\rightarrow", r"\Rightarrow", r"\iff",
    r"\land", r"\lor", r"\neg", r"\subset", r"\subseteq", r"\perp", r"\parallel", r"\angle", r"\triangle", r"\mod",
    r"\pmod", r"\bmod", r"\overline", r"\overrightarrow", r"\partial", r"\nabla", r"\mathbb", r"\forall", r"\exists",
}  # fmt: skip
NO_FACTOR = (
    {"+", "-", ")", "]", "}", r"\}", ",", ";", "=", "<", ">", "^", "_", "!", "'", "&", r"\rfloor", r"\rceil", "mod"}
    | NOT_SYMBOLS
    | {r"\choose"}
)


class NotAnExpressionError(ValueError):
    """The text is no single expression."""


def tokenize(text: str) -> list[str]:
    r"""Split into numbers, commands, letters and signs; words of four letters that name no function are refused.

    Raises:
        NotAnExpressionError: If there is such a word or more than 250 tokens.
    """
    text = text.replace(r"\left", "").replace(r"\right", "") if r"\left" in text else text
    tokens: list[str] = []
    for match in _TOKEN.finditer(text.strip()):
        if letters := match["letters"]:
            if len(letters) > 3:
                raise NotAnExpressionError
            tokens.extend(letters)
        elif (op := match["op"]) in (r"\lvert", r"\rvert", r"\vert", r"\mid"):
            tokens.append("|")
        elif op != r"\,":
            tokens.append(match["num"] or match["word"] or op)
        if len(tokens) > _MAX_TOKENS:
            raise NotAnExpressionError
    return tokens


class Cursor:
    """A place in a list of tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0

    def at_end(self) -> bool:
        """Return whether every token has been taken."""
        return self.position >= len(self.tokens)

    def peek(self) -> str | None:
        """Return the next token, None at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def next(self) -> str:
        """Take the next token.

        Raises:
            NotAnExpressionError: If there is none.
        """
        if self.position >= len(self.tokens):
            raise NotAnExpressionError
        self.position += 1
        return self.tokens[self.position - 1]

    def raw_group(self) -> str:
        """Return the text of a ``{…}`` that comes next, without interpreting it."""
        if self.next() != "{":
            raise NotAnExpressionError
        start, depth = self.position, 1
        while depth:
            depth += {"{": 1, "}": -1}.get(self.next(), 0)
        return "".join(self.tokens[start : self.position - 1])
