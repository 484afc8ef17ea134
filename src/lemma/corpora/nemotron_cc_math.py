"""Nemotron-CC-Math-v1's own format: ``{text, …}``, plain web text with LaTeX, read as ``text.py`` reads any plain text.

The hub keeps it in parts by quality; ``4plus`` is read where no subset is given. Source: arXiv:2508.15096.
"""

from lemma.corpora import text
from lemma.corpora.adapter import Adapter

ADAPTER = Adapter(text.to_problem, hub="nvidia/Nemotron-CC-Math-v1", subsets=("4plus",))
