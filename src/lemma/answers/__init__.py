"""Where the answer is in a text, its normal form, and whether it is right."""

from lemma.answers.boxes import last_boxed, strip_boxes
from lemma.answers.conventions import Conventions
from lemma.answers.equivalence import exact_verdict, symbolic_verdict
from lemma.answers.extract import Extraction, extract_answer
from lemma.answers.grader import GRADER_VERSION, Graded, Grader
from lemma.answers.normalize import as_rational, normalize

__all__ = [
    "GRADER_VERSION",
    "Conventions",
    "Extraction",
    "Graded",
    "Grader",
    "as_rational",
    "exact_verdict",
    "extract_answer",
    "last_boxed",
    "normalize",
    "strip_boxes",
    "symbolic_verdict",
]
