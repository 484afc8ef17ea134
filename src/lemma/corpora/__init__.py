"""Corpora: native data formats → problems, and the mixture, split and overlap of them. No torch.

rows.py       a row with its provenance, and how a column is read
formats.py    bytes of a file → rows
saved.py      folder of `datasets`' `save_to_disk` → files
reading.py    path or hub name → rows
marks.py      where a native solution marks its answer
adapter.py    what an adapter is; gsm8k.py, math.py, aime.py, …, mapped.py, text.py: one format each
preferences.py a row of a preference file → `Preference`
arithmetic.py the generated corpus
registry.py   the table of formats, and `CorpusArgs`
store.py      problems on disk, and the cache of what was read
loading.py    `CorpusArgs` → `Corpus`
mixture.py    several corpora → the order of an epoch
contamination.py, cleaning.py  what is left out because it is tested on or comes twice
split.py      the identity of a problem's text: folds, held-out share
"""

from lemma.corpora.adapter import Adapter
from lemma.corpora.cleaning import Cleaning, CleaningArgs, clean
from lemma.corpora.loading import Corpus, Selection, load_corpus, reading_report
from lemma.corpora.mixture import Mixture
from lemma.corpora.preferences import to_preference
from lemma.corpora.registry import ADAPTERS, CorpusArgs, corpus_args, given_args
from lemma.corpora.rows import BadRow, Row
from lemma.corpora.split import comparable, held_out, identity, in_fold, problem_key, row_key
from lemma.corpora.store import cached_folder, chunks, code_hash

__all__ = [
    "ADAPTERS",
    "Adapter",
    "BadRow",
    "Cleaning",
    "CleaningArgs",
    "Corpus",
    "CorpusArgs",
    "Mixture",
    "Row",
    "Selection",
    "cached_folder",
    "chunks",
    "clean",
    "code_hash",
    "comparable",
    "corpus_args",
    "given_args",
    "held_out",
    "identity",
    "in_fold",
    "load_corpus",
    "problem_key",
    "reading_report",
    "row_key",
    "to_preference",
]
