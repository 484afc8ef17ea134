"""Corpora: native data formats → problems, and the mixture, split and overlap of them. No torch.

rows.py       a row with its provenance, and how a column is read
formats.py    bytes of a file → rows
reading.py    path or hub name → rows
adapter.py    what an adapter is; gsm8k.py, math.py, math500.py, mapped.py, text.py: one format each
arithmetic.py the generated corpus
registry.py   the table of formats, and `CorpusArgs`
loading.py    `CorpusArgs` → `Corpus`
mixture.py    several corpora → the order of an epoch
split.py      the identity of a problem's text: held-out share, overlaps
"""

from lemma.corpora.adapter import Adapter
from lemma.corpora.loading import Corpus, load_corpus, reading_report
from lemma.corpora.mixture import Mixture
from lemma.corpora.registry import ADAPTERS, CorpusArgs, corpus_args, given_args
from lemma.corpora.rows import BadRow, Row
from lemma.corpora.split import exact_overlaps, held_out, identity, problem_key

__all__ = [
    "ADAPTERS",
    "Adapter",
    "BadRow",
    "Corpus",
    "CorpusArgs",
    "Mixture",
    "Row",
    "corpus_args",
    "exact_overlaps",
    "given_args",
    "held_out",
    "identity",
    "load_corpus",
    "problem_key",
    "reading_report",
]
