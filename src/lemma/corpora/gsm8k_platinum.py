"""GSM8K-Platinum's own format: GSM8K's ``{question, answer}`` with ``cleaning_status``, one of ``STATUSES``.

The subject of a problem is its status, so that ``where: {subject: [consensus]}`` chooses. Source: arXiv:2502.03461.
"""

import dataclasses

from lemma.corpora import gsm8k
from lemma.corpora.adapter import Adapter
from lemma.corpora.rows import Row, shown, text
from lemma.types import InputError, Problem

STATUSES = ("consensus", "verified", "revised")
"""All models agreed; a person confirmed the label; a person corrected it. A ``rejected`` problem is ambiguous."""


def to_problem(row: Row, source: str) -> Problem:
    """Return a row as a problem.

    Raises:
        InputError: If GSM8K's adapter refuses the row, or its status is none of ``STATUSES``, such as ``rejected``.
    """
    status = text(row, "cleaning_status")
    if status not in STATUSES:
        raise InputError(f"`cleaning_status`: expected one of {', '.join(STATUSES)}, but got {shown(status)}.")
    return dataclasses.replace(gsm8k.to_problem(row, source), subject=status)


ADAPTER = Adapter(to_problem, hub="madrylab/gsm8k-platinum", subsets=("main",))
