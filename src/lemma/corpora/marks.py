r"""Decides where a native solution marks its gold answer: ``#### 42``, ``A: 42``, ``The answer is: 42``, a last box.

Each rule is strict: a mark counts only at the end of the solution, so that a heading or a passing remark is no answer.
"""

import re

from lemma.answers import last_boxed

HASHES = "####"

_ANNOTATION = re.compile(r"<<[^<>\n]*>>")
_THOUSANDS = re.compile(r"[-+]?\$?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_SENTENCE = re.compile(r"(?P<before>.*)(?:^|(?<=\s))[Tt]he (?:final |correct )?answer is:?\s+(?P<answer>\S.*)")
_CONNECTIVE = re.compile(r"(?:^|(?<=\s))(?:Therefore|Thus|So|Hence),?$")
_SENTENCE_ENDS = (".", "!", "?", "$", "]", ")", ":")


def split_hashes(worked: str) -> tuple[str, str | None]:
    """Return (solution, answer) of a worked solution that ends in ``#### answer``.

    The solution loses its calculator annotations (``<<48/2=24>>``), the answer its thousands commas (``1,600`` →
    ``1600``). Where no ``####`` begins the last line of text (it may be a heading further up), the whole text is the
    solution and the answer None.
    """
    before, marker, after = worked.rpartition(HASHES)
    answer = after.strip()
    if not marker or "\n" in answer:
        return worked, None
    return _ANNOTATION.sub("", before).strip(), without_thousands(answer)


def split_sentence(worked: str) -> tuple[str, str | None]:
    r"""Return (solution, answer) of a worked solution that ends in ``The answer is 42``, with or without a colon.

    The solution loses that sentence where it stands as one (``and so the answer is 42`` stays), the answer its full
    stop, its dollar signs and its thousands commas. Where the last line has no such sentence, more text follows it, or
    it holds a ``\boxed{}``, which speaks for itself, the whole text is the solution and the answer None.
    """
    earlier, newline, last = worked.rstrip().rpartition("\n")
    found = _SENTENCE.fullmatch(last)
    if found is None:
        return worked, None
    answer = bare(found["answer"])
    if not answer or re.search(r"[.!?]\s", answer) or last_boxed(answer) is not None:
        return worked, None
    before = _CONNECTIVE.sub("", found["before"].rstrip()).rstrip()
    if before and not before.endswith(_SENTENCE_ENDS):
        return worked, answer
    return f"{earlier}{newline}{before}".strip(), answer


def split_a_line(worked: str) -> tuple[str, str | None]:
    """Return (solution, answer) of a worked solution whose last line is ``A: 26``, cleaned as by ``split_hashes``.

    Where the last line is another, the whole text is the solution and the answer None.
    """
    before, _, last = f"\n{worked.rstrip()}".rpartition("\n")
    answer = last.removeprefix("A:").strip()
    if not last.startswith("A:") or not answer:
        return worked, None
    return _ANNOTATION.sub("", before).strip(), without_thousands(answer)


def marked_answer(worked: str) -> tuple[str, str | None]:
    """Return (solution, answer) by the first mark that is there: last sentence, ``####``, last box.

    A box stays in the solution; where a last sentence follows ``#### answer``, both go.
    """
    solution, answer = split_sentence(worked)
    shorter, hashed = split_hashes(solution)
    if answer is None and hashed is None:
        return worked, last_boxed(worked)
    return shorter, hashed if answer is None else answer


def bare(answer: str) -> str:
    """Return an answer without its final full stop, the dollar signs around it and its thousands commas."""
    answer = answer.strip()
    answer = answer[:-1].rstrip() if answer.endswith(".") else answer
    found = re.fullmatch(r"\$([^$]+)\$", answer)
    return without_thousands(found[1].strip() if found else answer)


def without_thousands(answer: str) -> str:
    """Return a number without its thousands commas, and any other answer as it is."""
    return answer.replace(",", "") if _THOUSANDS.fullmatch(answer) else answer
