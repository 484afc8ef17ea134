"""``python -m lemma`` is ``lemma``."""

from lemma.cli import main

main()
