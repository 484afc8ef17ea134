"""Corpora: native data formats → problems or preference pairs, and the mixture, split and overlap of them. No torch.

rows.py       a row with its provenance, and how a column is read
formats.py    bytes of a file → rows
saved.py      folder of `datasets`' `save_to_disk` → files
reading.py    path or hub name → rows
marks.py      where a native solution marks its answer
adapter.py    what an adapter is; gsm8k.py, math.py, aime.py, …, mapped.py, text.py: one format each
pairing.py    graded completions of one problem → pairs; graded.py, gsm8k_solutions.py, preferences.py: formats of pairs
arithmetic.py the generated corpus
registry.py   the table of formats, and `CorpusArgs`
store.py      problems and pairs on disk, and the cache of what was read
corpus.py     what a loaded corpus is; loading.py: `CorpusArgs` → `Corpus`
mixture.py    several corpora → the order of an epoch
contamination.py, cleaning.py  what is left out because it is tested on or comes twice
split.py      the identity of a problem's text: folds, held-out share
"""

from lemma.corpora.adapter import Adapter
from lemma.corpora.cleaning import Cleaning, CleaningArgs, clean
from lemma.corpora.corpus import Corpus, Selection, reading_report
from lemma.corpora.loading import load_corpus
from lemma.corpora.mixture import Mixture
from lemma.corpora.pairing import comparable_completion
from lemma.corpora.preferences import to_preference
from lemma.corpora.registry import ADAPTERS, CorpusArgs, corpus_args, given_args
from lemma.corpora.rows import BadRow, Row
from lemma.corpora.split import comparable, held_out, identity, in_fold, problem_key, row_key
from lemma.corpora.store import cached_folder, cached_path, chunks, code_hash

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
    "cached_path",
    "chunks",
    "clean",
    "code_hash",
    "comparable",
    "comparable_completion",
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
